"""Finding a setting by a word, and seeing only what was changed."""

import pytest
import seen
from forms import app, opened, row, settle, write_profile

from aozora_tui.app import AozoraApp
from aozora_tui.screens.profile_search import SearchScreen, hits
from engine.contract.fields import form_fields


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


@pytest.mark.parametrize("field", form_fields().values(), ids=lambda field: field.path)
def test_every_field_is_found_by_its_name_and_its_path(field):
    assert field in hits(field.label.upper()) and field in hits(field.path)


def test_names_come_before_help_and_all_words_count():
    found = hits("learning rate")
    assert found[0].path == "optimizer.learning_rate"
    assert all("rate" in f"{field.label} {field.path} {field.help}".lower() for field in found)
    assert not hits("learning zebra") and len(hits("")) == len(form_fields())


async def test_enter_goes_to_the_field_and_escape_back(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("slash", *"gamma")
        await settle(pilot)
        assert isinstance(pilot.app.screen, SearchScreen)
        assert "Min-SNR" in seen.text(pilot.app) and "Objective" in seen.text(pilot.app)
        await pilot.press("enter")
        await settle(pilot)
        assert pilot.app.screen is screen and screen.focused is row(screen, hits("gamma")[0].path).editor
        await pilot.press("escape", "slash", "x", "escape", "escape")
        await settle(pilot)
        assert pilot.app.screen is screen


async def test_arrows_choose_among_the_hits_while_the_word_is_typed(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("slash", *"seed", "down", "enter")
        await settle(pilot)
        assert screen.focused is row(screen, hits("seed")[1].path).editor


async def test_only_changed_shows_what_differs_from_the_defaults_and_search_finds_the_rest(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("o", "j", "j", "j")
        await settle(pilot)
        shown = [name for name, found in screen._form().rows.items() if found.display]
        assert shown == ["train.steps"] and "o shows them" in seen.text(pilot.app)
        screen.go_to("train.seed")
        await settle(pilot)
        assert row(screen, "train.seed").editor.has_focus and row(screen, "train.batch_size").display


async def test_a_key_in_the_search_costs_little(path):
    paying = AozoraApp(ticking=False, read_gpu=lambda pid: (), driver_class=seen.CountingDriver)
    async with paying.run_test(headless=False, size=(120, 40)) as pilot:
        await opened(pilot, path)
        driver = pilot.app._driver
        await pilot.press("slash")
        for key in ("s", "e", "down", "down"):
            driver.sent = 0
            await pilot.press(key)
            assert driver.sent < (2000 if key == "down" else 12_000)


async def test_help_says_where_a_value_comes_from(path):
    async with app().run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "train.steps")
        assert "written in the file" in seen.words(pilot.app)
        await pilot.press("1")
        assert "changed, in the file 500" in seen.words(pilot.app)
        await pilot.press("down", "end", "2")
        assert "changed, not in the file" in seen.words(pilot.app)
        await pilot.press("down")
        assert "not written" in seen.words(pilot.app)
