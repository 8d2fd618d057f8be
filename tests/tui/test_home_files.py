"""What the first screen does with files: new, copy, rename, delete, put back."""

import os
from pathlib import Path

import fake_run
import pytest
import seen
from test_home import home, own_profile
from textual.widgets import Input

from aozora_tui import trash
from aozora_tui.screens.ask import Ask
from aozora_tui.screens.ask_name import AskName
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.home_recipes import AskRecipe
from aozora_tui.screens.profile import ProfileScreen
from aozora_tui.screens.rows import Rows
from engine.contract import events, places


async def settle(pilot):
    await pilot.pause()
    await seen.work_done(pilot.app)
    await pilot.pause()


async def type_name(pilot, name):
    pilot.app.screen.query_one(Input).value = name
    await pilot.pause()


def ended_run(name="dog-20231112-101010"):
    run = fake_run.make(places.runs_folder(), name)
    at = fake_run.trained(run, 20, steps=20)
    fake_run.add(run, events.Finished(time=at, step=20, reason="finished", seconds=60))
    (run.checkpoints / "step-000020").mkdir()
    (run.checkpoints / "step-000020" / "weights.safetensors").write_bytes(b"x" * 2_000_000)
    return run


async def test_a_new_profile_is_a_named_copy_of_a_chosen_recipe_and_opens():
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("n")
        await pilot.pause()
        assert isinstance(app.screen, AskRecipe)
        rows = app.screen.query_one(Rows)
        rows.select(str(places.shipped_profiles_folder() / "character-12gb.toml"))
        await pilot.pause()
        assert "48 % of the UNet, from 30 to 300 pictures." in seen.words(app)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, AskName)
        assert app.screen.query_one(Input).value == "character-12gb"
        await type_name(pilot, "mira")
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, ProfileScreen) and not app.screen.recipe
        made = places.profiles_folder() / "mira.toml"
        assert made.read_bytes() == (places.shipped_profiles_folder() / "character-12gb.toml").read_bytes()
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen.profiles.key == str(made)


@pytest.mark.parametrize("name", ["", "mine", "a/b", ".hidden", "x" * 200, "mine.toml"])
async def test_a_name_that_cannot_be_is_refused_under_the_field(name):
    own_profile("mine")
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("n", "enter")
        await pilot.pause()
        await type_name(pilot, name)
        assert "! " in seen.text(app)
        await pilot.press("enter")
        assert isinstance(app.screen, AskName)
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)
    assert [path.name for path in places.profiles_folder().iterdir()] == ["mine.toml"]


async def test_renaming_moves_the_file_and_the_cursor_goes_with_it():
    own_profile("mine")
    own_profile("other")
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("r")
        await pilot.pause()
        await type_name(pilot, "zebra")
        await pilot.press("enter")
        await pilot.pause()
        assert sorted(path.stem for path in places.profiles_folder().iterdir()) == ["other", "zebra"]
        assert Path(app.screen.profiles.key).stem == "zebra"
        assert "mine is called zebra now" in seen.text(app)


async def test_recipes_are_neither_renamed_nor_deleted_and_runs_keep_their_names():
    ended_run()
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        recipe = Path(app.screen.profiles.key)
        for key in ("r", "X"):
            await pilot.press(key)
            await settle(pilot)
            assert isinstance(app.screen, HomeScreen)
            assert "A recipe comes with the program" in seen.text(app)
        assert recipe.is_file()
        await pilot.press("tab", "r")
        await pilot.pause()
        assert "A run keeps the name of its folder" in seen.text(app)


async def test_a_deleted_profile_lies_in_the_trash_and_comes_back():
    path = own_profile("mine")
    text = path.read_text()
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("X")
        await settle(pilot)
        assert isinstance(app.screen, Ask) and path.is_file()
        assert "u puts it back" in seen.words(app)
        await pilot.press("escape")
        assert path.is_file()
        await pilot.press("delete")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert not path.exists()
        assert [kept.name for kept in trash.folder().iterdir()] == ["20231115-001320-mine.toml"]
        assert "mine " not in "\n".join(line for line in seen.text(app).splitlines()[2:12])
        assert "u put back" in " ".join(key.names[0] + " " + key.label for key in app.screen.active_keys())
        await pilot.press("u")
        await settle(pilot)
        assert path.read_text() == text and not list(trash.folder().iterdir())
        assert Path(app.screen.profiles.key) == path
        await pilot.press("u")
        await pilot.pause()
        assert "Nothing was deleted" in seen.text(app)


async def test_a_deleted_run_says_how_much_it_holds_and_comes_back():
    run = ended_run()
    other = ended_run("cat-20231112-101010")
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab", "X")
        await settle(pilot)
        assert "Delete dog-20231112-101010?" in seen.text(app)
        assert "go with it: 2.01 MB" in seen.words(app)
        await pilot.press("enter")
        await settle(pilot)
        assert not run.path.exists() and other.path.is_dir()
        assert "dog-2023" not in "\n".join(seen.text(app).splitlines()[:-2])
        await pilot.press("u")
        await settle(pilot)
        assert (run.checkpoints / "step-000020" / "weights.safetensors").stat().st_size == 2_000_000
        assert app.screen.runs_list.key == str(run.path)


async def test_a_run_that_is_alive_is_not_deleted():
    run = fake_run.make(places.runs_folder(), "eel-20231113-101010")
    fake_run.trained(run, 7)
    app = home()
    with fake_run.engine_alive(run):
        async with app.run_test(size=(80, 24)) as pilot:
            assert app.screen.runs_list.has_focus
            await pilot.press("X")
            await settle(pilot)
            assert isinstance(app.screen, HomeScreen)
            assert "eel-20231113-101010 is running: stop it first" in seen.text(app)
    assert run.path.is_dir()


def test_a_run_that_came_to_life_after_the_question_is_not_moved():
    run = ended_run()
    run.lock.touch()
    with fake_run.engine_alive(run), pytest.raises(ValueError, match="dog-20231112-101010 is running"):
        trash.throw_run(run, fake_run.START)
    assert run.path.is_dir()


def test_names_in_the_trash_never_meet():
    kept = [trash.throw(own_profile("mine"), fake_run.START).kept for _ in range(3)]
    assert len(set(kept)) == 3 and all(path.is_file() for path in kept)


def test_what_has_taken_the_place_of_a_deleted_file_is_not_overwritten():
    thrown = trash.throw(own_profile("mine"), fake_run.START)
    own_profile("mine", "# another\n")
    with pytest.raises(FileExistsError, match="exists again"):
        trash.put_back(thrown)
    assert thrown.original.read_text() == "# another\n" and thrown.kept.is_file()


def test_nothing_is_copied_to_another_disk(monkeypatch, tmp_path):
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev or not os.access(elsewhere, os.W_OK):
        pytest.skip("this machine has no second file system to write to")
    folder = elsewhere / f"aozora-test-{os.getpid()}"
    monkeypatch.setenv("AOZORA_DATA", str(folder))
    try:
        path = own_profile("mine")
        thrown = trash.throw(path, fake_run.START)
        assert thrown.kept.parent == path.parent / ".trash" and thrown.kept.is_file()
        trash.put_back(thrown)
        assert path.is_file()
    finally:
        for left in (folder / "trash", folder):
            if left.is_dir():
                left.rmdir()
