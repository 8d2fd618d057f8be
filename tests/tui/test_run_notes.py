"""What a person says of a run: the file, and whatever else may lie there."""

import os
import subprocess
import sys

import fake_run
import msgspec
import pytest

from aozora_tui import run_notes, runs, trash
from aozora_tui.follow import LineTail
from aozora_tui.log_text import LogText
from aozora_tui.remote import links
from aozora_tui.run_list import RunList
from aozora_tui.run_notes import Notes
from engine.contract import places, rundir


@pytest.fixture
def run():
    found = fake_run.make(places.runs_folder(), "cat-20231111-101010")
    fake_run.trained(found, 5)
    return found


def path_of(run):
    return run.path / "notes.json"


def test_tags_and_a_note_are_written_and_read_again(run):
    assert run_notes.read(run) == Notes()
    assert run_notes.change(run, add=("best", "v2")) == Notes(tags=("best", "v2"))
    assert run_notes.change(run, note="the one with the blue eyes") == run_notes.read(run)
    assert run_notes.change(run, add=("best",), remove=("v2", "never")).tags == ("best",)
    assert run_notes.read(run) == Notes(tags=("best",), note="the one with the blue eyes")
    assert [path.name for path in run.path.iterdir() if "notes" in path.name] == ["notes.json"]


def test_what_another_program_keeps_in_the_file_stays(run):
    path_of(run).write_text('{"stars": 5, "note": "old"}')
    run_notes.change(run, add=("best",))
    assert msgspec.json.decode(path_of(run).read_bytes()) == {"stars": 5, "note": "old", "tags": ["best"]}


def test_nothing_is_written_where_nothing_changes(run):
    run_notes.change(run, add=("best",))
    before = path_of(run).stat().st_ino
    run_notes.change(run, add=("best",), note="")
    assert path_of(run).stat().st_ino == before


@pytest.mark.parametrize(
    ("typed", "tag"),
    [("Best", "best"), ("v2.1_b-x", "v2.1_b-x"), ("猫", "猫"), ("Cafe\u0301", "caf\u00e9"), ("x" * 24, "x" * 24)],
)
def test_a_tag_is_a_word_in_small_letters(typed, tag):
    assert run_notes.tag(typed) == tag


@pytest.mark.parametrize(
    "typed",
    ["", "two words", "a,b", "-a", ".a", "_", "a/b", "#a", "a\0", "\x1b[31m", "x" * 25, "x" * 10_000, "\udc80", "İ"],
)
def test_what_cannot_be_a_tag_is_refused_with_a_word_that_steers_nothing(typed):
    with pytest.raises(ValueError, match="tag") as refused:
        run_notes.tag(typed)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 200


def test_tags_are_typed_with_blanks_or_commas_between_and_are_not_too_many(run):
    assert run_notes.tags_of(" best, V2  best,") == ("best", "v2")
    many = " ".join(f"t{number}" for number in range(13))
    with pytest.raises(ValueError, match="12 at most"):
        run_notes.tags_of(many)
    run_notes.change(run, add=many.split()[:12])
    with pytest.raises(ValueError, match="12 at most"):
        run_notes.change(run, add=("t13",))
    assert len(run_notes.read(run).tags) == 12


def test_a_note_is_one_line_of_plain_text():
    assert run_notes.note_of("  two\nlines \t of it ") == "two lines of it"
    assert run_notes.note_of("x" * 500) == "x" * 500
    for wrong in ("x" * 501, "a\0b", "a\x1b[2Jb", "\u202eevil", "\udc80"):
        with pytest.raises(ValueError, match="a note") as refused:
            run_notes.note_of(wrong)
        assert str(refused.value).isprintable()


def _folder(path):
    path.mkdir()


def _pipe(path):
    os.mkfifo(path)


def _circle(path):
    path.symlink_to(path)


def _text(text):
    return lambda path: path.write_bytes(text)


@pytest.mark.parametrize(
    "make",
    [
        _folder,
        _pipe,
        _circle,
        _text(b""),
        _text(b"{"),
        _text(b"[]"),
        _text(b"\xff\xfe"),
        _text(b"[" * 60_000),
        _text(b'{"tags": "best"}'),
        _text(b'{"tags": [7]}'),
        _text(b'{"tags": ["two words"]}'),
        _text(b'{"tags": ["\\u001b[31m"]}'),
        _text(b'{"note": 7}'),
        _text(b'{"note": "' + b"x" * 70_000 + b'"}'),
    ],
)
def test_a_file_that_cannot_be_read_is_told_and_never_written_over(run, make):
    make(path_of(run))
    before = os.lstat(path_of(run))
    notes = run_notes.read(run)
    assert not notes.tags and not notes.note
    assert run.name in notes.trouble and notes.trouble.isprintable() and str(path_of(run)) in run_notes.mend(run)
    with pytest.raises(ValueError, match=f"Mend {path_of(run)} or take it away"):
        run_notes.change(run, add=("best",))
    assert os.lstat(path_of(run)) == before
    summary = runs.summary(run, now=fake_run.START)
    assert summary.notes_trouble and summary.step == 5


def test_a_note_that_somebody_wrote_by_hand_is_taken_as_it_is(run):
    path_of(run).write_text('{"note": "a\\u001b[31mb", "tags": ["best", "best"]}')
    assert run_notes.read(run) == Notes(tags=("best",), note="a\x1b[31mb")
    run_notes.change(run, add=("v2",))
    assert run_notes.read(run) == Notes(tags=("best", "v2"), note="a\x1b[31mb")


def test_a_live_run_can_be_tagged_and_another_app_sees_it(run):
    listed = RunList(places.runs_folder())
    listed.refresh([], fake_run.START)
    listed.read(list(listed.runs), fake_run.START)
    run_notes.change(run, add=("best",))
    assert listed.read(list(listed.runs), fake_run.START)
    assert listed.summary(str(run.path)).tags == ("best",)
    with fake_run.engine_alive(run):
        assert run_notes.change(run, note="going well").note == "going well"


def test_notes_go_to_the_trash_and_come_back_with_the_run(run):
    run_notes.change(run, add=("best",), note="keep")
    thrown = trash.throw_run(run, fake_run.START)
    trash.put_back(thrown)
    assert run_notes.read(run) == Notes(tags=("best",), note="keep")


def test_a_run_that_says_nothing_yet_is_no_younger_for_a_tag(run):
    run.info.unlink()
    os.utime(run.path, (fake_run.START, fake_run.START))
    assert rundir.state(run) == "crashed"
    run_notes.change(run, add=("best",))
    assert rundir.state(run) == "crashed"


def test_a_copy_of_a_run_elsewhere_cannot_be_tagged(run):
    copy = fake_run.make(places.cache_folder() / "remote" / "box", "cat-20231111-101010")
    with pytest.raises(ValueError, match="is on another machine"):
        run_notes.change(copy, add=("best",))
    links.add(run, object())
    try:
        with pytest.raises(ValueError, match="is on another machine"):
            run_notes.change(run, add=("best",))
    finally:
        links.remove(run)
    assert not path_of(run).exists() and not path_of(copy).exists()


def test_the_tags_in_use_are_known_most_used_first():
    assert run_notes.most_used([("b", "a"), ("a",), ("c",), ()]) == ["a", "b", "c"]


def test_of_two_that_write_at_once_nobody_loses_a_tag(run):
    many = [sys.executable, "-c", _ADDS, str(run.path)]
    others = [subprocess.Popen([*many, letter]) for letter in "ab"]
    assert [other.wait() for other in others] == [0, 0]
    assert sorted(run_notes.read(run).tags) == sorted(f"{letter}{at}" for letter in "ab" for at in range(6))


_ADDS = """
import sys
from pathlib import Path
from aozora_tui import run_notes
from engine.contract.rundir import RunDir
for turn in range(20):
    for at in range(6):
        run_notes.change(RunDir(Path(sys.argv[1])), add=(f"{sys.argv[2]}{at}",))
    if turn < 19:
        run_notes.change(RunDir(Path(sys.argv[1])), remove=[f"{sys.argv[2]}{at}" for at in range(6)])
"""


@pytest.mark.parametrize("name", ["run.json", "run.lock"])
def test_a_pipe_in_a_run_keeps_nobody_waiting(run, name):
    path = run.path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert rundir.read_info(run) is None or name == "run.lock"
    assert rundir.lock_owner(run) is None


def test_a_log_or_events_that_become_a_pipe_keep_nobody_waiting(run):
    tail, text = LineTail(run.events), LogText(run.log)
    tail.read()
    for path in (run.events, run.log):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    assert tail.read() == []
    with pytest.raises(OSError, match="it is no file"):
        text.read()
