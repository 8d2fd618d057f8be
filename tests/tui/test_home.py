"""The first screen: profiles, runs, and starting one."""

import os
import sys
from pathlib import Path

import fake_engine
import fake_run
import pytest
import seen
from processes import until

from aozora_tui import runs
from aozora_tui.app import AozoraApp
from aozora_tui.screens.ask import Ask
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.profile import ProfileScreen
from aozora_tui.screens.run import RunScreen
from aozora_tui.screens.start import StartScreen
from engine.contract import events, places

ENGINE = (sys.executable, fake_engine.__file__)
ROOT = Path(__file__).parents[2]


def own_profile(name="mine", text='[model]\nbase = "/nowhere.safetensors"\n[[data.folders]]\npath = "/nowhere"\n'):
    folder = places.profiles_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text)
    return folder / f"{name}.toml"


def home(**options):
    return AozoraApp(ticking=False, clock=lambda: fake_run.START + 7200, read_gpu=lambda pid: (), **options)


async def test_an_empty_home_says_how_to_begin():
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        shown = seen.text(app)
        assert "No run yet. Press D to start the demo" in shown
        assert "recipe" in shown and "demo" in shown


async def test_runs_are_listed_newest_first_with_their_states_in_words():
    folder = places.runs_folder()
    first = fake_run.make(folder, "cat-20231111-101010")
    at = fake_run.trained(first, 48, steps=48)
    fake_run.add(first, events.Finished(time=at, step=48, reason="finished", seconds=60))
    fake_run.trained(fake_run.make(folder, "dog-20231112-101010"), 20)
    live = fake_run.make(folder, "eel-20231113-101010")
    fake_run.trained(live, 7)
    with fake_run.engine_alive(live):
        app = home()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            lines = [line for line in seen.text(app).splitlines() if "-202311" in line]
            assert lines[0].split()[1:5] == ["eel-20231113-101010", "●", "running", "7/1,000"]
            assert "! crashed" in lines[1] and "20/1,000" in lines[1]
            assert "✓ finished" in lines[2] and "48/48" in lines[2]
            assert "1 run live" in seen.text(app)


async def test_a_run_that_goes_on_is_seen_at_the_next_tick():
    run = fake_run.make(places.runs_folder(), "eel-20231113-101010")
    at = fake_run.trained(run, 7)
    with fake_run.engine_alive(run):
        app = home()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            fake_run.add(run, fake_run.step(8, at=at + 26))
            app.tick()
            await pilot.pause()
            assert "8/1,000" in seen.text(app)


async def test_tab_goes_to_the_runs_and_enter_opens_one():
    fake_run.trained(fake_run.make(places.runs_folder(), "dog-20231112-101010"), 20)
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("tab", "enter")
        assert isinstance(app.screen, RunScreen)
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)


async def test_a_profile_that_cannot_run_shows_why_and_leads_to_the_field():
    own_profile()
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("s")
        await seen.work_done(app)
        await pilot.pause()
        assert isinstance(app.screen, StartScreen)
        assert "It cannot start: 2 problems" in seen.text(app)
        assert "/nowhere does not exist. Name the folder" in seen.text(app)
        await pilot.press("enter")
        await pilot.pause()
        await pilot.pause()
        assert isinstance(app.screen, ProfileScreen)
        assert app.screen.focused is not None
    assert not places.runs_folder().exists()


async def test_duplicating_a_recipe_makes_an_own_profile():
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        recipe = Path(app.screen.profiles.key)
        assert recipe.parent == places.shipped_profiles_folder()
        await pilot.press("d")
        await pilot.pause()
        copy = Path(app.screen.profiles.key)
        assert copy == places.profiles_folder() / recipe.name
        assert copy.read_bytes() == recipe.read_bytes()
        assert "Copied to" in seen.text(app)


@pytest.fixture
def no_engine_left(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield
    for child in list(runs._children.values()):
        child.wait(timeout=20)
    runs.reap()


async def test_the_demo_starts_with_one_key_and_shows_its_run(no_engine_left):
    app = home(engine_command=ENGINE)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("D")
        await seen.work_done(app)
        await pilot.pause()
        assert isinstance(app.screen, RunScreen)
        run = app.screen.run_dir
        assert run.name.startswith("demo-") and run.path.parent == places.runs_folder()
        runs._children[run.path].wait(timeout=20)
        app.tick()
        await pilot.pause()
        assert "✓ finished" in seen.text(app)


async def test_a_broken_profile_is_named_and_does_not_break_the_list():
    own_profile("broken", "[model\n")
    own_profile("wrong", "[model]\nbase = 3\n")
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        shown = seen.text(app)
        assert "! no TOML" in shown and "! 2 problems" in shown
        await pilot.press("enter")
        assert isinstance(app.screen, HomeScreen)
        assert "is not valid TOML" in seen.text(app)


@pytest.mark.parametrize("size", [(59, 24), (80, 14)])
async def test_a_terminal_that_is_too_small_gets_one_sentence(size):
    app = home()
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        shown = seen.text(app)
        assert "needs at least 60 columns and 15 rows" in seen.words(app)
        assert "Profiles" not in shown
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "Profiles" in seen.text(app)


async def test_without_unicode_every_glyph_is_ascii(monkeypatch):
    monkeypatch.setenv("AOZORA_ASCII", "1")
    run = fake_run.make(places.runs_folder(), "eel-20231113-101010")
    fake_run.trained(run, 70)
    with fake_run.engine_alive(run):
        app = home()
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert seen.text(app).isascii()
            await pilot.press("enter")
            await pilot.pause()
            assert "> running" in seen.text(app)
            assert seen.text(app).isascii()
            await pilot.press("s")
            await pilot.pause()
            assert seen.text(app).isascii()


def broken_runs():
    """Folders that no engine wrote, each broken in another way."""
    folder = places.runs_folder()
    for name, spoil in {
        "folder": lambda run: run.events.mkdir(),
        "fifo": lambda run: os.mkfifo(run.events),
        "lock": lambda run: run.lock.mkdir(),
        "log": lambda run: os.mkfifo(run.log),
        "letters": lambda run: run.events.write_bytes(b'{"event":"step"\xff\xfe\n[[[[\n'),
    }.items():
        spoil(fake_run.make(folder, f"{name}-20231112-101010"))
    (folder / "loop-20231112-101010").mkdir()
    (folder / "loop-20231112-101010" / "run.json").symlink_to("run.json")
    (folder / os.fsdecode(b"name-\xff") / "commands").mkdir(parents=True)


async def test_one_bad_folder_hides_no_other_run():
    broken_runs()
    fake_run.trained(fake_run.make(places.runs_folder(), "dog-20231113-101010"), 20)
    app = home()
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.pause()
        shown = seen.text(app)
        assert "! crashed" in next(line for line in shown.splitlines() if "dog-" in line)
        for name in ("folder", "fifo", "lock", "log", "loop"):
            assert "! unreadable" in next(line for line in shown.splitlines() if f"{name}-2023" in line)
        assert "name-\\udcff" in shown
        await pilot.press("tab")
        app.screen.runs_list.select(str(places.runs_folder() / "fifo-20231112-101010"))
        await pilot.pause()
        assert "the run cannot be read: events.jsonl is a pipe or device, not a file" in seen.text(app)
        await pilot.press("enter")
        assert isinstance(app.screen, HomeScreen)
        await pilot.press("home")
        await pilot.pause()
        assert "cannot be read" not in seen.text(app)
        await pilot.press("q")
    assert app.return_code == 0


async def test_a_run_resumed_elsewhere_shows_as_running():
    run = fake_run.make(places.runs_folder(), "dog-20231113-101010")
    at = fake_run.trained(run, 20)
    fake_run.add(run, events.Finished(time=at, step=20, reason="stopped", seconds=100))
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "- stopped" in seen.text(app)
        with fake_run.engine_alive(run):
            fake_run.add(run, fake_run.started(run, step=20, at=at + 60))
            app.tick()
            await pilot.pause()
            assert "● running" in seen.text(app)


def keys_shown(app):
    return seen.text(app).splitlines()[-1]


async def test_the_key_bar_offers_what_works_in_the_list_that_has_the_focus():
    fake_run.trained(fake_run.make(places.runs_folder(), "dog-20231113-101010"), 20)
    app = home()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert all(part in keys_shown(app) for part in ("s start", "e edit", "d copy", "q quit", "? help"))
        await pilot.press("tab")
        await pilot.pause()
        assert "enter open" in keys_shown(app) and "q quit" in keys_shown(app)
        assert not any(part in keys_shown(app) for part in ("s start", "e edit", "d copy"))
        await pilot.press("s")
        assert "Select a profile first" in seen.text(app)
        await pilot.press("down")
        assert "Select a profile first" not in seen.text(app)


async def test_the_palette_steers_every_live_run_from_anywhere():
    folder = places.runs_folder()
    run = fake_run.make(folder, "eel-20231113-101010")
    fake_run.trained(run, 7)
    ended = fake_run.make(folder, "dog-20231112-101010")
    fake_run.trained(ended, 20)
    ended.profile.write_text("")
    app = home()

    def offered():
        return {command.title: command.callback for command in app.get_system_commands(app.screen)}

    with fake_run.engine_alive(run):
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            names = offered()
            assert {f"{verb} {run.name}" for verb in ("Open", "Stop", "Pause", "Save", "Sample")} <= set(names)
            names[f"Stop {run.name}"]()
            await pilot.pause()
            assert isinstance(app.screen, Ask) and "saves the last finished step" in seen.words(app)
            await pilot.press("enter")
            offered()[f"Save {run.name}"]()
            await pilot.pause()
            assert [path.name.partition("-")[2] for path in sorted(run.commands.glob("*.json"))] == [
                "stop.json",
                "save.json",
            ]
            assert f"{run.name}: a checkpoint is saved" in seen.text(app)
            assert f"Resume {ended.name}" not in offered()
            app.screen.runs_list.select(str(ended.path))
            assert f"Resume {ended.name}" in offered()
            app.screen.open_profile(Path(app.screen.profiles.key))
            await pilot.pause()
            names = offered()
            assert f"Stop {run.name}" in names
            names[f"Open {run.name}"]()
            await pilot.pause()
            assert isinstance(app.screen, RunScreen)
            assert f"Stop {run.name}" not in offered()  # there it is a key of the screen


IMPORTED = """\
[model]
base = "{data}/demo/aozora-demo.safetensors"
tokenizer = "{data}/demo/tokenizer"
[[data.folders]]
path = "{data}/demo/pictures"
[optimizer]
kind = "imported"
import_path = "torch.optim.Adam"
"""


@pytest.mark.parametrize("where", ["home", "profile"])
async def test_what_torch_finds_wrong_is_shown_and_starts_nothing(where, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    own_profile(text=IMPORTED)
    app = home(engine_command=(*ENGINE, "--torch-says", "has no argument called beta"))
    async with app.run_test(size=(80, 24)) as pilot:
        if where == "profile":
            await pilot.press("e")
            await pilot.pause()
        await pilot.press("s")
        await seen.work_done(app)
        await pilot.pause()
        assert isinstance(app.screen, StartScreen if where == "home" else StartScreen | Ask)
        assert "optimizer.arguments has no argument called beta. Correct it." in seen.words(app)
        await pilot.press("enter")
        await pilot.pause()
        await pilot.pause()
        assert isinstance(app.screen, ProfileScreen)
    assert not places.runs_folder().exists()


async def test_the_app_goes_on_while_torch_is_asked_and_quitting_does_not_wait_for_it(tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(600)\n")
    own_profile(text=IMPORTED)
    app = home(engine_command=(sys.executable, str(slow)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("s")
        while "Asking torch about the optimizer ..." not in seen.text(app):
            await pilot.pause()
        await pilot.press("enter")
        assert isinstance(app.screen, StartScreen)  # not before torch has answered
        await pilot.press("escape", "down")
        assert app.screen.profiles.cursor == 1
    assert not places.runs_folder().exists()


async def test_a_torch_that_does_not_answer_is_said_before_the_start_and_forbids_nothing(monkeypatch, no_engine_left):
    own_profile(text=IMPORTED)
    app = home(engine_command=(*ENGINE, "--torch-dies"))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("s")
        await seen.work_done(app)
        await pilot.pause()
        assert isinstance(app.screen, StartScreen)
        assert "torch could not be asked about it: ImportError: no torch here." in seen.words(app)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, RunScreen)
        run = app.screen.run_dir
    until(lambda: runs.reap() == {run.name: 0})
