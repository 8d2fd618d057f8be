"""Watching a run on a real pseudo-terminal: slow lines, signals, job control, other sizes. The run goes on, always."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_run
import in_terminal
import pytest
from processes import is_alive, until

from engine.contract import events, places, rundir

ROOT = Path(__file__).parents[2]
NAME = "portraits-20231114-221320"
WATCH = [sys.executable, "-m", "aozora_tui", "watch", NAME]
SLOW = 8_000  # bytes a second
PACE = 0.05


@pytest.fixture
def place(own_place, monkeypatch):
    for name in ("NO_COLOR", "COLORTERM", "STY", "TMUX", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TERM", "xterm-256color")
    return own_place


@pytest.fixture
def run(place):
    """A run that an engine of its own process works at."""
    made = fake_run.make(places.runs_folder(), NAME)
    profile = place / "portraits.toml"
    profile.write_text("")
    program = str(Path(__file__).with_name("fake_engine.py"))
    words = ["--steps", "100000", "--pace", str(PACE), "train", str(profile), "--run", str(made.path)]
    engine = subprocess.Popen([sys.executable, program, *words], start_new_session=True, cwd=ROOT)
    try:
        until(lambda: rundir.lock_owner(made) == engine.pid and step_of(made))
        yield made
    finally:
        engine.kill()
        engine.wait()


@pytest.fixture
def on(request):
    """Starts the program on a terminal that goes away with the test."""
    opened = []

    def start(command=WATCH, **options):
        opened.append(in_terminal.Terminal(command, **options))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


def step_of(run):
    last = events.last_event(run.events)
    return last.step if isinstance(last, events.Step) else 0


def goes_on(run):
    owner, before = rundir.lock_owner(run), step_of(run)
    assert owner is not None and is_alive(owner)
    until(lambda: step_of(run) > before + 1)
    return True


def test_a_line_that_takes_nothing_keeps_no_key_waiting_and_a_slow_one_shows_the_newest(run, on):
    terminal = on()
    terminal.wait_for("gradient norm")
    terminal.rate = 0
    sent = len(terminal.received)
    for key in "yz" * 60:  # axes and averages: each time the charts are drawn anew, more often than a queue would hold
        terminal.press(key)
        time.sleep(0.04)
    terminal.press("p")
    until(lambda: isinstance(events.last_event(run.events), events.Paused))
    terminal.rate = SLOW
    terminal.wait_for("paused after step")
    assert len(terminal.received) - sent < 40_000, "frames that nobody needs any more were sent all the same"


@pytest.mark.parametrize("how", ["hang up", "terminate", "ctrl+c", "stalled"])
def test_however_the_watching_ends_the_run_goes_on_and_the_terminal_is_given_back(how, run, on):
    terminal = on()
    terminal.wait_for("gradient norm")
    if how in ("hang up", "stalled"):
        if how == "stalled":  # nobody reads, until the connection is found to be gone
            terminal.stopped.set()
            until(lambda: step_of(run) > 40)
        terminal.hang_up()
    elif how == "terminate":
        os.kill(terminal.pid, signal.SIGTERM)
    else:
        terminal.press("\x03")
    assert terminal.exit_code() == 0
    if how in ("terminate", "ctrl+c"):
        until(lambda: b"\x1b[?1049l" in terminal.received)
        assert b"\x1b[?25h" in terminal.received and b"\x1b[?1000l" in terminal.received
        assert b"Traceback" not in terminal.received
    assert goes_on(run)


def test_put_aside_by_ctrl_z_and_brought_back_it_draws_all_of_it(run, on):
    terminal = on(["bash", "--norc", "--noprofile", "-i"])
    terminal.press("PS1='ready> '\r")
    terminal.press(" ".join(WATCH) + "\r")
    terminal.wait_for("gradient norm")
    at = len(terminal.received)
    terminal.press("\x1a")
    terminal.wait_for("Stopped", since=at)
    assert b"\x1b[?1049l" in terminal.received[at:]
    assert goes_on(run)
    at = len(terminal.received)
    terminal.press("fg\r")
    text = terminal.wait_for("gradient norm", since=at)
    assert NAME in text and "running" in text and "quit" in text
    at = len(terminal.received)
    terminal.press("q")
    until(lambda: b"ready> " in terminal.received[at:])
    assert b"\x1b[?1049l" in terminal.received[at:]
    terminal.press("exit\r")
    assert terminal.exit_code() == 0 and goes_on(run)


def test_a_storm_of_sizes_and_the_smallest_terminal(run, on):
    terminal = on()
    terminal.wait_for("gradient norm")
    for number in range(60):
        terminal.resize(20 + number * 37 % 180, 4 + number * 11 % 60)
        time.sleep(0.01)
    at = len(terminal.received)
    terminal.resize(40, 10)
    terminal.wait_for("at least 60 columns", since=at)
    at = len(terminal.received)
    terminal.resize(120, 40)
    text = terminal.wait_for(NAME, since=at)
    assert NAME in text.splitlines()[0] and "gradient norm" in text and "quit" in text.splitlines()[-1]
    terminal.press("q")
    assert terminal.exit_code() == 0 and goes_on(run)


def test_a_live_run_costs_what_it_may_and_a_finished_one_nothing(place, on):
    """By the ticks that there are: the screen says the step that each has brought."""
    run = fake_run.make(places.runs_folder(), NAME)
    at = fake_run.trained(run, 300)
    with fake_run.engine_alive(run):
        terminal = on()
        terminal.wait_for("step 300/1,000")
        terminal.press("c")
        terminal.wait_for("s/micro-batch")
        sent = len(terminal.received)
        for number in range(301, 305):
            fake_run.add(run, fake_run.step(number, at=at + 26 * (number - 300)))
            before = len(terminal.received)
            until(lambda before=before: len(terminal.received) > before)
            time.sleep(0.1)
        assert (len(terminal.received) - sent) / 4 < 1500
    fake_run.add(run, events.Finished(time=at + 200, step=304, reason="finished", seconds=9))
    terminal.press("\x1b")
    terminal.wait_for("finished at step 304")
    time.sleep(1.2)
    sent = len(terminal.received)
    time.sleep(2.2)  # two ticks
    assert len(terminal.received) == sent
