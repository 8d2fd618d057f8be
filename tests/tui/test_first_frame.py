"""How soon the program shows itself: beside an empty Textual app that is started in the same way at the same time, so
that a slow or busy machine slows both."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import fake_run
import pytest
import seen

from aozora_tui.app import AozoraApp
from engine.contract import events, places
from engine.contract.rundir import RunDir

ROOT = Path(__file__).parents[2]
NEWEST = "portraits-20231114-221320"
SHOWN = b"Here it is"
EMPTY_APP = f"""
from textual.app import App
from textual.widgets import Static

class Empty(App):
    def compose(self):
        yield Static({SHOWN.decode()!r})

Empty().run()
"""
# Leaves word of what was imported by the first frame, and ends.
TELLING_APP = """
import sys
from pathlib import Path
from aozora_tui import app, cli

def tell(self):
    Path(sys.argv[1]).write_text(" ".join(sys.modules))
    self.exit(0)

app.AozoraApp.on_first_frame = tell
sys.exit(cli.main(sys.argv[2:]))
"""
HEAVY = {"torch", "numpy", "PIL", "diffusers", "transformers", "safetensors", "tomlkit", "tomli_w", "pynvml"}
LATER = {
    "argparse",
    "aozora_tui.card_watch",
    "aozora_tui.gpu_report",
    "aozora_tui.profile_file",
    "aozora_tui.screens.ask",
    "aozora_tui.screens.help",
    "aozora_tui.screens.profile",
    "engine.contract.check",
    "textual.widgets._text_area",
}
PROGRAMS = {
    "empty": (["-c", EMPTY_APP], SHOWN),
    "home": (["-m", "aozora_tui"], b"portraits"),
    "watch": (["-m", "aozora_tui", "watch", "portraits"], NEWEST.encode()),
}
COMMANDS = {name: ["-m", "aozora_tui", *name.split()] for name in ("runs", "check --help", "settings")}
# What the empty app takes, times this; a fifth or more above what it was when it was written.
MOST = {"home": 1.6, "watch": 1.9, **dict.fromkeys(COMMANDS, 0.7)}
ROUNDS = 12
BYTES = 5_000  # until the first screen is all there


@dataclass(frozen=True)
class Took:
    """Seconds: since the start, and of processors."""

    wall: float
    processor: float


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory):
    """What the first start of each program leaves for the others."""
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def place(own_place, bytecode, monkeypatch):
    """A handful of profiles and runs. Byte code is kept, as it is on everybody's machine."""
    for name in ("portraits", "landscapes", "third"):
        path = places.profiles_folder() / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('[model]\nbase = "base.safetensors"\n[[data.folders]]\npath = "pictures"\n')
    for name, steps in ((NEWEST, 300), ("landscapes-20231110-190502", 40), ("third-20231109-1", 3)):
        run = fake_run.make(places.runs_folder(), name)
        fake_run.add(run, events.Finished(time=fake_run.trained(run, steps), step=steps, reason="finished", seconds=9))
    for name in ("PYTHONDONTWRITEBYTECODE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(bytecode))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TERM", "xterm-256color")
    return own_place


def in_terminal(arguments, until=None):
    """What a program draws on a terminal of its own until that holds `until`, or until it ends; and what it took."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdin=end, stdout=end, stderr=end, cwd=ROOT, start_new_session=True
    )
    os.close(end)
    try:
        got = read(terminal, until)
        wall = time.perf_counter() - started
    finally:
        os.kill(process.pid, signal.SIGKILL)  # it may have ended by itself: nobody has asked for its exit code yet
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        os.close(terminal)
    return got, Took(wall, used.ru_utime + used.ru_stime)


def read(terminal, until):
    got = b""
    while until is None or until not in got:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, f"{until!r} never came; got {got[-500:]!r}"
        try:
            block = os.read(terminal, 65536)
        except OSError:  # nobody is at the other end
            assert until is None, got[-3000:].decode(errors="replace")
            return got
        if b"\x1b[?2026$p" in block:  # whether frames can be put together: most terminals say yes
            os.write(terminal, b"\x1b[?2026;2$y")
        got += block
    return got


def run(arguments):
    """What a command without a terminal takes."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return Took(time.perf_counter() - started, used.ru_utime + used.ru_stime)


def best(taken):
    return Took(min(each.wall for each in taken), min(each.processor for each in taken))


@pytest.mark.timeout(200)
def test_the_first_frame_and_every_command_come_soon(place):
    measures = {name: lambda given=given: in_terminal(*given)[1] for name, given in PROGRAMS.items()}
    measures |= {name: lambda given=given: run(given) for name, given in COMMANDS.items()}
    for measure in measures.values():  # writes the byte code
        measure()
    taken = {name: [] for name in measures}
    for _ in range(ROUNDS):
        for name, measure in measures.items():
            taken[name].append(measure())
        best_of = {name: best(each) for name, each in taken.items()}
        empty = best_of["empty"]
        shares = {name: (best_of[name].wall / empty.wall, best_of[name].processor / empty.processor) for name in MOST}
        slow = {name: share for name, share in shares.items() if max(share) > MOST[name]}
        if not slow and len(taken["empty"]) > 2:
            break
    assert not slow, json.dumps({"times the empty app": shares, "most": MOST}, indent=1)


@pytest.mark.parametrize("words", [[], ["watch", "portraits"]], ids=["home", "watch"])
def test_until_the_first_frame_only_what_it_needs_is_imported(words, place):
    told = place / "imported"
    got, _ = in_terminal(["-c", TELLING_APP, str(told), *words])
    assert told.exists(), got[-3000:].decode(errors="replace")
    imported = set(told.read_text().split())
    assert "textual.app" in imported
    assert not HEAVY & {name.partition(".")[0] for name in imported}
    other = "aozora_tui.screens.home" if words else "aozora_tui.screens.run"
    assert not (LATER | {other}) - ({"argparse"} if words else set()) & imported


class RecordingDriver(seen.CountingDriver):
    """Keeps what goes to the terminal, write by write."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.written = []

    def write(self, data):
        super().write(data)
        self.written.append(data)


async def test_the_first_frame_of_the_first_screen_has_everybodys_names_and_the_runs(place):
    app = AozoraApp(ticking=False, driver_class=RecordingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        await pilot.pause()
        await seen.work_done(app)
        await pilot.pause()
        frames = [data for data in app._driver.written if len(data) > 200]
        first = frames[0]
        for word in ("Aozora", "Profiles", "portraits", "landscapes", "Runs", "third-20231109-1", "finished", "quit"):
            assert word in first
        assert "character-12gb" in first, "the recipes too"
        assert "base" not in first, "profiles are read afterwards"
        assert "base" in seen.text(app)
        assert app._driver.sent < BYTES


async def test_the_first_frame_of_a_run_is_all_of_it(place):
    newest = RunDir(places.runs_folder() / NEWEST)
    app = AozoraApp(newest, ticking=False, driver_class=RecordingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        await pilot.pause()
        first = next(data for data in app._driver.written if len(data) > 200)
        assert newest.name in first and "finished" in first and "gradient norm" in first
        rest = "".join(app._driver.written).partition(first)[2]
        assert len(rest) < 400
        assert "Profiles" not in first + rest, "what is beneath is not drawn before somebody goes there"


async def test_who_leaves_the_run_that_the_app_was_opened_on_finds_the_first_screen(place):
    newest = RunDir(places.runs_folder() / NEWEST)
    app = AozoraApp(newest, ticking=False)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("escape")
        await seen.work_done(app)
        await pilot.pause()
        assert "Profiles" in seen.text(app) and "base" in seen.text(app)
        await pilot.press("shift+tab", "enter")
        assert newest.name in seen.text(app) and "gradient norm" in seen.text(app)
        await pilot.press("escape")
        assert "Profiles" in seen.text(app)
