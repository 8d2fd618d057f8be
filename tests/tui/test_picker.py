"""Paths: completed with tab, and found by moving through the disk, where a checkpoint says what it is."""

import fake_checkpoint
import pytest
import seen
from forms import app, opened, paste, row, settle, write_profile

from aozora_tui.app import AozoraApp
from aozora_tui.screens import picker_entries
from aozora_tui.screens.path_input import completions
from aozora_tui.screens.picker import Picker


@pytest.fixture
def path(tmp_path):
    return write_profile(tmp_path)


@pytest.fixture
def disk(tmp_path):
    """Two checkpoints that begin alike, one that is none, a folder, a hidden file."""
    folder = tmp_path / "disk"
    fake_checkpoint.write(folder / "base-v.safetensors")
    fake_checkpoint.write(folder / "base-eps.safetensors", markers=())
    (folder / "base-broken.safetensors").write_bytes(b"nothing")
    (folder / "Loras").mkdir()
    (folder / "Loras" / "one.safetensors").write_bytes(b"")
    (folder / "notes.txt").touch()
    (folder / ".hidden").touch()
    return folder


def test_completions_are_written_as_the_text_is(disk, monkeypatch):
    def names(text, **options):
        return completions(text, disk.parent, only_folders=options.get("only_folders", False))

    assert names("disk/no") == ["disk/notes.txt"]
    assert names("disk/lo") == ["disk/Loras/"]
    assert names("dis") == ["disk/"] and names("..") == ["../"]
    assert names("disk/", only_folders=True) == ["disk/Loras/"]
    assert names("disk/.h") == ["disk/.hidden"] and "disk/.hidden" not in names("disk/")
    assert names("/nowhere/x") == []
    monkeypatch.setenv("HOME", str(disk.parent))
    assert names("~/di") == ["~/disk/"]


async def at_the_base(pilot, path, text):
    screen = await opened(pilot, path, "model.base")
    await pilot.press("end", "ctrl+u")
    await paste(pilot, text)
    await settle(pilot)
    return screen


def base(screen):
    return row(screen, "model.base").editor


async def test_tab_completes_as_far_as_it_can_be_told_then_goes_through_the_rest(path, disk):
    async with app().run_test(size=(120, 40)) as pilot:
        screen = await at_the_base(pilot, path, f"{disk}/b")
        await pilot.press("tab")
        assert base(screen).value == f"{disk}/base-" and base(screen).has_focus
        for name in ("broken", "eps", "v", "broken"):
            await pilot.press("tab")
            assert base(screen).value == f"{disk}/base-{name}.safetensors"
            assert f"[base-{name}.safetensors]" in seen.text(pilot.app)
        assert screen.file.get("model.base") == f"{disk}/base-broken.safetensors"
        await pilot.press(*["backspace"] * 18, "v", "tab")
        assert base(screen).value == f"{disk}/base-v.safetensors" and base(screen).has_focus
        await pilot.press("tab")
        assert not base(screen).has_focus


async def test_tab_leaves_a_field_that_has_nothing_to_complete(path, disk):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "model.base")
        before = base(screen).value
        await pilot.press("tab")
        assert row(screen, "model.vae").editor.has_focus and base(screen).value == before
        await pilot.press("tab")
        assert row(screen, "model.tokenizer").editor.has_focus
        await pilot.press("tab")
        assert not row(screen, "model.tokenizer").editor.has_focus
        assert not screen.file.modified


async def open_picker(pilot, path, disk):
    screen = await at_the_base(pilot, path, f"{disk}/base-v.safetensors")
    await pilot.press("ctrl+g")
    await seen.work_done(pilot.app)
    await settle(pilot)
    assert isinstance(pilot.app.screen, Picker)
    return screen


async def test_the_picker_begins_at_the_file_and_says_what_it_is_as_one_moves(path, disk):
    async with app().run_test(size=(120, 40)) as pilot:
        await open_picker(pilot, path, disk)
        assert pilot.app.screen.rows.key == "base-v.safetensors"
        assert "SDXL base, 6.9 GB" in seen.words(pilot.app) or "SDXL base," in seen.words(pilot.app)
        assert "predicts v_prediction, zero terminal SNR" in seen.words(pilot.app)
        await pilot.press("k")
        await seen.work_done(pilot.app)
        assert "predicts epsilon" in seen.words(pilot.app)
        await pilot.press("up")
        await seen.work_done(pilot.app)
        assert "predicts" not in seen.words(pilot.app) and "base-broken.safetensors" in seen.text(pilot.app)
        assert "notes.txt" not in seen.text(pilot.app) and ".hidden" not in seen.text(pilot.app)


async def test_what_was_picked_is_one_change_of_the_profile(path, disk):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_picker(pilot, path, disk)
        await pilot.press("k", "enter")
        await settle(pilot)
        assert pilot.app.screen is screen and base(screen).has_focus
        assert screen.file.get("model.base") == base(screen).value == f"{disk}/base-eps.safetensors"
        await pilot.press("f7")
        assert base(screen).value == f"{disk}/base-v.safetensors"
        await pilot.press("ctrl+y")
        assert base(screen).value == f"{disk}/base-eps.safetensors"


async def test_folders_are_gone_into_and_out_of_with_arrows_and_letters(path, disk):
    async with app().run_test(size=(80, 24)) as pilot:
        await open_picker(pilot, path, disk)
        for into, out in (("l", "h"), ("right", "left"), ("enter", "backspace")):
            pilot.app.screen.rows.select("Loras/")
            await pilot.press(into)
            await seen.work_done(pilot.app)
            await settle(pilot)
            assert pilot.app.screen.folder == disk / "Loras" and pilot.app.screen.rows.key == "one.safetensors"
            await pilot.press(out)
            await seen.work_done(pilot.app)
            await settle(pilot)
            assert pilot.app.screen.folder == disk and pilot.app.screen.rows.key == "Loras/"


async def test_the_filter_narrows_as_one_types_and_escape_takes_it_away(path, disk):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await open_picker(pilot, path, disk)
        await pilot.press("slash", *"EPS")
        await settle(pilot)
        assert [line.key for line in pilot.app.screen.rows.lines] == ["base-eps.safetensors"]
        await pilot.press("escape", "escape")
        await settle(pilot)
        assert len(pilot.app.screen.rows.lines) > 3 and pilot.app.screen.rows.has_focus
        await pilot.press("slash", *"eps", "enter")
        await settle(pilot)
        assert screen.file.get("model.base") == f"{disk}/base-eps.safetensors"


async def test_a_folder_is_wanted_for_a_folder(path, disk):
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "model.tokenizer")
        await paste(pilot, str(disk))
        await pilot.press("ctrl+g")
        await seen.work_done(pilot.app)
        await settle(pilot)
        assert [line.key for line in pilot.app.screen.rows.lines] == ["./", "../", "Loras/"]
        pilot.app.screen.rows.select("Loras/")
        await pilot.press("space")
        await settle(pilot)
        assert screen.file.get("model.tokenizer") == f"{disk}/Loras"


async def test_the_folder_above_is_the_right_one_where_the_path_goes_up_itself(path, disk):
    async with app().run_test(size=(80, 24)) as pilot:
        picker = Picker("Base", "Loras/../../disk/base-v.safetensors", disk, suffixes=(".safetensors",))
        pilot.app.push_screen(picker)
        await seen.work_done(pilot.app)
        await settle(pilot)
        assert picker.folder == disk.resolve() and picker.rows.key == "base-v.safetensors"
        await pilot.press("left")
        await seen.work_done(pilot.app)
        await settle(pilot)
        assert picker.folder == disk.parent.resolve() and picker.rows.key == "disk/"


async def test_the_line_below_says_what_the_keys_do_with_an_entry(path, disk):
    async with app().run_test(size=(80, 24)) as pilot:
        picker = Picker("Compare with", "", disk, suffixes=(".txt",), folders=True)
        picker.folder = disk
        pilot.app.push_screen(picker)
        await seen.work_done(pilot.app)
        await settle(pilot)
        for key, said, takes in (
            ("notes.txt", "enter takes this file", False),
            ("Loras/", "enter goes into the folder, space takes it", True),
            ("./", "enter takes this folder", False),
            ("../", "enter goes to the folder above", False),
        ):
            picker.rows.select(key)
            await settle(pilot)
            assert said in seen.text(pilot.app)
            assert (" space take " in seen.text(pilot.app)) == takes


def test_a_header_is_read_once_for_a_file_that_stays_the_same(disk, monkeypatch):
    file = disk / "base-v.safetensors"
    first = picker_entries.about_file(file)
    monkeypatch.setattr("aozora_tui.inspect_file.inspect", None)
    assert picker_entries.about_file(file) == first and "SDXL base" in first[0]


async def test_moving_in_the_picker_costs_little(path, disk):
    for index in range(300):
        (disk / f"z{index:03}.safetensors").write_bytes(b"")
    paying = AozoraApp(ticking=False, read_gpu=lambda pid: (), driver_class=seen.CountingDriver)
    async with paying.run_test(headless=False, size=(120, 40)) as pilot:
        await open_picker(pilot, path, disk)
        for key in ("down", "k", "j"):
            pilot.app._driver.sent = 0
            await pilot.press(key)
            await seen.work_done(pilot.app)
            await settle(pilot)
            assert 0 < pilot.app._driver.sent < 2000
