"""A profile's file byte by byte: its mark, its line ends, its mode, its other names, and others who write it too."""

import os
import random
import re
import tomllib

import pytest

import engine.contract.atomic
from aozora_tui.profile_file import ChangedOnDiskError, ProfileFile
from aozora_tui.text_file import Found, ReadOnlyError, plain
from engine.contract.profile import parse, read_text

TEXT = '[model]\nbase = "a" # the base\n\n[[data.folders]]\npath = "b"\n\n[train]\nsteps = 5\n'


def written(tmp_path, raw):
    path = tmp_path / "mine.toml"
    path.write_bytes(raw)
    return path


# -- the mark and the line ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_what_the_engine_reads_the_form_reads_and_writes_back_with_its_mark_and_line_ends(tmp_path, mark, end):
    path = written(tmp_path, (mark + TEXT.replace("\n", end)).encode())
    assert parse(read_text(path), "mine")[0] is not None
    file = ProfileFile.open(path)
    assert file.text == TEXT and not file.modified and file.saved("train.steps") == 5
    file.set("train.steps", 9)
    file.set("train.seed", 3)
    file.save()
    wanted = TEXT.replace("steps = 5\n", "steps = 9\nseed = 3\n")
    assert path.read_bytes() == (mark + wanted.replace("\n", end)).encode()
    assert not file.modified and not file.changed_on_disk()


@pytest.mark.parametrize("seed", range(40))
def test_lines_that_were_not_changed_keep_their_own_ends(tmp_path, seed):
    dice = random.Random(seed)
    raw = re.sub("\n", lambda _: dice.choice(["\n", "\r\n", "\r"]), TEXT).encode()
    path = written(tmp_path, raw)
    file = ProfileFile.open(path)
    file.set("train.steps", 77)
    file.set("model.precision", "fp32")
    file.save()
    at = raw.index(b'"a" # the base') + len(b'"a" # the base')
    end = re.match(rb"\r\n|\r|\n", raw[at:])[0]
    found = path.read_bytes()
    added = re.search(rb'precision = "fp32"(?:\r\n|\r|\n)', found)[0]
    assert found.replace(added, b"").replace(b"77", b"5") == raw
    assert found.startswith(raw[: at + len(end)])


def test_a_line_that_ends_in_a_lone_return_stays_a_line_before_one_that_ends_otherwise(tmp_path):
    """Return and line feed in a row would be one end."""
    path = written(tmp_path, b"[model]\nbase = 'a'\r[train]\r# gone\rsteps = 5\n")
    file = ProfileFile.open(path)
    file.replace(file.text.replace("# gone\nsteps = 5", "\nsteps = 5\n"))
    file.save()
    assert ProfileFile.open(path).text == file.text


def test_undo_all_is_the_files_bytes_with_mixed_line_ends_too(tmp_path):
    raw = TEXT.replace('"a" # the base\n', '"a" # the base\r\n').encode()
    path = written(tmp_path, raw)
    file = ProfileFile.open(path)
    file.set("train.steps", 9)
    file.set("data.folders", [{"path": "b"}, {"path": "c"}])
    while file.undo():
        pass
    assert not file.modified
    file.save()
    assert path.read_bytes() == raw


def test_undo_all_comes_back_to_the_file_after_any_number_of_changes(tmp_path):
    path = written(tmp_path, TEXT.encode())
    file = ProfileFile.open(path)
    for steps in range(100, 1105):
        file.set("train.steps", steps)
        file.end_of_change()
    assert file.undo() == "train.steps" and file.get("train.steps") == 1103
    while file.undo():
        pass
    assert file.text == TEXT and not file.modified
    while file.redo():
        pass
    assert file.get("train.steps") == 1104


def test_a_file_that_another_program_gave_other_line_ends_keeps_those(tmp_path):
    path = written(tmp_path, TEXT.encode())
    file = ProfileFile.open(path)
    file.set("train.steps", 9)
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    found = file.on_disk()
    file.rebase(found, file.text, ())
    file.save()
    assert path.read_bytes() == TEXT.replace("= 5", "= 9").replace("\n", "\r\n").encode()


def test_a_text_with_other_line_ends_is_the_same_text():
    for end in ("\r", "\r\n"):
        assert plain(TEXT.replace("\n", end)) == TEXT
    assert Found("").spelt("a\nb\n") == "a\nb\n"


# -- somebody else writes at the same time -----------------------------------------------------------------------------


def test_what_another_program_writes_right_after_our_rename_is_noticed(tmp_path, monkeypatch):
    path = written(tmp_path, TEXT.encode())
    file = ProfileFile.open(path)
    file.set("train.steps", 6)
    real, theirs = engine.contract.atomic.fsync_folder, TEXT + "seed = 99 # theirs\n"

    def slow(folder):
        real(folder)
        path.write_text(theirs)

    monkeypatch.setattr(engine.contract.atomic, "fsync_folder", slow)
    file.save()
    monkeypatch.undo()
    assert file.changed_on_disk()
    file.set("train.steps", 7)
    with pytest.raises(ChangedOnDiskError):
        file.save()
    assert path.read_text() == theirs


def test_what_another_program_writes_while_ours_is_on_its_way_to_the_disk_is_not_written_over(tmp_path, monkeypatch):
    path = written(tmp_path, TEXT.encode())
    file = ProfileFile.open(path)
    file.set("train.steps", 6)
    real = os.fsync

    def slow(descriptor):
        real(descriptor)
        path.write_text(TEXT + "seed = 99\n")

    monkeypatch.setattr(engine.contract.atomic.os, "fsync", slow)
    with pytest.raises(ChangedOnDiskError):
        file.save()
    monkeypatch.undo()
    assert path.read_text() == TEXT + "seed = 99\n" and file.modified
    assert [entry.name for entry in tmp_path.glob("*.tmp")] == []


# -- files that are not alone, or not to be written --------------------------------------------------------------------


def test_a_read_only_file_is_written_only_when_that_is_asked_for(tmp_path):
    path = written(tmp_path, TEXT.encode())
    path.chmod(0o444)
    file = ProfileFile.open(path)
    file.set("train.steps", 9)
    with pytest.raises(ReadOnlyError, match="read-only"):
        file.save()
    assert path.read_text() == TEXT and file.modified
    file.save(read_only=True)
    assert path.read_text() == file.text and path.stat().st_mode & 0o777 == 0o444 and not file.modified


def test_all_names_of_a_file_keep_naming_the_same_file(tmp_path):
    path, other = written(tmp_path, TEXT.encode()), tmp_path / "other.toml"
    path.chmod(0o640)
    other.hardlink_to(path)
    file = ProfileFile.open(path)
    for steps in (1_000_000, 9):  # longer, then shorter than it was
        file.set("train.steps", steps)
        file.save()
        assert other.read_text() == path.read_text() == file.text and path.samefile(other)
        assert not file.changed_on_disk() and path.stat().st_mode & 0o777 == 0o640
    path.write_text(TEXT + "# theirs\n")
    file.set("train.steps", 10)
    with pytest.raises(ChangedOnDiskError):
        file.save()
    assert other.read_text() == TEXT + "# theirs\n"


def test_a_file_with_several_names_is_as_it_was_when_the_disk_refuses(tmp_path, monkeypatch):
    path, other = written(tmp_path, TEXT.encode()), tmp_path / "other.toml"
    other.hardlink_to(path)
    file = ProfileFile.open(path)
    file.set("train.steps", 1_000_000)
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        file.save()
    monkeypatch.undo()
    assert path.read_text() == TEXT and file.modified
    file.save()  # to have been touched is not to have been changed
    assert other.read_text() == file.text


def test_a_link_stays_a_link(tmp_path):
    real = written(tmp_path, TEXT.encode())
    link = tmp_path / "link.toml"
    link.symlink_to(real)
    file = ProfileFile.open(link)
    file.set("train.steps", 9)
    file.save()
    assert link.is_symlink() and "steps = 9" in real.read_text() and not file.changed_on_disk()


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(ValueError, match="no file"):
        ProfileFile.open(tmp_path / "pipe.toml")


def test_where_nothing_can_be_written_the_name_stays_the_old_one(tmp_path):
    path = written(tmp_path, TEXT.encode())
    (tmp_path / "wall").touch()
    file = ProfileFile.open(path)
    file.set("train.steps", 9)
    with pytest.raises(OSError, match="wall"):
        file.save_as(tmp_path / "wall" / "copy.toml")
    assert file.path == path and file.modified
    file.save()
    assert "steps = 9" in path.read_text()


# -- a file that is not there any more ---------------------------------------------------------------------------------


def test_a_file_that_is_gone_counts_as_modified_and_is_written_again(tmp_path):
    path = written(tmp_path, TEXT.encode())
    file = ProfileFile.open(path)
    assert not file.gone
    path.unlink()
    assert file.gone and file.modified
    file.save()
    assert path.read_text() == TEXT and not file.gone and not file.modified


def test_a_folder_that_became_a_file_raises_nothing_until_one_saves(tmp_path):
    path = tmp_path / "profiles" / "mine.toml"
    path.parent.mkdir()
    path.write_text(TEXT)
    file = ProfileFile.open(path)
    path.parent.rename(tmp_path / "moved")
    (tmp_path / "profiles").write_text("x")
    assert file.gone and file.changed_on_disk() and file.modified
    with pytest.raises(OSError, match="profiles"):
        file.save(overwrite=True)


def test_what_cannot_be_looked_at_is_neither_gone_nor_changed(tmp_path):
    path = tmp_path / "links" / "mine.toml"
    path.parent.mkdir()
    path.write_text(TEXT)
    file = ProfileFile.open(path)
    path.unlink()
    path.symlink_to(path)  # a ring, as a stale network disk is: there, and not to be had
    assert not file.gone and not file.changed_on_disk() and not file.modified
    file.set("train.steps", 9)
    with pytest.raises(OSError, match="mine"):
        file.save()


# -- sections that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted", "said"),
    [
        ("train = 5\n[model]\nbase = 'a'\n", {"steps": 4}, "# train = 5\n"),
        ("train = [] # none\n[model]\nbase = 'a'\n", {"steps": 4}, "# train = [] # none\n"),
        ("[[train]] # once\nsteps = 9 # enough\nseed = 2\n[model]\nbase = 'a'\n", {"steps": 4, "seed": 2}, "# enough"),
        ("train = [{seed = 2}]\n[model]\nbase = 'a'\n", {"steps": 4, "seed": 2}, "steps = 4"),
        (
            "[model]\nbase = 'a'\n[[train]]\nseed = 2\n[[train]]\nseed = 3\naccumulate = 8 # of\n",
            {"steps": 4, "seed": 2},
            "# seed = 3\n# accumulate = 8 # of\n",
        ),
    ],
    ids=["number", "empty list", "one table in a list", "one inline table", "two tables"],
)
def test_a_section_that_is_no_table_becomes_one_and_loses_nothing(tmp_path, text, wanted, said):
    file = ProfileFile.open(written(tmp_path, text.encode()))
    assert file.get("train.steps") is None
    file.set("train.seed", None)  # nothing is there that could be taken out
    assert file.text == text
    file.set("train.steps", 4)
    assert tomllib.loads(file.text) == {"train": wanted, "model": {"base": "a"}}
    assert said in file.text
    file.undo()
    assert file.text == text
