"""Somebody else writes the file meanwhile, and the round trip through an editor: nothing of either side is lost."""

import os
import shlex
import sys
import tomllib
from contextlib import contextmanager

import pytest
import seen
from forms import app, checked, opened, row, settle, write_profile

from aozora_tui.profile_file import REST, ProfileFile
from aozora_tui.profile_merge import merge
from aozora_tui.screens.ask import Ask

BASE = """\
# mine
[train]
steps = 500 # enough
seed = 3
[save]
every = 50
"""


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


def elsewhere(path, old, new):
    """Another program's writing, at another time than the last."""
    path.write_text(path.read_text().replace(old, new))
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))


def edited(tmp_path, **values):
    file = ProfileFile(tmp_path / "a.toml", BASE, None)
    file.update({name.replace("__", "."): value for name, value in values.items()})
    return file.text


def test_changes_of_both_sides_are_put_together_with_both_comments(tmp_path):
    mine = edited(tmp_path, train__steps=700)
    theirs = BASE.replace("seed = 3", "seed = 4 # theirs")
    found = merge(tmp_path / "a.toml", BASE, mine, theirs)
    assert (dict(found.mine), dict(found.theirs), found.clashes) == ({"train.steps": 700}, {"train.seed": 4}, ())
    assert found.text_with("mine") == BASE.replace("500", "700").replace("seed = 3", "seed = 4 # theirs")


def test_the_same_field_changed_by_both_is_a_clash_and_each_side_can_win(tmp_path):
    mine = edited(tmp_path, train__steps=700, save__every=60)
    theirs = BASE.replace("500", "900").replace("seed = 3", "seed = 4")
    found = merge(tmp_path / "a.toml", BASE, mine, theirs)
    assert found.clashes == ("train.steps",)
    assert tomllib.loads(found.text_with("mine")) == {"train": {"steps": 700, "seed": 4}, "save": {"every": 60}}
    assert tomllib.loads(found.text_with("theirs")) == {"train": {"steps": 900, "seed": 4}, "save": {"every": 60}}
    alike = merge(tmp_path / "a.toml", BASE, mine, BASE.replace("500", "700"))
    assert alike.clashes == ()


def test_a_field_taken_out_here_and_changed_there_is_a_clash(tmp_path):
    found = merge(tmp_path / "a.toml", BASE, edited(tmp_path, train__seed=None), BASE.replace("seed = 3", "seed = 4"))
    assert found.clashes == ("train.seed",)
    assert "seed" not in found.text_with("mine") and "seed = 4" in found.text_with("theirs")


def test_comments_of_one_side_are_kept_and_of_two_are_a_clash(tmp_path):
    mine, theirs = BASE.replace("# mine", "# ours"), BASE.replace("seed = 3", "seed = 4")
    found = merge(tmp_path / "a.toml", BASE, mine, theirs)
    assert found.clashes == () and found.text_with("mine") == mine.replace("seed = 3", "seed = 4")
    both = merge(tmp_path / "a.toml", BASE, mine, theirs.replace("# mine", "# yours"))
    assert both.clashes == (REST,)
    assert both.text_with("mine").startswith("# ours") and both.text_with("theirs").startswith("# yours")


async def test_another_programs_change_comes_into_the_form_as_one_change(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("7")
        elsewhere(path, "# third try", "# fourth try")
        elsewhere(path, "[train]\n", "[train]\nseed = 9\n")
        pilot.app.tick()
        await settle(pilot)
        assert "taken over: train.seed" in seen.words(pilot.app)
        assert row(screen, "train.steps").editor.value == "5007" and row(screen, "train.seed").editor.value == "9"
        assert screen.file.get("train.steps") == 5007 and screen.file.text.startswith("# fourth try")
        await pilot.press("f7")
        assert screen.file.get("train.seed") is None and screen.file.get("train.steps") == 5007
        await pilot.press("ctrl+y", "f2")
        await settle(pilot)
    saved = path.read_text()
    assert "# fourth try" in saved and tomllib.loads(saved)["train"] == {"seed": 9, "steps": 5007}


async def test_an_untouched_form_follows_the_file_and_has_nothing_to_save(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        elsewhere(path, "500", "900")
        pilot.app.tick()
        await settle(pilot)
        assert row(screen, "train.steps").editor.value == "900" and not screen.file.modified


async def test_a_clash_takes_nothing_names_the_fields_and_asks_at_saving(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("7")
        elsewhere(path, "500", "900")
        for _ in range(3):
            pilot.app.tick()
            await settle(pilot)
        assert "Changed here and by another program: train.steps" in seen.words(pilot.app)
        assert screen.file.get("train.steps") == 5007
        await pilot.press("f2")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask) and "Both changed train.steps" in seen.words(pilot.app)
        await pilot.press("t")
        await settle(pilot)
        assert screen.file.get("train.steps") == 900 and not screen.file.modified
        assert tomllib.loads(path.read_text())["train"]["steps"] == 900


async def test_of_a_clash_mine_can_be_kept(path):
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "train.steps")
        await pilot.press("7")
        elsewhere(path, "steps = 500", "seed = 2\nsteps = 900")
        await pilot.press("f2")
        await settle(pilot)
        await pilot.press("k")
        await settle(pilot)
        assert tomllib.loads(path.read_text())["train"] == {"seed": 2, "steps": 5007}


async def test_a_file_that_is_no_toml_for_a_moment_costs_nothing(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("7")
        whole = path.read_text()
        path.write_text("[tra")
        pilot.app.tick()
        await settle(pilot)
        assert screen.file.get("train.steps") == 5007
        path.write_text(whole.replace("# third", "# fifth"))
        pilot.app.tick()
        await settle(pilot)
        assert screen.file.text.startswith("# fifth") and screen.file.get("train.steps") == 5007


@contextmanager
def no_terminal():
    """A test has no terminal that could be lent."""
    yield


def editor(tmp_path, monkeypatch, old, new):
    script = tmp_path / "editor.py"
    script.write_text(
        "import pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        f"path.write_text(path.read_text().replace({old!r}, {new!r}))\n"
    )
    monkeypatch.setenv("VISUAL", f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}")


async def test_what_the_editor_makes_of_the_text_is_one_change_not_yet_saved(path, tmp_path, monkeypatch):
    editor(tmp_path, monkeypatch, "5007 # enough", "800 # plenty\nseed = 1")
    before = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("7", "escape")
        monkeypatch.setattr(pilot.app, "suspend", no_terminal)
        await pilot.press("E")
        await settle(pilot)
        assert "From the editor: train.steps, train.seed" in seen.words(pilot.app)
        assert "steps = 800 # plenty" in screen.file.text and path.read_text() == before
        await pilot.press("u")
        assert screen.file.get("train.steps") == 5007 and screen.file.get("train.seed") is None


async def test_a_text_from_the_editor_that_is_no_toml_is_named_and_not_taken(path, tmp_path, monkeypatch):
    editor(tmp_path, monkeypatch, "500", "5 0 0")
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        monkeypatch.setattr(pilot.app, "suspend", no_terminal)
        await pilot.press("E")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask) and "line 9" in seen.words(pilot.app)
        await pilot.press("escape")
        await settle(pilot)
        assert not screen.file.modified


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (120, 40)])
async def test_a_clash_shows_both_values_and_every_key_and_enter_drops_nothing(path, size):
    async with app().run_test(size=size) as pilot:
        await opened(pilot, path, "train.steps")
        await pilot.press("7")
        elsewhere(path, "steps = 500", "steps = 900")
        theirs = path.read_bytes()
        await pilot.press("f2")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask)
        said = seen.words(pilot.app)
        assert size[1] < 24 or ("mine 5007" in said and "theirs 900" in said)
        for key in ("k keep mine", "t take theirs", "r reload it, dropping mine", "o overwrite it", "esc cancel"):
            assert key in said, key
        await pilot.press("end")
        await settle(pilot)
        assert "theirs 900" in seen.words(pilot.app)
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask) and path.read_bytes() == theirs


async def test_enter_keeps_what_both_changed_apart(path):
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "train.steps")
        await pilot.press("7")
        elsewhere(path, "# third", "# fourth")
        await pilot.press("f2")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert path.read_text().startswith("# fourth") and "steps = 5007" in path.read_text()


async def test_a_file_that_cannot_be_read_outside_is_not_called_saved_or_without_problem(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await checked(pilot, screen)
        assert "no problem" in seen.text(pilot.app)
        whole = path.read_text()
        path.write_text("[tra")
        pilot.app.tick()
        await settle(pilot)
        said = seen.text(pilot.app)
        assert "not readable on the disk" in said and "mine.toml cannot be read, or is no TOML" in said
        assert "no problem" not in said and "saved" not in said.splitlines()[0]
        await pilot.press("f2")
        await settle(pilot)
        assert "reload" not in seen.words(pilot.app) and path.read_text() == "[tra"
        await pilot.press("enter", "o")
        await settle(pilot)
        assert path.read_text() == whole and "not readable" not in seen.text(pilot.app)
