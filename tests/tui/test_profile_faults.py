"""What the disk and other programs do to a form: nothing ends the app, and nothing typed is lost."""

import os
import shlex
import sys
from contextlib import contextmanager

import pytest
import seen
from forms import app, checked, opened, row, settle, write_profile

from aozora_tui.app import AozoraApp
from aozora_tui.screens.ask import Ask
from aozora_tui.screens.home import HomeScreen


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


def at_home():
    """Where the first screen is looked at too."""
    return AozoraApp(ticking=False, read_gpu=lambda pid: ())


def later(path):
    at = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(at, at))


def wall(folder):
    """A file where the folder was."""
    folder.rename(folder.with_name("moved"))
    folder.write_text("x")


async def ticks(pilot, count=1):
    for _ in range(count):
        pilot.app.tick()
        await settle(pilot)


def title(pilot):
    return seen.text(pilot.app).splitlines()[0]


# -- the disk refuses --------------------------------------------------------------------------------------------------


async def test_a_disk_that_refuses_to_write_over_another_version_is_said(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("7")
        path.write_text(path.read_text() + "\n# theirs\n")
        later(path)
        await pilot.press("f2")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask)
        wall(path.parent)
        await pilot.press("o")
        await settle(pilot)
        assert pilot.app.screen is screen and "Not saved: " in seen.text(pilot.app)
        assert screen.file.get("train.steps") == 5007 and screen.file.modified


async def test_a_folder_that_became_a_file_is_said_and_saving_too(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("7")
        wall(path.parent)
        await ticks(pilot, 2)
        assert "mine.toml is gone" in seen.words(pilot.app)
        await pilot.press("f2")
        await settle(pilot)
        assert "Not saved: " in seen.text(pilot.app) and screen.file.get("train.steps") == 5007


@pytest.mark.parametrize("section", ["[[train]]\nseed = 5 # good", "train = 5"])
async def test_a_section_that_is_no_table_can_be_typed_in(path, section):
    """What else stands in it has an effect from then on, and is shown."""
    whole = path.read_text().replace("[train]\nsteps = 500 # enough\n", "")
    path.write_text(f"{section}\n{whole}" if "=" in section.split("\n")[0] else f"{whole}{section}\n")
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("9")
        await settle(pilot)
        assert "[train]\n" in screen.file.text and screen.file.get("train.steps") == 10009
        seed = "5" if "seed" in section else "42"
        assert row(screen, "train.seed").editor.value == seed and row(screen, "train.steps").editor.value == "10009"


async def test_a_read_only_profile_is_asked_about_and_can_be_replaced(path):
    path.chmod(0o444)
    before = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("7", "f2")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask) and "read-only" in seen.words(pilot.app)
        await pilot.press("escape")
        await settle(pilot)
        assert path.read_text() == before and screen.file.modified
        await pilot.press("f2")
        await settle(pilot)
        await pilot.press("o")
        await settle(pilot)
        assert "steps = 5007" in path.read_text() and path.stat().st_mode & 0o777 == 0o444
        assert not screen.file.modified


async def test_a_read_only_profile_can_be_saved_as_a_copy(path):
    path.chmod(0o444)
    before = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("7", "f2")
        await settle(pilot)
        await pilot.press("c")
        await settle(pilot)
        assert path.read_text() == before
        assert screen.file.path.name == "mine-2.toml" and "steps = 5007" in screen.file.path.read_text()
        assert "mine-2" in title(pilot)


# -- the file is gone --------------------------------------------------------------------------------------------------


async def test_a_profile_that_was_deleted_is_no_longer_saved_and_leaving_asks(path):
    text = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        assert " saved " in title(pilot)
        path.unlink()
        await ticks(pilot, 3)
        assert "unsaved changes" in title(pilot) and "mine.toml is gone: F2 writes it again" in seen.words(pilot.app)
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask)
        await pilot.press("escape", "f2")
        await settle(pilot)
        assert pilot.app.screen is screen and path.read_text() == text
        await ticks(pilot)
        assert " saved " in title(pilot) and "gone" not in seen.words(pilot.app)


async def test_a_profile_that_comes_back_is_saved_again(path):
    text = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path)
        path.unlink()
        await ticks(pilot)
        path.write_text(text)
        await ticks(pilot, 2)
        assert " saved " in title(pilot) and "gone" not in seen.words(pilot.app)


# -- others write ------------------------------------------------------------------------------------------------------


async def test_a_mere_touch_says_nothing_and_is_no_change(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("7")
        later(path)
        await ticks(pilot)
        assert "Another program" not in seen.words(pilot.app)
        await pilot.press("f2")
        await settle(pilot)
        assert pilot.app.screen is screen and "steps = 5007" in path.read_text()


async def test_other_line_ends_from_another_program_are_no_change_and_are_kept(path):
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "train.steps")
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        later(path)
        await ticks(pilot)
        assert "Another program" not in seen.words(pilot.app)
        await pilot.press("7", "f2")
        await settle(pilot)
        raw = path.read_bytes()
        assert b"steps = 5007 # enough\r\n" in raw and raw.count(b"\n") == raw.count(b"\r\n")


async def test_a_file_broken_by_another_program_is_said_once_and_read_when_it_is_whole(path):
    whole = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        path.write_text("broken = [")
        later(path)
        await ticks(pilot)
        assert "cannot be read" in seen.words(pilot.app)
        screen.say("something else")
        await ticks(pilot, 3)
        assert "something else" in seen.words(pilot.app)
        path.write_text(whole.replace("500", "900"))
        later(path)
        await ticks(pilot)
        assert screen.file.get("train.steps") == 900 and "cannot be read" not in seen.words(pilot.app)


# -- a recipe's copy ---------------------------------------------------------------------------------------------------


async def test_a_recipes_copy_is_judged_where_it_is(path, tmp_path):
    """A path that started at the recipe's folder does not lead there from the person's own."""
    recipes = tmp_path / "recipes"
    (recipes / "models").mkdir(parents=True)
    base = tmp_path / "models" / "sdxl.safetensors"
    base.rename(recipes / "models" / "sdxl.safetensors")
    recipe = recipes / "r.toml"
    recipe.write_text(path.read_text().replace(str(base), "models/sdxl.safetensors"))
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, recipe, recipe=True)
        await checked(pilot, screen)
        assert screen.problems == ()
        await pilot.press("f2")
        await settle(pilot)
        assert screen.verdict is None or screen.verdict.seen.path == screen.file.path
        await seen.work_done(pilot.app)
        await settle(pilot)
        assert [problem.path for problem in screen.problems] == ["model.base"]


async def test_a_check_of_the_recipe_that_comes_late_is_not_taken_for_the_copys(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, recipe=True)
        await checked(pilot, screen)
        late = screen.verdict
        await pilot.press("f2")
        await settle(pilot)
        assert screen.file.path != path
        await seen.work_done(pilot.app)
        await settle(pilot)
        screen._checked(late, {})
        assert screen.verdict.seen.path == screen.file.path


# -- the editor --------------------------------------------------------------------------------------------------------


@contextmanager
def no_terminal():
    """A test has no terminal that could be lent."""
    yield


@pytest.fixture
def in_latin_1(tmp_path, monkeypatch):
    """An editor that writes what it is given in Latin-1, with an accent."""
    script = tmp_path / "editor.py"
    script.write_text(
        "import pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "raw = path.read_bytes()\n"
        "path.with_name('seen').write_bytes(raw)\n"
        "pathlib.Path(__file__).with_name('seen').write_bytes(raw)\n"
        "path.write_bytes(raw.replace(b'third try', b'tr\\xe8s bien').replace(b'500', b'900'))\n"
    )
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", shlex.join([sys.executable, str(script)]))
    return tmp_path / "seen"


async def test_an_editors_text_that_is_not_utf_8_can_be_mended_or_read_as_it_is(path, monkeypatch, in_latin_1):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        monkeypatch.setattr(pilot.app, "suspend", no_terminal)
        screen.action_editor()
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask) and "UTF-8" in seen.words(pilot.app)
        await pilot.press("e")
        await settle(pilot)
        assert b"tr\xe8s bien" in in_latin_1.read_bytes()  # what was typed, as it was typed
        assert isinstance(pilot.app.screen, Ask)
        await pilot.press("l")
        await settle(pilot)
        assert screen.file.text.startswith("# très bien") and screen.file.get("train.steps") == 900


@pytest.mark.parametrize("named", ["no-such-editor-here", 'vi "', "/", " "])
async def test_an_editor_that_cannot_be_started_is_said_by_the_first_screen_and_the_form(path, monkeypatch, named):
    monkeypatch.setenv("EDITOR", named)
    monkeypatch.delenv("VISUAL", raising=False)
    async with at_home().run_test(size=(80, 24)) as pilot:
        monkeypatch.setattr(pilot.app, "suspend", no_terminal)
        await settle(pilot)
        home = pilot.app.screen
        assert isinstance(home, HomeScreen)
        home.profiles.select(str(path))
        said = "no editor is set" if not named.strip() else "could not be started"
        home.action_editor()
        await settle(pilot)
        assert said in seen.words(pilot.app)
        screen = await opened(pilot, path)
        screen.action_editor()
        await settle(pilot)
        assert said in seen.words(pilot.app) and not screen.file.modified


async def test_without_a_terminal_to_lend_the_editor_is_not_started_and_that_is_said(path, monkeypatch):
    monkeypatch.setenv("EDITOR", "true")
    async with at_home().run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        pilot.app.screen.profiles.select(str(path))
        pilot.app.screen.action_editor()
        await settle(pilot)
        assert "this terminal cannot be lent" in seen.words(pilot.app)


async def test_the_first_screen_shows_what_the_editor_made_of_the_file(path, tmp_path, monkeypatch):
    script = tmp_path / "editor.py"
    script.write_text("import pathlib, sys\np = pathlib.Path(sys.argv[1])\np.write_text(p.read_text() + '# more\\n')\n")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", shlex.join([sys.executable, str(script)]))
    async with at_home().run_test(size=(80, 24)) as pilot:
        monkeypatch.setattr(pilot.app, "suspend", no_terminal)
        await settle(pilot)
        pilot.app.screen.profiles.select(str(path))
        pilot.app.screen.action_editor()
        await settle(pilot)
    assert path.read_text().endswith("# more\n")
