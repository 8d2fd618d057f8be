"""What the form opens, and what comes back from there."""

import pytest
import seen
from forms import app, checked, opened, row, settle, write_profile

from aozora_tui.app import AozoraApp
from aozora_tui.screens.curves import CurvesScreen
from aozora_tui.screens.data import DataScreen
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.layers import LayersScreen
from aozora_tui.screens.picker import Picker
from aozora_tui.screens.profile import ProfileScreen
from aozora_tui.screens.start import StartScreen


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


async def done(pilot):
    await seen.work_done(pilot.app)
    await settle(pilot)


TOOLS = {
    "schedule.curve": CurvesScreen,
    "objective.weight_curve": CurvesScreen,
    "objective.timestep_curve": CurvesScreen,
    "layers.train": LayersScreen,
    "layers.freeze": LayersScreen,
    "optimizer.rates": LayersScreen,
    "data.folders": Picker,
    "model.base": Picker,
    "model.vae": Picker,
    "model.tokenizer": Picker,
    "data.cache": Picker,
}


async def test_one_key_opens_the_tool_of_the_field_and_esc_comes_back_with_nothing_changed(path):
    before = path.read_text()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        for name, tool in TOOLS.items():
            screen.go_to(name)
            await settle(pilot)
            await pilot.press("ctrl+g")
            await done(pilot)
            assert isinstance(pilot.app.screen, tool), name
            while pilot.app.screen is not screen:
                await pilot.press("escape")
                await done(pilot)
            assert screen.file.text == before and row(screen, name).editor.has_focus, name


async def test_a_field_that_has_no_tool_says_so(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("ctrl+g")
        assert pilot.app.screen is screen and "Steps is set right here" in seen.text(pilot.app)


async def test_letters_open_the_screens_from_the_sections(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        for key, kind in (("t", LayersScreen), ("c", CurvesScreen), ("d", DataScreen), ("s", StartScreen)):
            await pilot.press(key)
            await done(pilot)
            assert isinstance(pilot.app.screen, kind), key
            await pilot.press("escape")
            await done(pilot)
            assert pilot.app.screen is screen, key


async def test_what_another_screen_gives_back_is_one_change_and_defaults_are_not_written(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        await pilot.press("7")
        before = screen.file.text
        screen._take(
            {"layers.train": ["mid_block.*"], "layers.freeze": [], "optimizer.rates": {"attn2": 0.5}}, "Layers"
        )
        await settle(pilot)
        assert screen.file.get("layers.train") == ["mid_block.*"] and screen.file.get("layers.freeze") is None
        made = screen.file.text
        await pilot.press("f7")
        assert screen.file.text == before
        await pilot.press("ctrl+y")
        assert screen.file.text == made
        await pilot.press("f7", "f7")
        assert screen.file.text == path.read_text()


async def test_start_shows_the_page_and_esc_comes_back(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("f6")
        await done(pilot)
        assert isinstance(pilot.app.screen, StartScreen)
        await pilot.press("escape")
        await settle(pilot)
        assert pilot.app.screen is screen
        await pilot.press("escape")
        await settle(pilot)
        assert isinstance(pilot.app.screen, HomeScreen)


async def test_a_letter_typed_costs_at_most_two_kilobytes(path):
    paying = AozoraApp(ticking=False, read_gpu=lambda pid: (), driver_class=seen.CountingDriver)
    async with paying.run_test(headless=False, size=(120, 40)) as pilot:
        screen = await opened(pilot, path)
        for name in ("train.steps", "model.base", "optimizer.weight_decay", "preview.negative"):
            screen.go_to(name)
            await checked(pilot, screen)
            for key in ("1", "2", "backspace", "ctrl+up"):
                pilot.app._driver.sent = 0
                await pilot.press(key)
                assert pilot.app._driver.sent < 2000, (name, key)
                await checked(pilot, screen)
                assert pilot.app._driver.sent < 8000, (name, key)  # what the check says moves rows, once
            while screen.file.modified:  # the next field is typed in as if nothing was wrong before
                await pilot.press("f7")
            assert screen.file.text == path.read_text(), name
        assert isinstance(pilot.app.screen, ProfileScreen)
