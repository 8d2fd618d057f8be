"""Unsaved edits outlive the terminal: kept when it goes, offered when the profile is opened again."""

import json

import pytest
import seen
from forms import app, opened, row, settle, write_profile

from aozora_tui import drafts
from aozora_tui.app import AozoraApp
from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.ask import Ask
from aozora_tui.screens.differ import DifferScreen
from aozora_tui.screens.profile import ProfileScreen
from engine.contract import places

NOW = 1_700_000_000.0


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


def texts(path):
    return [draft.text for draft in drafts.of(path)]


# -- the folder --------------------------------------------------------------------------------------------------------


def test_a_draft_has_the_text_and_what_it_was_made_of(path):
    kept = drafts.keep(path, "mine\n", "base\n", NOW)
    (draft,) = drafts.of(path)
    assert (draft.kept, draft.text, draft.base, draft.time) == (kept, "mine\n", "base\n", NOW)
    assert kept.parent == places.data_folder() / "drafts" and kept.name.startswith("mine-")
    assert json.loads(kept.read_text())["profile"] == str(path)
    assert [entry.name for entry in kept.parent.iterdir()] == [kept.name]
    drafts.forget(kept)
    drafts.forget(kept)
    assert drafts.of(path) == []


def test_no_draft_is_written_over_and_the_newest_comes_first(path):
    for text, at in (("one", 0), ("two", 0), ("three", 5), ("one", 9)):
        drafts.keep(path, text, "base", NOW + at)
    assert texts(path)[0] == "three" and sorted(texts(path)) == ["one", "three", "two"]  # the same one is kept once


def test_namesakes_have_drafts_of_their_own_and_a_link_none(path, tmp_path):
    drafts.keep(path, "mine", "base", NOW)
    (tmp_path / "link").symlink_to(path.parent)
    assert texts(tmp_path / "link" / "mine.toml") == ["mine"]
    assert texts(tmp_path / "elsewhere" / "mine.toml") == []


@pytest.mark.parametrize("name", ["m\udcffne", "a" * 250, "Größe [x]*?", "..."])
def test_any_name_of_a_profile_will_do(path, name):
    profile = path.with_name(f"{name}.toml")
    drafts.keep(profile, "mine", "base", NOW)
    assert texts(profile) == ["mine"]


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b"[" * 9999, b'{"profile": 1, "text": "", "base": ""}'])
def test_what_is_no_draft_is_passed_over_and_stays(path, raw):
    kept = drafts.keep(path, "mine", "base", NOW)
    other = kept.with_name(kept.name.replace(".json", "-2.json"))
    other.write_bytes(raw)
    assert texts(path) == ["mine"] and other.read_bytes() == raw


def test_what_the_screens_hold_is_kept_and_what_cannot_be_is_said(path):
    class Form:
        def __init__(self, result):
            self.result = result

        def keep_draft(self):
            if isinstance(self.result, Exception):
                raise self.result
            return self.result

    assert drafts.keep_all([object(), Form(None)]) == ""
    said = drafts.keep_all([Form("a"), Form(OSError("the disk is full")), Form("b")])
    assert said.startswith(f"Unsaved changes of a, b are kept in {drafts.folder()}")
    assert said.endswith("could not be kept: the disk is full.")


# -- the form ----------------------------------------------------------------------------------------------------------


async def closed_from_outside(path, *keys, field="train.steps"):
    """A form in which somebody types, and whose terminal then goes; returns the text that was in it."""
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, field)
        await pilot.press(*keys)
        drafts.keep_all(pilot.app.screen_stack)
        return screen.file.text


async def test_what_was_typed_is_offered_and_taken_over_as_one_change_until_it_is_saved(path):
    before = path.read_text()
    made = await closed_from_outside(path, "7")
    assert path.read_text() == before and texts(path) == [made] and "steps = 5007 # enough" in made
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        assert isinstance(pilot.app.screen, Ask)
        said = seen.words(pilot.app)
        assert "mine was closed with unsaved changes" in said and "It changes train.steps." in said
        await pilot.press("t")
        await settle(pilot)
        assert pilot.app.screen is screen and screen.file.text == made and screen.file.modified
        assert row(screen, "train.steps").editor.value == "5007" and texts(path) == [made]
        await pilot.press("f7")
        assert screen.file.text == before
        await pilot.press("ctrl+y", "f2")
        await settle(pilot)
        assert path.read_text() == made and texts(path) == []
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        assert pilot.app.screen is screen


async def test_a_form_without_unsaved_changes_keeps_nothing(path):
    await closed_from_outside(path)
    await closed_from_outside(path, "7", "backspace")
    assert texts(path) == [] and not drafts.folder().exists()


def left_behind(path):
    """The draft that the terminal of the first test left; without a start of the app."""
    made = path.read_text().replace("500", "5007")
    drafts.keep(path, made, path.read_text(), path.stat().st_mtime)
    return made


async def test_the_screens_over_the_form_do_not_hide_it(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("7", "escape", "v")
        await seen.work_done(pilot.app)
        await settle(pilot)
        assert isinstance(pilot.app.screen, DifferScreen)
        assert "mine" in drafts.keep_all(pilot.app.screen_stack)
        assert texts(path) == [screen.file.text]


async def test_esc_leaves_the_draft_for_the_next_time(path):
    made = left_behind(path)
    for _ in range(2):
        async with app().run_test(size=(80, 24)) as pilot:
            screen = await opened(pilot, path)
            assert isinstance(pilot.app.screen, Ask)
            await pilot.press("escape")
            await settle(pilot)
            assert pilot.app.screen is screen and not screen.file.modified
            await pilot.press("f2")
            await settle(pilot)
            assert texts(path) == [made]


async def test_a_draft_that_is_thrown_away_is_gone(path):
    left_behind(path)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("x")
        await settle(pilot)
        assert pilot.app.screen is screen and not screen.file.modified and texts(path) == []


async def test_the_difference_can_be_looked_at_and_taken_field_by_field_before_the_answer(path):
    made = await closed_from_outside(path, "7", "down", "1")
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("d")
        await settle(pilot)
        assert isinstance(pilot.app.screen, DifferScreen)
        assert "2 differences from what was not saved" in seen.words(pilot.app) and "5007" in seen.words(pilot.app)
        await pilot.press("x", "escape")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask) and screen.file.get("train.steps") == 5007
        await pilot.press("t")
        await settle(pilot)
        assert screen.file.text == made


async def test_to_go_to_a_field_from_the_difference_leaves_the_draft(path):
    left_behind(path)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("d")
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        assert pilot.app.screen is screen and row(screen, "train.steps").editor.has_focus
        assert len(texts(path)) == 1


async def test_what_the_file_has_become_since_stays(path):
    left_behind(path)
    path.write_text(path.read_text().replace("# third try", "# fourth try") + "seed = 9\n")
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        assert "The file was changed since, and keeps train.seed" in seen.words(pilot.app)
        await pilot.press("t")
        await settle(pilot)
        assert screen.file.get("train.steps") == 5007 and screen.file.get("train.seed") == 9
        assert screen.file.text.startswith("# fourth try")


async def test_what_both_changed_is_named(path):
    left_behind(path)
    path.write_text(path.read_text().replace("500", "900"))
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        assert "Both changed train.steps: it is taken from the draft" in seen.words(pilot.app)
        await pilot.press("t")
        await settle(pilot)
        assert screen.file.get("train.steps") == 5007


async def test_several_drafts_are_offered_one_after_the_other(path):
    left_behind(path)
    drafts.keep(path, path.read_text().replace("# third", "# last"), path.read_text(), NOW)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("t")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask) and "comments" in seen.words(pilot.app)
        await pilot.press("t")
        await settle(pilot)
        assert pilot.app.screen is screen
        assert screen.file.get("train.steps") == 5007 and screen.file.text.startswith("# last")
        await pilot.press("f2")
        await settle(pilot)
    assert texts(path) == []


async def test_what_was_saved_meanwhile_is_not_offered(path):
    made = left_behind(path)
    path.write_text(made)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        assert pilot.app.screen is screen and texts(path) == []


async def test_a_terminal_that_goes_again_leaves_one_draft_with_all_of_it(path):
    left_behind(path)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("t")
        await settle(pilot)
        row(screen, "train.steps").take_focus()
        await pilot.press("8")
        await settle(pilot)
        for _ in range(2):
            drafts.keep_all(pilot.app.screen_stack)
        assert texts(path) == [screen.file.text] and "steps = 5008" in screen.file.text


async def test_edits_of_a_recipe_are_offered_with_the_recipe(path, tmp_path):
    recipe = tmp_path / "recipes" / "r.toml"
    recipe.parent.mkdir()
    recipe.write_text(path.read_text())
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, recipe, "train.steps", recipe=True)
        await pilot.press("7")
        drafts.keep_all(pilot.app.screen_stack)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, recipe, recipe=True)
        await pilot.press("t", "f2")
        await settle(pilot)
        assert screen.file.path.parent == places.profiles_folder() and screen.file.get("train.steps") == 5007
    assert texts(recipe) == [] and "500 #" in recipe.read_text()


async def test_a_profile_whose_file_went_too_is_kept(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        path.unlink()
        assert "mine" in drafts.keep_all(pilot.app.screen_stack)
        assert texts(path) == [screen.file.text]


async def test_a_draft_that_is_no_toml_is_named_and_stays(path):
    kept = drafts.keep(path, "[tra", path.read_text(), NOW)
    async with app().run_test(size=(120, 24)) as pilot:
        screen = await opened(pilot, path)
        assert pilot.app.screen is screen and "A draft of mine.toml cannot be read" in seen.words(pilot.app)
    assert kept.exists()


async def test_the_panel_fits_a_small_terminal(path):
    left_behind(path)
    path.write_text(path.read_text().replace("500", "900") + "seed = 9\n")
    later = AozoraApp(ticking=False, read_gpu=lambda pid: (), clock=lambda: path.stat().st_mtime + 7200)
    async with later.run_test(size=(60, 15)) as pilot:
        pilot.app.push_screen(ProfileScreen(ProfileFile.open(path)))
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask)
        said = seen.words(pilot.app)
        assert "2 h ago. It changes train.steps" in said and "esc leaves it for the next time" in said
        assert "enter take it d compare x drop it esc cancel" in said


# -- of deleted files, and at a failure --------------------------------------------------------------------------------


def at_home():
    return AozoraApp(ticking=False, read_gpu=lambda pid: ())


async def test_a_draft_whose_profile_is_gone_is_listed_and_written_again(path):
    made = await closed_from_outside(path, "7")
    path.unlink()
    assert list(drafts.of_deleted()) == [path]
    async with at_home().run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        line = next(line for line in seen.text(pilot.app).splitlines() if " mine " in line)
        assert "gone, draft kept" in line
        pilot.app.screen.profiles.select(str(path))
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask) and "The file of mine is gone" in seen.words(pilot.app)
        await pilot.press("enter")
        await settle(pilot)
        assert isinstance(pilot.app.screen, ProfileScreen)
        assert path.read_text() == made and texts(path) == []


async def test_a_draft_of_a_deleted_profile_is_dropped_only_by_its_key(path):
    await closed_from_outside(path, "7")
    path.unlink()
    async with at_home().run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        pilot.app.screen.profiles.select(str(path))
        await pilot.press("X", "escape")
        assert len(texts(path)) == 1
        await pilot.press("X", "x")
        await settle(pilot)
        assert texts(path) == [] and " mine " not in seen.text(pilot.app) and not path.exists()


async def test_a_failure_that_ends_the_app_keeps_what_is_not_saved(path):
    class Broken(Exception):
        pass

    text = ""
    with pytest.raises(Broken):
        async with app().run_test(size=(80, 24)) as pilot:
            screen = await opened(pilot, path, "train.steps")
            await pilot.press("7")
            text = screen.file.text

            def fail():
                raise Broken

            pilot.app.call_later(fail)
            await pilot.pause()
    assert texts(path) == [text] and "5007" in text
