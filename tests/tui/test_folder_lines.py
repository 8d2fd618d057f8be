"""Folders of pictures: completed with tab line by line, and found by moving through the disk."""

import pytest
import seen
from forms import app, opened, paste, row, settle, write_profile

from aozora_tui.screens.path_input import Completer
from aozora_tui.screens.picker import Picker

FIELD = "data.folders"


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


@pytest.fixture
def disk(tmp_path):
    """Two folders that begin alike, one with another in it, and a file that must not be offered."""
    folder = tmp_path / "disk"
    for name in ("cats-indoors/summer", "cats-outdoors", "two  words"):
        (folder / name).mkdir(parents=True)
    (folder / "cats.txt").touch()
    return folder


async def at_the_folders(pilot, path, *, line=None):
    """With `line` in a second line of its own, the cursor behind it."""
    screen = await opened(pilot, path, FIELD)
    editor(screen).move_cursor(editor(screen).document.end)
    if line is not None:
        await pilot.press("enter")
        await paste(pilot, line)
    await settle(pilot)
    return screen


def editor(screen):
    return row(screen, FIELD).editor


def paths(screen):
    return [entry["path"] for entry in screen.file.get(FIELD)]


async def test_tab_completes_the_line_of_the_cursor_and_goes_through_what_is_left(path, disk):
    async with app().run_test(size=(120, 40)) as pilot:
        screen = await at_the_folders(pilot, path, line=f"3 x {disk}/c")
        first = editor(screen).text.split("\n")[0]
        await pilot.press("tab")
        assert editor(screen).text.split("\n") == [first, f"3 x {disk}/cats-"]
        for name in ("indoors", "outdoors", "indoors"):
            await pilot.press("tab")
            assert editor(screen).text.split("\n") == [first, f"3 x {disk}/cats-{name}/"]
            assert f"[cats-{name}/]" in seen.text(pilot.app) and editor(screen).has_focus
        await settle(pilot)
        assert paths(screen)[1:] == [f"{disk}/cats-indoors/"] and screen.file.get(FIELD)[1]["repeats"] == 3


async def test_a_completed_folder_is_gone_on_from(path, disk):
    async with app().run_test(size=(120, 40)) as pilot:
        screen = await at_the_folders(pilot, path, line=f"{disk}/cats-i")
        await pilot.press("tab")
        assert editor(screen).path == f"{disk}/cats-indoors/"
        await pilot.press("tab")
        assert editor(screen).path == f"{disk}/cats-indoors/summer/"
        await pilot.press("tab")
        assert not editor(screen).has_focus


async def test_tab_leaves_folders_that_are_there_and_lines_with_nothing_to_add(path, disk):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await at_the_folders(pilot, path)
        text = editor(screen).text
        await pilot.press("tab")
        assert not editor(screen).has_focus
        for line in ("", f"{disk}/nothing-like-this"):
            editor(screen).focus()
            editor(screen).move_cursor(editor(screen).document.end)
            await pilot.press("enter")
            await paste(pilot, line)
            await pilot.press("tab")
            assert not editor(screen).has_focus
        assert editor(screen).text.split("\n") == [*text.split("\n"), "", f"{disk}/nothing-like-this"]


async def test_in_the_middle_of_a_line_nothing_is_completed(path, disk):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await at_the_folders(pilot, path, line=f"{disk}/c")
        await pilot.press("left", "tab")
        assert editor(screen).text.endswith(f"{disk}/c")


async def test_relative_folders_start_where_the_profile_is(path, disk):
    (path.parent / "beside").mkdir()
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await at_the_folders(pilot, path, line="besi")
        await pilot.press("tab")
        assert editor(screen).path == "beside/"


async def pick(pilot, name):
    await seen.work_done(pilot.app)
    await settle(pilot)
    assert isinstance(pilot.app.screen, Picker)
    pilot.app.screen.rows.select(name)
    await pilot.press("space")
    await settle(pilot)


async def test_a_picked_folder_takes_the_place_of_the_line_and_is_one_change(path, disk):
    async with app().run_test(size=(120, 40)) as pilot:
        screen = await at_the_folders(pilot, path, line=f"2 x {disk}/cats-indoors")
        before, first = screen.file.text, paths(screen)[0]
        await pilot.press("ctrl+g")
        await seen.work_done(pilot.app)
        assert pilot.app.screen.folder == disk / "cats-indoors"
        await pilot.press("left")
        await pick(pilot, "two  words/")
        assert pilot.app.screen is screen and editor(screen).has_focus
        assert paths(screen) == [first, f"{disk}/two  words"] and screen.file.get(FIELD)[1]["repeats"] == 2
        assert "ctrl+t shows the pictures of" in seen.words(pilot.app)
        await pilot.press("f7")
        await settle(pilot)
        assert screen.file.text == before and paths(screen) == [first, f"{disk}/cats-indoors"]


async def test_the_first_folder_of_a_profile_can_be_picked(path, disk):
    text = path.read_text()
    path.write_text(text[: text.index("[[data")] + text[text.index("[train]") :])
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await at_the_folders(pilot, path)
        assert editor(screen).text == ""
        await paste(pilot, str(disk))
        await pilot.press("ctrl+g")
        await pick(pilot, "cats-outdoors/")
        assert paths(screen) == [f"{disk}/cats-outdoors"]


async def test_esc_in_the_picker_changes_nothing(path, disk):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await at_the_folders(pilot, path)
        await pilot.press("ctrl+g")
        await seen.work_done(pilot.app)
        await pilot.press("escape")
        await settle(pilot)
        assert pilot.app.screen is screen and editor(screen).has_focus and screen.file.text == path.read_text()


def test_offers_are_forgotten_when_something_else_is_typed(disk):
    completer = Completer(only_folders=True)
    first = completer.next(f"{disk}/cats-", disk, at_end=True)
    assert first is not None and first.listed is not None and first.listed.names == ("cats-indoors/", "cats-outdoors/")
    assert completer.next(f"{disk}/t", disk, at_end=True).text == f"{disk}/two  words/"
    assert completer.next("", disk, at_end=True) is None


async def test_every_folder_is_seen_where_paths_are_longer_than_the_line(path, tmp_path):
    names = [f"{tmp_path}/{'long-' * 20}{number}" for number in range(3)]
    entries = "".join(f'[[data.folders]]\npath = "{name}"\n' for name in names)
    path.write_text(path.read_text().replace("[train]", entries + "[train]"))
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "data.folders")
        field = editor(screen)
        assert field.size.height == 4 and field.scrollable_content_region.height == 4
