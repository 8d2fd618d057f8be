"""Unsaved changes are asked about, whatever screen lies over them."""

import os
import signal

import pytest
import seen
from forms import app, opened, settle, write_profile

from aozora_tui import drafts
from aozora_tui.screens.ask import Ask

OPENERS = ("action_data", "action_curves", "action_layers", "action_differ", "action_settings")


async def test_changes_under_another_screen_are_asked_about(tmp_path):
    path = write_profile(tmp_path)
    before = path.read_text()
    made = app()
    async with made.run_test(size=(120, 40)) as pilot:
        form = await opened(pilot, path, "train.steps")
        await pilot.press("end", "0")
        await settle(pilot)
        assert form.file.modified
        for opener, key in (*((opener, "q") for opener in OPENERS), ("action_data", "1"), ("action_data", "ctrl+c")):
            getattr(made if opener == "action_settings" else form, opener)()
            await settle(pilot)
            await seen.work_done(made)
            await settle(pilot)
            over = made.screen
            assert over is not form, opener
            await pilot.press(key)
            await settle(pilot)
            assert isinstance(made.screen, Ask) and not made._exit, (opener, key)
            await pilot.press("escape")
            await settle(pilot)
            assert made.screen is over, (opener, key)
            assert form in made.screen_stack and form.file.modified and path.read_text() == before, (opener, key)
            while made.screen is not form:
                made.pop_screen()
                await settle(pilot)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
async def test_what_is_not_saved_outlives_the_terminal(tmp_path, number):
    path = write_profile(tmp_path)
    made = app()
    async with made.run_test(size=(120, 40)) as pilot:
        form = await opened(pilot, path, "train.steps")
        await pilot.press("end", "7")
        await settle(pilot)
        text = form.file.text
        os.kill(os.getpid(), number)
        await settle(pilot)
        assert made._exit
    (draft,) = drafts.of(path)
    assert draft.text == text != path.read_text()
