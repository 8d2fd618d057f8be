"""Keys in the form: they reach every field, and what has the focus is on the screen."""

import pytest
import seen
from forms import app, checked, in_view, opened, row, settle, write_profile
from textual.command import CommandPalette
from textual.widgets import TextArea

from aozora_tui.app import AozoraApp
from aozora_tui.keymap import SCOPES
from aozora_tui.screens.ask import Ask
from aozora_tui.screens.form import FieldRow
from aozora_tui.screens.help import Help
from aozora_tui.screens.layers import LayersScreen
from engine.contract.fields import sections

LONG_CURVE = "weight_curve = [[0, 0.1], [100, 0.2], [200, 0.3], [300, 0.4], [400, 0.5], [500, 0.6], [999, 1]]"


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


def focused_row(screen):
    return next(node for node in screen.focused.ancestors_with_self if isinstance(node, FieldRow))


async def test_down_and_up_walk_through_every_row_in_view(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("a")  # those without effect too
        for section in sections():
            order = [field.path for field in section.fields]
            screen.go_to(order[0])
            await settle(pilot)
            back = order[::-1] if focused_row(screen).parent.max_scroll_y else ()  # there is something to scroll back
            for walk, key in ((order, "down"), (back, "up")):
                for path_of_row in walk:
                    found = focused_row(screen)
                    assert found.field.path == path_of_row
                    assert in_view(found), path_of_row
                    await pilot.press(key)
            assert focused_row(screen).field.path == order[0 if back else -1]


async def test_the_next_field_costs_its_help_and_two_rows_not_the_screen(path):
    paying = AozoraApp(ticking=False, read_gpu=lambda pid: (), driver_class=seen.CountingDriver)
    async with paying.run_test(headless=False, size=(120, 40)) as pilot:
        screen = await opened(pilot, path, "train.steps")
        driver = pilot.app._driver
        for name in ("train.batch_size", "train.accumulate", "train.max_grad_norm"):
            driver.sent = 0
            await pilot.press("down")
            assert focused_row(screen).field.path == name
            assert 0 < driver.sent < 2000


async def test_down_and_up_go_through_the_lines_of_a_list_first(path):
    path.write_text(f"{path.read_text()}[objective]\n{LONG_CURVE}\n")
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "objective.weight_floor")
        for line in range(7):
            await pilot.press("down")
            found = focused_row(screen)
            assert (found.field.path, found.editor.cursor_location[0]) == ("objective.weight_curve", line)
            assert in_view(found)
        await pilot.press("down")
        await settle(pilot)
        assert focused_row(screen).field.path == "objective.noise_offset"
        await pilot.press("up")
        assert focused_row(screen).field.path == "objective.weight_curve"


@pytest.mark.parametrize("key", ["tab", "enter", "shift+tab"])
async def test_other_ways_to_move_keep_the_field_in_view_too(path, key):
    first = "objective.timesteps" if key == "enter" else "objective.prediction_type"
    first = "objective.null_condition" if key == "shift+tab" else first
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, first)
        await pilot.press("down")
        for _ in range(8):
            await pilot.press(key)
            assert in_view(focused_row(screen)), focused_row(screen).field.path


async def test_what_is_said_under_the_last_row_on_the_screen_is_in_view(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "objective.prediction_type")
        lowest = [found for found in screen.query(FieldRow) if in_view(found)][-1]
        screen.go_to(lowest.field.path)
        await settle(pilot)
        above = row(screen, "objective.prediction_type")
        screen.file.set(above.field.path, "wrong")
        screen.refill()
        await settle(pilot)
        assert above.problem_text and in_view(lowest)


async def test_a_list_with_all_that_is_said_of_its_lines_is_in_view(path):
    curve = "timestep_curve = [[1, 2], [-3, 4], ['x']]"
    path.write_text(f"{path.read_text()}[objective]\n{curve}\n")
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "objective.timestep_curve")
        assert in_view(row(screen, "objective.timestep_curve"))
        assert row(screen, "objective.weight_curve").size.height == 1  # an empty list takes one line
        assert "much: 500 0.4." in seen.text(pilot.app)


async def test_of_a_row_taller_than_the_screen_the_text_is_in_view(path):
    curve = "weight_curve = [[1], [2], [3], [4], [5], [6], [7], [8], [9], [10], [11], [12]]"
    path.write_text(f"{path.read_text()}[objective]\n{curve}\n")
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "objective.weight_curve")
        found = row(screen, "objective.weight_curve")
        assert not in_view(found)
        for _ in range(12):
            await pilot.press("down")
            editor = screen.focused
            assert found.parent.content_region.contains_region(editor.region)
        assert editor is not found.editor


async def test_the_next_problem_is_in_view_the_first_time_its_section_is_shown(path):
    path.write_text(f"{path.read_text()}[objective]\nconditional_dropout = 7\n")
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path)
        await pilot.press("f10")
        await settle(pilot)
        found = row(screen, "objective.conditional_dropout")
        assert found.editor.has_focus and in_view(found)
        assert "7 is not a number from 0 to 1" in seen.words(pilot.app)


async def in_a_list(pilot, path):
    """The cursor in the second line of the weight curve, one number of which was changed."""
    text = "objective.weight_curve"
    path.write_text(f"{path.read_text()}[objective]\nweight_curve = [[0, 0.5], [999, 2]]\n")
    screen = await opened(pilot, path, text)
    assert isinstance(screen.focused, TextArea)
    await pilot.press("down", "end", "5")
    await settle(pilot)
    assert screen.file.get(text) == [[0, 0.5], [999, 25]]
    return screen


async def test_undo_and_default_work_inside_a_list(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await in_a_list(pilot, path)
        await pilot.press("f7")
        await settle(pilot)
        assert screen.file.get("objective.weight_curve") == [[0, 0.5], [999, 2]]
        assert row(screen, "objective.weight_curve").editor.text == "0 0.5\n999 2"
        assert not screen.focused.selected_text
        await pilot.press("f8")
        await settle(pilot)
        assert screen.file.get("objective.weight_curve") is None


async def test_save_works_inside_a_list(path):
    async with app().run_test(size=(80, 24)) as pilot:
        await in_a_list(pilot, path)
        await pilot.press("f2")
        await settle(pilot)
    assert "[999, 25]" in path.read_text()


async def test_start_works_inside_a_list(path):
    async with app().run_test(size=(80, 24)) as pilot:
        await in_a_list(pilot, path)
        await pilot.press("f6")
        await settle(pilot)
        assert isinstance(pilot.app.screen, Ask) and "save and start" in seen.text(pilot.app)


async def test_keys_that_open_something_work_inside_a_list(path):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await in_a_list(pilot, path)
        for key, shown in (("f1", Help), ("f4", LayersScreen), ("f9", CommandPalette)):
            await pilot.press(key)
            if key != "f9":  # whose workers end when it is closed
                await seen.work_done(pilot.app)
            await settle(pilot)
            assert isinstance(pilot.app.screen, shown)
            await pilot.press("escape")
            await settle(pilot)
            assert pilot.app.screen is screen and isinstance(screen.focused, TextArea)


async def test_the_next_problem_is_found_from_inside_a_list(path):
    path.write_text(path.read_text().replace("500", "0"))
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await in_a_list(pilot, path)
        await checked(pilot, screen)
        await pilot.press("f10")
        await settle(pilot)
        assert row(screen, "train.steps").editor.has_focus


def test_every_f_key_of_the_form_is_tested_from_inside_a_list():
    scopes = (*SCOPES["profile"], *SCOPES["app"])
    f_keys = {name for key in scopes for name in key.names if name[0] == "F" and name[1:].isdecimal()}
    assert f_keys == {"F1", "F2", "F4", "F6", "F7", "F8", "F9", "F10"}
