"""What can be reached while letters are text: in each kind of text field that the form has."""

import re

import pytest
import seen
from forms import app, opened, row, settle, write_profile

from aozora_tui.key_names import is_text
from aozora_tui.keymap import SCOPES
from aozora_tui.own_keys import read_keys
from aozora_tui.screens.data import DataScreen
from aozora_tui.screens.profile import ProfileScreen
from aozora_tui.screens.profile_search import SearchScreen
from aozora_tui.screens.start import StartScreen

# A path, a number, a text, a colour, and each kind of list and table.
FIELDS = (
    "model.base",
    "train.steps",
    "preview.negative",
    "data.background",
    "data.folders",
    "preview.prompts",
    "objective.weight_curve",
    "optimizer.rates",
)
# What one does to what one is typing, or must do before one goes on.
WANTED = ("save", "start", "undo", "redo", "default", "problem", "search", "tool", "data", "layers")


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


@pytest.mark.parametrize("name", WANTED)
def test_what_is_wanted_while_one_types_has_a_key_that_is_no_letter_and_terminals_leave_alone(name):
    key = next(key for key in SCOPES["profile"] if key.id == f"profile.{name}")
    typed = [each for each in key.keys.split(",") if not is_text(each)]
    assert any(re.fullmatch(r"f([246789]|10)|ctrl\+[^abhijmopqsz]", each) for each in typed), key.keys
    assert all(problem.severity != "error" for problem in read_keys({key.id: key.keys})[1])


async def test_redo_makes_the_change_again_from_inside_any_text_field(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.seed")
        await pilot.press("end", "7")
        made = screen.file.text
        for field in FIELDS:
            screen.go_to(field)
            await settle(pilot)
            await pilot.press("f7")
            assert screen.file.text == path.read_text() != made, field
            screen.go_to(field)
            await settle(pilot)
            assert row(screen, field).editor.has_focus, field
            await pilot.press("ctrl+y")
            assert screen.file.text == made and row(screen, "train.seed").editor.has_focus, field


async def test_search_opens_from_inside_any_text_field_and_esc_comes_back_to_it(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        for field in FIELDS:
            screen.go_to(field)
            await settle(pilot)
            await pilot.press("ctrl+r")
            assert isinstance(pilot.app.screen, SearchScreen), field
            await pilot.press("escape")
            assert pilot.app.screen is screen and row(screen, field).editor.has_focus, field
            assert screen.file.text == path.read_text(), field


async def test_pictures_are_looked_at_from_inside_their_folders_field(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "data.folders")
        await pilot.press("ctrl+t")
        await seen.work_done(pilot.app)
        await settle(pilot)
        assert isinstance(pilot.app.screen, DataScreen)
        await pilot.press("escape")
        await settle(pilot)
        assert pilot.app.screen is screen and row(screen, "data.folders").editor.has_focus


async def test_the_key_bar_names_what_works_while_one_types(path):
    async with app().run_test(size=(120, 40)) as pilot:
        await opened(pilot, path, "preview.negative")
        bar = seen.text(pilot.app).splitlines()[-1]
        assert " ctrl+r search " in bar and " / search" not in bar


async def test_start_from_inside_a_field_leads_to_the_page(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "data.folders")
        assert isinstance(screen, ProfileScreen)
        await pilot.press("f6")
        await seen.work_done(pilot.app)
        await settle(pilot)
        assert isinstance(pilot.app.screen, StartScreen)
