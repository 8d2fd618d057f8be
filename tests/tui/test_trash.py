"""What was deleted: listed with its old place, had back, and deleted for good only when that was meant."""

import argparse
import io
import json
import os

import fake_run
import msgspec
import pytest

from aozora_tui import settings, trash
from aozora_tui.context import Context, RefusedError
from aozora_tui.trash_command import trash as command
from engine.contract import places
from engine.contract.rundir import RunDir


def profile(name="mine", text="[model]\n"):
    path = places.profiles_folder() / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(name="dog-20231112-101010"):
    made = fake_run.make(places.runs_folder(), name)
    fake_run.trained(made, 3)
    return made


def notes():
    folder = places.data_folder() / "trash-places"
    return list(folder.iterdir()) if folder.exists() else []


def test_everything_is_listed_newest_first_with_where_it_was_and_when_it_went():
    first = trash.throw(profile(), fake_run.START)
    second = trash.throw_run(run(), fake_run.START + 60)
    assert trash.entries() == [second, first]
    assert [(one.name, one.is_run, one.time) for one in trash.entries()] == [
        ("dog-20231112-101010", True, fake_run.START + 60),
        ("mine", False, fake_run.START),
    ]
    assert first.original == places.profiles_folder() / "mine.toml"


def test_the_old_place_is_remembered_though_folders_are_elsewhere_now(tmp_path, monkeypatch):
    path = profile()
    trash.throw(path, fake_run.START)
    monkeypatch.setenv("AOZORA_PROFILES", str(tmp_path / "others"))
    (found,) = trash.entries()
    trash.put_back(found)
    assert path.is_file() and trash.entries() == [] and notes() == []


def test_what_nobody_wrote_down_goes_where_such_things_are_now():
    """So lies what an older version deleted."""
    folder = trash.folder()
    folder.mkdir(parents=True)
    (folder / "20231115-001320-mine.toml").touch()
    (folder / "20231115-001320-mine.toml-2").touch()
    (folder / "20231115-001321-dog-20231112-101010").mkdir()
    (folder / "notes of my own.txt").touch()
    beside = places.profiles_folder() / ".trash"
    beside.mkdir(parents=True)
    (beside / "20231115-001319-cat.toml").touch()
    assert [(one.original, one.time) for one in trash.entries()] == [
        (places.runs_folder() / "dog-20231112-101010", 1700007201.0),
        (places.profiles_folder() / "mine.toml", 1700007200.0),
        (places.profiles_folder() / "mine.toml", 1700007200.0),
        (places.profiles_folder() / "cat.toml", 1700007199.0),
    ]


def test_an_entry_can_be_had_back_though_its_note_could_not_be_written():
    (places.data_folder()).mkdir(parents=True)
    (places.data_folder() / "trash-places").touch()  # a file where the folder should be
    path = profile()
    trash.throw(path, fake_run.START)
    (found,) = trash.entries()
    trash.put_back(found)
    assert path.is_file()


def test_a_note_that_names_another_place_makes_nothing_there_an_entry(tmp_path):
    thrown = trash.throw(profile(), fake_run.START)
    precious = tmp_path / "20231115-001320-precious"
    precious.touch()
    (note,) = notes()
    read = json.loads(note.read_text())
    forged = trash._note(precious)
    forged.write_text(json.dumps({**read, "kept": str(precious)}))
    (note.parent / "broken.json").write_text("{")
    assert trash.entries() == [thrown]


def test_notes_of_what_was_taken_out_by_hand_are_swept():
    thrown = trash.throw(profile(), fake_run.START)
    thrown.kept.unlink()
    assert trash.entries() == [] and notes() == []


def test_a_name_that_is_no_text_comes_back_under_it():
    path = places.profiles_folder() / os.fsdecode(b"caf\xe9.toml")
    path.parent.mkdir(parents=True)
    path.touch()
    trash.throw(path, fake_run.START)
    (found,) = trash.entries()
    trash.put_back(found)
    assert path.is_file()


def test_removing_follows_no_link_and_spares_a_run_in_which_an_engine_works(tmp_path):
    target = tmp_path / "elsewhere.toml"
    target.write_text("mine")
    path = profile()
    path.unlink()
    path.symlink_to(target)
    trash.remove(trash.throw(path, fake_run.START))
    assert target.read_text() == "mine"
    thrown = trash.throw_run(run(), fake_run.START)
    kept = RunDir(thrown.kept)
    with fake_run.engine_alive(kept), pytest.raises(ValueError, match="is running: stop it first"):
        trash.remove(thrown)
    assert thrown.kept.is_dir()
    trash.remove(thrown)
    assert trash.entries() == [] and notes() == []


# -- the command -------------------------------------------------------------------------------------------------------


def call(**said):
    args = argparse.Namespace(**{"json": False, "empty": False, "yes": False, **said})
    return command(Context(args, None, settings.Settings()))


def filled():
    trash.throw_run(run(), fake_run.START + 60)
    trash.throw(profile(text="x" * 1500), fake_run.START)


def test_the_list_says_what_when_how_large_and_where(capsys):
    filled()
    assert call() == 0
    head, first, second, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["WHAT", "KIND", "DELETED", "SIZE", "WAS", "IS"]
    assert first.split()[:4] == ["dog-20231112-101010", "run", "2023-11-14", "22:14"]
    assert second.startswith("mine ") and " 1.5 kB " in second and str(places.profiles_folder()) in second
    assert "aozora-tui trash --empty" in last


def test_for_programs_it_is_one_document(capsys):
    filled()
    assert call(json=True) == 0
    document = msgspec.json.decode(capsys.readouterr().out)
    assert [one["kind"] for one in document["entries"]] == ["run", "profile"]
    assert document["entries"][1] == {
        "name": "mine",
        "kind": "profile",
        "time": fake_run.START,
        "bytes": 1500,
        "original": str(places.profiles_folder() / "mine.toml"),
        "kept": str(trash.entries()[1].kept),
    }
    assert document["bytes"] == sum(one["bytes"] for one in document["entries"])


def test_an_empty_trash_is_no_error(capsys):
    assert call() == 0 and call(empty=True) == 0
    assert "nothing" in capsys.readouterr().out
    assert call(json=True) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["entries"] == []


def test_where_nobody_can_be_asked_nothing_is_deleted_without_yes():
    filled()
    with pytest.raises(ValueError, match=r"this would delete 2 things .* for good: say --yes"):
        call(empty=True)
    assert len(trash.entries()) == 2
    with pytest.raises(ValueError, match="--yes belongs to --empty"):
        call(yes=True)


def test_with_yes_all_of_it_goes_and_the_rest_of_the_folder_stays(capsys):
    filled()
    (trash.folder() / "mine too.txt").touch()
    assert call(empty=True, yes=True) == 0
    assert "deleted 2 of 2 things" in capsys.readouterr().out
    assert trash.entries() == [] and [path.name for path in trash.folder().iterdir()] == ["mine too.txt"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("YES\n", 0), ("n\n", 2), ("\n", 2), ("", 2)])
def test_on_a_terminal_it_asks_and_only_yes_is_yes(answer, left, monkeypatch):
    filled()
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stderr", asked := Terminal())
    if left:
        with pytest.raises(RefusedError, match="nothing was deleted"):
            call(empty=True)
    else:
        assert call(empty=True) == 0
    assert "Delete 2 things (" in asked.getvalue() and "[y/N]" in asked.getvalue()
    assert len(trash.entries()) == left


def test_what_cannot_be_deleted_is_named_and_the_others_go(capsys):
    filled()
    kept = RunDir(trash.entries()[0].kept)
    with fake_run.engine_alive(kept):
        assert call(empty=True, yes=True, json=True) == 1
    said = capsys.readouterr()
    document = msgspec.json.decode(said.out)
    assert document["deleted"] == 1 and [one["name"] for one in document["left"]] == ["dog-20231112-101010"]
    assert "is running: stop it first" in said.err
