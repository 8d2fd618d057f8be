"""Sentences and panels that name a key name the person's own."""

import os

import fake_run
import pytest
import seen
from forms import opened, settle, write_profile

from aozora_tui import settings
from aozora_tui.app import AozoraApp
from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens import steer
from aozora_tui.screens.ask import Answer, Ask
from aozora_tui.screens.ask_name import AskName
from aozora_tui.screens.ask_rate import AskRate
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.profile import ProfileScreen
from engine.contract import places

KEYS = """[keys]
"ask.cancel" = "f12"
"ask.accept" = "ctrl+n"
"profile.all" = "A,ctrl+x,ctrl+n"
"profile.changed" = "C"
"profile.back" = "f3"
"profile.data" = "P"
"run.pause" = "f7"
"run.resume" = "f8"
"run.rate" = "F"
"picker.back" = "ctrl+n"
"""


def app():
    file = places.config_folder() / "settings.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(KEYS)
    found = settings.read(os.environ).with_keys()
    assert [str(problem) for problem in found.problems if problem.severity == "error"] == []
    return AozoraApp(settings=found, ticking=False, read_gpu=lambda pid: ())


PANELS = {
    "ask": lambda: Ask("Really?", [], [Answer("y", "yes", "yes")]),
    "name": lambda: AskName("Called", "a", wrong=lambda name: "", about="", accept="take it"),
    "rate": lambda: AskRate("dog", now=1.0, planned=1e-6),
}


@pytest.mark.parametrize("name", PANELS)
async def test_a_panel_names_the_keys_that_close_it_and_they_do(name):
    async with app().run_test(size=(80, 24)) as pilot:
        pilot.app.push_screen(PANELS[name]())
        await pilot.pause()
        said = seen.words(pilot.app)
        assert "F12 cancel" in said and "esc" not in said
        assert name != "ask" or "ctrl+n yes" in said
        await pilot.press("f12")
        assert isinstance(pilot.app.screen, HomeScreen)


async def test_what_is_hidden_in_the_form_names_the_key_that_shows_it_from_where_one_is(tmp_path):
    path = write_profile(tmp_path)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, path, "optimizer.kind")
        assert "A shows them" in seen.text(pilot.app)
        screen.go_to("optimizer.learning_rate")
        await settle(pilot)
        assert "ctrl+n shows them" in seen.text(pilot.app)
        screen.action_only_changed()
        screen.go_to("train.steps")
        await settle(pilot)
        assert "F3, then C shows them" in seen.text(pilot.app)
        screen.query_one("#sections").focus()
        await settle(pilot)
        screen.query_one("#sections").select("ema")
        await settle(pilot)
        screen.action_enter_form()
        await settle(pilot)
        assert "Nothing is changed here: C shows all settings" in seen.text(pilot.app)


async def test_a_text_that_is_no_toml_names_the_key_that_drops_it(tmp_path):
    path = write_profile(tmp_path)
    async with app().run_test(size=(80, 24)) as pilot:
        screen = ProfileScreen(ProfileFile.open(path))
        pilot.app.push_screen(screen)
        await settle(pilot)
        screen._take_text("[model\n")
        await settle(pilot)
        assert "F12 drops it." in seen.text(pilot.app)


async def test_commands_to_a_run_name_its_keys():
    run = fake_run.make(places.runs_folder(), "dog-20231112-101010")
    fake_run.trained(run, 3)
    with fake_run.engine_alive(run):
        async with app().run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            steer.send(pilot.app.screen, run, "pause")
            assert "F7 again lets it go on" in seen.text(pilot.app)
            for begun, said in ((True, "resuming (F8) draws it again"), (False, "stays; F8 starts again")):
                steer.ask_to_stop(pilot.app.screen, run, begun=begun)
                await pilot.pause()
                assert said in seen.words(pilot.app)
                await pilot.press("f12")
            steer.ask_for_rate(pilot.app.screen, run, now=1.0, planned=1e-6)
            await pilot.pause()
            await pilot.press("0", "enter")
            await pilot.pause()
            assert "until the rate is raised (F)" in seen.text(pilot.app)
    assert steer.why_not("crashed", "F8") == "The run is crashed: F8 starts it again."
