"""`runs`, `tag`, `note` and `clone`: what they print, write and refuse."""

import json
import shutil
import time

import fake_run
import pytest

from aozora_tui import cli, run_notes, text
from engine.contract import events, places
from engine.contract.profile import dump, load, parse, resolved

TEXT = '[model]\nbase = "base.safetensors"\n[[data.folders]]\npath = "pictures"\n'


def made(name, steps, *, loss, weight=0, ended=True):
    run = fake_run.make(places.runs_folder(), name)
    at = fake_run.trained(run, steps - 1, steps=100)
    fake_run.add(run, fake_run.step(steps, at=at + 26, steps=100, loss=loss))
    if ended:
        fake_run.add(run, events.Finished(time=at + 26, step=steps, reason="finished", seconds=60))
    if weight:
        (run.checkpoints / "step-000100").mkdir()
        with (run.checkpoints / "step-000100" / "weights.safetensors").open("wb") as file:
            file.truncate(weight)
    return run


@pytest.fixture
def three():
    return (
        made("eel-20231113-101010", 30, loss=0.3, weight=1_900_000_000),
        made("cat-20231112-101010", 50, loss=0.1, ended=False),
        made("dog-20231111-101010", 40, loss=0.2, weight=7_000_000_000),
    )


@pytest.fixture
def call(capsys):
    def called(*words):
        code = cli.main([*words])
        done = capsys.readouterr()
        return code, done.out, done.err

    return called


def order_of(out):
    return "".join(line[0] for line in out.splitlines()[1:4])


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("newest", "ecd"),
        ("oldest", "dce"),
        ("name", "cde"),
        ("state", "ced"),  # what crashed before what finished, then the newest
        ("loss", "cde"),
        ("step", "cde"),
        ("size", "dec"),
    ],
)
def test_runs_are_listed_in_the_order_that_is_asked_for(three, call, order, expected):
    code, out, _ = call("runs", "--sort", order)
    assert code == 0 and order_of(out) == expected
    assert [run["name"][0] for run in json.loads(call("runs", "--sort", order, "--json")[1])] == list(expected)


def test_sizes_and_tags_have_a_column_where_there_are_any(three, call):
    assert call("runs")[1].splitlines()[0].split() == ["RUN", "STATE", "STEP", "LOSS", "LAST", "SIGN", "FOLDER"]
    call("tag", "cat", "best", "v2")
    call("note", "cat", "blue", "eyes")
    out = call("runs", "--size")[1]
    assert out.splitlines()[0].split()[-3:] == ["SIZE", "TAGS", "FOLDER"]
    assert "  1.9 GB  " in out and "  best v2  " in out
    assert out.splitlines()[-1] == "cat-20231112-101010: blue eyes"
    listed = {run["name"][0]: run for run in json.loads(call("runs", "--json")[1])}
    assert listed["c"]["tags"] == ["best", "v2"] and listed["c"]["note"] == "blue eyes"
    assert listed["d"]["tags"] == [] and listed["d"]["note"] == "" and "bytes" not in listed["d"]
    weighed = {run["name"][0]: run["bytes"] for run in json.loads(call("runs", "--json", "--size")[1])}
    assert 7_000_000_000 < weighed["d"] < 7_001_000_000 and 0 < weighed["c"] < 1_000_000


def test_only_runs_with_all_the_tags_are_listed(three, call):
    call("tag", "cat", "best", "v2")
    call("tag", "eel", "best")
    assert [run["name"][0] for run in json.loads(call("runs", "--tag", "BEST", "--json")[1])] == ["e", "c"]
    both = call("runs", "--tag", "best", "--tag", "v2", "--json")[1]
    assert [run["name"][0] for run in json.loads(both)] == ["c"]
    code, out, _ = call("runs", "--tag", "none")
    assert code == 0 and out.startswith('no run has the tag "none"')
    assert json.loads(call("runs", "--tag", "none", "--json")[1]) == []


def test_tags_are_added_taken_away_and_told(three, call):
    assert call("tag", "cat") == (0, "cat-20231112-101010 has no tags\n", "")
    assert call("tag", "cat", "Best", "v1,v2") == (0, "best v1 v2\n", "")
    assert call("tag", "cat", "--remove", "v1", "v2") == (0, "best\n", "")
    code, out, _ = call("tag", "cat", "v3", "--remove", "best", "--json")
    assert code == 0 and json.loads(out) == {
        "run": "cat-20231112-101010",
        "folder": str(three[1].path),
        "tags": ["v3"],
        "note": "",
    }
    assert call("tag", "cat") == (0, "v3\n", "")


def test_a_note_is_written_told_and_taken_away(three, call):
    assert call("note", "cat")[1] == "cat-20231112-101010 has no note\n"
    assert call("note", "cat", "the best  so far") == (0, "the best so far\n", "")
    assert call("note", "cat") == (0, "the best so far\n", "")
    assert json.loads(call("note", "cat", "--json")[1])["note"] == "the best so far"
    assert call("note", "cat", "--clear")[0] == 0
    assert run_notes.read(three[1]).note == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tag", "none", "best"), "there is no run called none"),
        (("tag", "cat", "a/b"), '"a/b" cannot be a tag'),
        (("tag", "cat", "x" * 10_000), "is too long"),
        (("tag", "cat", "best", "--remove", "best"), "say one of the two"),
        (("tag", "/", "best"), "is no run"),
        (("note", "cat", "a\x1b[2Jb"), "cannot have \\x1b"),
        (("note", "cat", "x" * 501), "500 at most"),
        (("note", "cat", " "), "--clear takes it away"),
        (("note", "cat", "x", "--clear"), "--clear takes the note away"),
        (("clone", "cat"), "has no profile.toml"),
        (("clone", "cat", "a/b"), "a name has no /"),
        (("clone", "cat", ""), "write a name"),
        (("runs", "--sort", "colour"), "invalid choice"),
        (("runs", "--tag", "a b"), "cannot be a tag"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence_and_exits_with_2(three, call, words, said):
    code, out, err = call(*words)
    assert code == 2 and said in err and not out
    assert all(line.isprintable() for line in err.splitlines())
    assert not (three[1].path / "notes.json").exists()
    assert json.loads(call(*words, "--json")[1])["error"]


def test_a_damaged_file_is_said_by_every_command_and_hides_no_run(three, call):
    path = three[1].path / "notes.json"
    path.write_text("{")
    for words in (
        ("tag", "cat"),
        ("tag", "cat", "best"),
        ("note", "cat"),
        ("note", "cat", "x"),
        ("note", "cat", "--clear"),
    ):
        code, out, err = call(*words)
        assert code == 2 and "notes.json of cat-20231112-101010 cannot be read" in err and not out
        assert f"Mend {path} or take it away" in err
    out = call("runs")[1]
    assert len([line for line in out.splitlines() if "-202311" in line.split()[0]]) >= 3
    assert "notes.json of cat-20231112-101010 cannot be read" in out
    assert path.read_text() == "{"


def test_an_escape_in_a_note_written_by_hand_does_not_reach_the_terminal(three, call):
    (three[1].path / "notes.json").write_text('{"note": "a\\u001b[2Jb\\u0000c"}')
    for words in (("note", "cat"), ("runs",)):
        out = call(*words)[1]
        assert "a\\x1b[2Jb\\x00c" in out and "\x1b" not in out


def test_a_clone_is_a_profile_with_all_that_the_run_was_told(three, call, tmp_path):
    told = resolved(parse(TEXT, "")[0], tmp_path)
    three[1].profile.write_text(dump(told))
    folder = places.profiles_folder()
    code, out, _ = call("clone", "cat")
    assert code == 0 and out.startswith(f"{folder / 'cat.toml'}: ")
    assert load(folder / "cat.toml") == told
    assert call("clone", "cat")[1].startswith(str(folder / "cat-2.toml"))
    code, out, _ = call("clone", "cat", "mine", "--json")
    assert json.loads(out) == {"run": three[1].name, "profile": str(folder / "mine.toml")}
    (folder / "mine.toml").write_text("mine")
    code, _, err = call("clone", "cat", "mine.toml")
    assert code == 2 and "there is a profile called mine already" in err
    assert (folder / "mine.toml").read_text() == "mine"


def test_a_profile_that_is_no_toml_is_not_cloned(three, call):
    three[1].profile.write_text("[model\n")
    code, _, err = call("clone", "cat")
    assert code == 2 and "is not valid TOML" in err
    assert not places.profiles_folder().exists()


def test_1000_runs_are_listed_in_half_a_second(call):
    first = fake_run.make(places.runs_folder(), "cat-20231101-000000")
    at = fake_run.trained(first, 200, steps=1000)
    fake_run.add(first, events.Finished(time=at, step=200, reason="finished", seconds=60))
    run_notes.change(first, add=("best",), note="as the others")
    for index in range(1, 1000):
        shutil.copytree(first.path, places.runs_folder() / f"cat-20231101-{index // 60:02}{index % 60:02}00")
    seconds = []
    for order in ("newest", "loss", "name"):
        begun = time.process_time()
        assert len(json.loads(call("runs", "--json", "--sort", order)[1])) == 1000
        seconds.append(time.process_time() - begun)
    assert min(seconds) < 0.5


def test_the_command_that_is_named_after_a_clone_can_be_pasted(three, call, tmp_path):
    three[1].profile.write_text(dump(resolved(parse(TEXT, "")[0], tmp_path)))
    code, out, _ = call("clone", "cat", "my copy")
    assert code == 0 and out.rstrip().endswith("my copy.toml: `aozora-tui train 'my copy'` starts it")


def test_columns_are_those_of_the_terminal():
    assert text.table([["\u6c34\u5f69\u753b", "b"], ["abc", "d"]]) == ["\u6c34\u5f69\u753b  b", "abc     d"]
