"""Settings in the app: mistakes on the first screen, one's own keys everywhere, the file in an editor."""

import contextlib
import os
import sys

import pytest
import seen

from aozora_tui import settings
from aozora_tui.app import AozoraApp
from aozora_tui.screens.help import Help
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.rows import Rows
from aozora_tui.screens.settings import SettingsScreen
from engine.contract import places

SIZES = ((80, 24), (120, 40))


def app_with(text, **options):
    file = places.config_folder() / "settings.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return AozoraApp(settings=settings.read(os.environ).with_keys(), ticking=False, read_gpu=lambda _pid: (), **options)


async def test_what_is_wrong_is_said_on_the_first_screen_until_a_key_is_pressed():
    app = app_with('[look]\ntick = 99\nglyphs = "asci"\n')
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert isinstance(app.screen, HomeScreen)
        assert "! 2 settings are wrong and left out: press 9 to read more" in seen.text(app)
        await pilot.press("down")
        assert "settings are wrong" not in seen.text(app)


async def test_a_key_that_may_not_arrive_is_said_too():
    app = app_with('[keys]\n"run.log" = "f4,ctrl+b"\n')
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "! A key of yours may not arrive: press 9 to read more" in seen.text(app)


async def test_nothing_is_said_when_nothing_is_wrong():
    app = app_with("[look]\ntick = 2\n")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "settings" not in seen.text(app)


@pytest.mark.parametrize("size", SIZES)
async def test_the_screen_shows_every_setting_with_its_source_and_the_whole_sentences(size):
    app = app_with('[look]\nglyphs = "asci"\ntick = 3\n[keys]\n"run.log" = "f4"\n')
    async with app.run_test(size=size) as pilot:
        await pilot.press("9")
        assert isinstance(app.screen, SettingsScreen)
        said = seen.words(app)
        sentence = 'settings.toml: look.glyphs "asci" is not one of "auto", "unicode", "ascii". Did you mean "ascii"?'
        assert sentence in said
        assert "look.tick 3 s file" in said and "look.mouse on default" in said
        shown = next(line for line in seen.text(app).splitlines() if "folders.runs" in line).split()[1]
        assert os.environ["AOZORA_RUNS"].endswith(shown.lstrip("…"))
        await pilot.press("G")
        assert "run.log F4 file" in seen.words(app)
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)


async def test_own_keys_work_and_the_old_ones_no_longer():
    app = app_with('[keys]\n"app.settings" = "f12"\n"list.down" = "ctrl+n"\n')
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("9")
        assert isinstance(app.screen, HomeScreen)
        rows = app.screen.query_one("#profiles", Rows)
        before = rows.cursor
        await pilot.press("j")
        await pilot.press("down")
        assert rows.cursor == before
        await pilot.press("ctrl+n")
        assert rows.cursor == before + 1
        await pilot.press("f12")
        assert isinstance(app.screen, SettingsScreen)


async def test_swapped_keys_do_each_other_s_work():
    app = app_with('[keys]\n"list.page_down" = "pageup"\n"list.page_up" = "pagedown"\n')
    assert app.settings.problems == ()
    async with app.run_test(size=(80, 24)) as pilot:
        rows = app.screen.query_one("#profiles", Rows)
        rows.action_jump(0)
        await pilot.press("pageup")
        assert rows.cursor > 0
        await pilot.press("pagedown")
        assert rows.cursor == 0


async def test_key_bar_help_and_palette_show_own_keys():
    app = app_with('[keys]\n"home.edit" = "ctrl+e,f12"\n"app.help" = "f3,f1"\n"help.close" = "f7"\n')
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        bar = seen.text(app).splitlines()[-1]
        assert " ctrl+e edit " in bar and " F3 help " in bar
        commands = [command.title for command in app.get_system_commands(app.screen)]
        assert "Edit  (ctrl+e)" in commands and "Edit  (e)" not in commands
        await pilot.press("f3")
        assert isinstance(app.screen, Help)
        said = seen.text(app)
        assert "ctrl+e  F12" in said and "F7 close" in said
        await pilot.press("escape")
        assert isinstance(app.screen, Help)
        await pilot.press("f7")
        assert isinstance(app.screen, HomeScreen)


async def test_a_clashing_key_does_what_it_did():
    app = app_with('[keys]\n"home.edit" = "j"\n')
    async with app.run_test(size=(80, 24)) as pilot:
        rows = app.screen.query_one("#profiles", Rows)
        rows.action_jump(0)
        await pilot.press("j")
        assert rows.cursor == 1 and isinstance(app.screen, HomeScreen)


async def test_the_help_scrolls_with_vims_keys_as_with_arrows():
    app = app_with("")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        body = app.screen.query_one("#ask-body")
        for key, moved in (("j", 1), ("down", 2), ("k", 1), ("up", 0)):
            await pilot.press(key)
            assert body.scroll_y == moved
        await pilot.press("G")
        assert body.scroll_y == body.max_scroll_y > 0
        await pilot.press("g")
        assert body.scroll_y == 0


async def test_the_tick_is_the_one_that_was_set():
    app = app_with("[look]\ntick = 7\n")
    app.ticking = True
    intervals = []
    app.set_interval = lambda seconds, *_: intervals.append(seconds)
    async with app.run_test(size=(80, 24)):
        assert intervals == [7.0]


async def test_the_file_is_made_and_edited_and_its_keys_hold_at_once(monkeypatch, tmp_path):
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import pathlib, sys\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "assert 'Settings of Aozora TUI' in file.read_text()\n"
        'file.write_text(\'[look]\\ntheme = "nord"\\n[keys]\\n"settings.back" = "b"\\n\')\n'
    )
    monkeypatch.setenv("EDITOR", f"{sys.executable} {editor}")
    monkeypatch.delenv("VISUAL", raising=False)
    app = AozoraApp(settings=settings.read(os.environ).with_keys(), ticking=False)
    async with app.run_test(size=(80, 24)) as pilot:
        app.suspend = contextlib.nullcontext  # there is no terminal here to give away
        await pilot.press("9")
        assert "There is no file yet" in seen.text(app)
        await pilot.press("e")
        await pilot.pause()
        assert "look.theme nord file" in seen.words(app)
        assert app.theme == "nord" and " b back " in seen.text(app)
        await pilot.press("b")
        assert isinstance(app.screen, HomeScreen)


async def test_without_an_editor_it_says_what_to_do(monkeypatch):
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.delenv("VISUAL", raising=False)
    app = app_with("")
    async with app.run_test(size=(80, 24)) as pilot:
        app.suspend = contextlib.nullcontext
        await pilot.press("9")
        await pilot.press("e")
        assert "no editor is set: `export EDITOR=nano`" in seen.text(app)


async def test_the_screen_sends_nothing_when_idle_and_little_when_the_cursor_moves():
    app = app_with("[look]\ntick = 3\n", driver_class=seen.CountingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        await pilot.pause()
        await seen.work_done(app)
        await pilot.press("9")
        await pilot.pause()
        assert isinstance(app.screen, SettingsScreen)
        driver = app._driver
        driver.sent = 0
        app.tick()
        await pilot.pause()
        assert driver.sent == 0
        await pilot.press("down")
        await pilot.pause()
        assert 0 < driver.sent < 1024
