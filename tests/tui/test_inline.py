"""`watch --inline`: five lines over themselves, and everything above them stays."""

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import fake_run
import pyte
import pytest

from aozora_tui import inline, inline_lines
from aozora_tui.run_state import RunState
from engine.contract import events, places

ROOT = Path(__file__).parents[2]


def shown(screen):
    return [line.rstrip() for line in screen.display]


class Terminal:
    """A terminal that can be resized; `sent` is what went to it since it was last looked at."""

    def __init__(self, columns=80, lines=24):
        self.screen = pyte.HistoryScreen(columns, lines, history=100)
        self.stream = pyte.Stream(self.screen)
        self.sent = ""
        self.stream.feed("$ before\r\n")

    def write(self, text):
        self.sent += text
        self.stream.feed(text.replace("\n", "\r\n"))

    def size(self):
        return os.terminal_size((self.screen.columns, self.screen.lines))


def plainly(*texts):
    return [[(text, "")] for text in texts]


def test_lines_are_drawn_over_themselves_and_what_was_above_stays():
    terminal = Terminal()
    block = inline.Block(terminal.write, terminal.size, colour=False)
    block.draw(plainly("a", "b", "c", "d", "e"))
    block.draw(plainly("a", "B", "c", "d", "E!"))
    assert shown(terminal.screen)[:7] == ["$ before", "a", "B", "c", "d", "E!", ""]
    assert (terminal.screen.cursor.y, terminal.screen.cursor.x) == (6, 0)


def test_only_lines_that_changed_are_sent_and_nothing_if_none_did():
    terminal = Terminal()
    block = inline.Block(terminal.write, terminal.size, colour=False)
    block.draw(plainly("alpha", "beta", "gamma", "delta", "epsilon"))
    terminal.sent = ""
    block.draw(plainly("alpha", "beta", "gamma", "delta", "epsilon"))
    assert terminal.sent == ""
    block.draw(plainly("alpha", "beta", "Gamma", "delta", "epsilon"))
    assert "Gamma" in terminal.sent and "alpha" not in terminal.sent and len(terminal.sent) < 25


def test_at_the_bottom_it_scrolls_once_and_then_stays():
    terminal = Terminal(lines=8)
    terminal.stream.feed("x\r\n" * 7)
    block = inline.Block(terminal.write, terminal.size, colour=False)
    for turn in range(5):
        block.draw(plainly("a", "b", "c", "d", f"e{turn}"))
    assert shown(terminal.screen) == ["x", "x", "a", "b", "c", "d", "e4", ""]


@pytest.mark.parametrize("width", [80, 40, 20, 10, 3])
def test_no_line_is_wider_than_the_terminal(width):
    terminal = Terminal(columns=width)
    block = inline.Block(terminal.write, terminal.size, colour=True)
    line = [("猫" * 60, "bold"), ("x" * 60, "warning")]
    block.draw([line] * 5)
    block.draw([[("y", "")]] * 5)
    assert shown(terminal.screen)[1:7] == ["y"] * 5 + [""] or width == 3


def test_a_narrower_terminal_that_wrapped_them_gets_them_whole_again():
    terminal = Terminal(columns=40)
    block = inline.Block(terminal.write, terminal.size, colour=False)
    block.draw(plainly(*("abcdefghij" * 3 for _ in range(5))))
    terminal.sent = ""
    terminal.screen.resize(24, 20)
    block.draw(plainly(*"abcde"))
    assert terminal.sent.startswith("\x1b[10A\r\x1b[J")  # 5 lines of 30 columns in rows of 20


@pytest.mark.parametrize(("height", "left"), [(6, "abcde"), (5, "abce"), (4, "abe"), (3, "ae"), (2, "a"), (1, "a")])
def test_a_low_terminal_gets_the_lines_that_matter(height, left):
    terminal = Terminal(lines=height)
    block = inline.Block(terminal.write, terminal.size, colour=False)
    block.draw(plainly(*"abcde"))
    assert [line for line in terminal.sent.replace("\x1b[K", "").split("\n") if line] == list(left)


def test_colours_are_the_terminals_own_and_can_be_left_out():
    terminal = Terminal()
    inline.Block(terminal.write, terminal.size, colour=True).draw([[("a", "warning")]])
    assert terminal.sent == "\x1b[33ma\x1b[m\x1b[K\n"
    terminal.sent = ""
    inline.Block(terminal.write, terminal.size, colour=False).draw([[("a", "warning")]])
    assert terminal.sent == "a\x1b[K\n"


def told(*new, word="running", width=79, **options):
    run = fake_run.make(places.runs_folder(), "eel-20231113-101010")
    state = RunState()
    state.apply([fake_run.started(run), *new])
    options = {"now": fake_run.START + 200, "trouble": "", "ascii_only": False} | options
    lines = inline_lines.lines_of(state, run.name, word, width=width, **options)
    return ["".join(text for text, _ in line) for line in lines]


def test_the_five_lines_say_what_how_far_how_well_what_it_uses_and_what_is_new():
    steps = [fake_run.step(number, at=fake_run.START + 26 * number) for number in range(1, 43)]
    machine = events.Machine(
        time=fake_run.START, card="GPU-1", card_used=11 << 30, card_total=12 << 30, utilisation=97, power=181.6,
        power_limit=200.0, temperature=71, host_used=20 << 30, host_total=64 << 30, disk_free=120 * 10**9,
        throttled=("thermal",),
    )  # fmt: skip
    what, far, well, uses, new = told(
        events.Phase(time=fake_run.START, name="train"), *steps, machine, width=99, now=fake_run.START + 26 * 42
    )
    assert what.startswith("eel-20231113-101010  running  step 42/1,000  6:55:")
    assert far.startswith("train     ██") and far.endswith("   4.2 %  micro-batch 0/64") and len(far) <= 99
    assert well.startswith("loss 0.") and "lr 4.20e-06  grad" in well and "▁" in well and "█" in well
    assert uses.startswith("VRAM 11.0/12.0 GiB  GPU 97 %  182/200 W  71 °C  slowed down (thermal)  host 20.0/64.0 GiB")
    assert new == "started on NVIDIA GeForce RTX 4070"


@pytest.mark.parametrize("width", [79, 60, 39, 25, 12])
def test_figures_are_whole_or_not_there(width):
    steps = [fake_run.step(number, at=fake_run.START + 26 * number) for number in range(1, 43)]
    machine = events.Machine(time=1.0, card="GPU-1", card_used=11 << 30, card_total=12 << 30, power=181.6)
    whole = told(events.Phase(time=1.0, name="train"), *steps, machine, width=200)
    lines = told(events.Phase(time=1.0, name="train"), *steps, machine, width=width)
    for at in (0, 2, 3):
        assert at == 2 or set(lines[at].split("  ")[1:]) <= set(whole[at].split("  "))
        assert len(lines[at]) <= max(width, 22)
    assert "running" in lines[0] or width < 20
    assert "step 42/1,000" in lines[0] or width < 39


def test_trouble_with_the_connection_goes_before_other_news_and_silence_is_said():
    assert told(trouble="Connection to box lost")[4] == "Connection to box lost"
    assert told(now=fake_run.START + 700)[0].endswith("silent for 11 min")


def test_ascii_is_ascii_and_names_of_files_steer_nothing():
    prompt = "a\x1b[2Jb"
    steps = [fake_run.step(number, at=fake_run.START + number) for number in range(1, 43)]
    sampled = events.Sampled(time=fake_run.START, step=3, path="samples/a.png", prompt=prompt, settings={})
    lines = told(events.Phase(time=1.0, name="train"), *steps, sampled, ascii_only=True)
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert lines[4] == "preview at step 3: a\\x1b[2Jb"


def test_equal_values_are_a_flat_line_and_numbers_that_are_none_are_left_out():
    assert inline_lines.sparkline([1.0] * 9, 4) == "▁▁▁▁"
    assert inline_lines.sparkline([0.0, float("nan"), 1.0], 10, ascii_only=True) == "_#"
    assert inline_lines.sparkline([1.0], 10) == ""


# -- over a real terminal ----------------------------------------------------------------------------------------------


def watched(*arguments, interrupt=False, **environment):
    """All that a terminal of 80 x 24 is sent, and the exit code."""
    terminal, other = os.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    variables = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "COLUMNS": "", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "aozora_tui", "watch", *arguments],
        stdin=other,
        stdout=other,
        stderr=other,
        env=variables,
        start_new_session=True,
    )
    os.close(other)
    sent = b""
    while True:
        try:
            block = os.read(terminal, 1 << 16)
        except OSError:
            break
        sent += block
        if interrupt and b"started on" in sent:
            process.send_signal(signal.SIGINT)
            interrupt = False
    code = process.wait(20)
    os.close(terminal)
    return sent.decode(), code


@pytest.fixture
def run():
    return fake_run.make(places.runs_folder(), "eel-20231113-101010")


def test_an_ended_run_leaves_its_last_state_in_the_scrollback(run):
    fake_run.trained(run, 10, steps=10)
    fake_run.add(run, events.Finished(time=fake_run.START + 400, step=10, reason="finished", seconds=260.0))
    sent, code = watched("--inline")
    assert code == 0
    assert "\x1b[?1049h" not in sent
    screen = pyte.Screen(80, 24)
    pyte.Stream(screen).feed(sent)
    lines = shown(screen)
    assert lines[0].startswith("eel-20231113-101010  finished  step 10/10")
    assert lines[1].startswith("finished  ██") and "100.0 %" in lines[1]
    assert lines[4] == "finished at step 10 after 4:20" and lines[5] == ""
    assert len(sent) < 1200


def test_ctrl_c_ends_the_watching_and_not_the_run(run):
    fake_run.add(run, fake_run.started(run))
    with fake_run.engine_alive(run):
        sent, code = watched("--inline", interrupt=True, NO_COLOR="1")
        assert not list(run.commands.iterdir())
    assert code == 0
    assert "no longer watching; eel-20231113-101010 goes on: `aozora-tui stop eel-20231113-101010` stops it" in sent
    assert "\x1b[3" not in sent and "\x1b[m" not in sent


def test_where_there_is_no_terminal_or_a_dumb_one_the_lines_are_plain(run):
    fake_run.trained(run, 2, steps=2)
    fake_run.add(run, events.Finished(time=fake_run.START + 400, step=2, reason="finished", seconds=260.0))
    sent, _ = watched("--inline", TERM="dumb")
    assert "\x1b" not in sent and "step 2/2  loss" in sent
