"""A person at 80x24 makes a profile from a recipe, mends what is wrong, chooses layers, draws a curve and starts a run.

The README's tour names the number of keys.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from aozora_tui.profile_file import ProfileFile
from engine.contract import rundir
from tests.end_to_end.terminal import Terminal

KEYS = {
    "enter": "\r",
    "esc": "\x1b",
    "tab": "\t",
    "space": " ",
    "backspace": "\x7f",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "clear": "\x15",  # ctrl+u: to the line's beginning
    "rest": "\x0b",  # ctrl+k: to its end
    "f2": "\x1bOQ",
    "f4": "\x1bOS",
    "f6": "\x1b[17~",
    "f10": "\x1b[21~",
}
README = Path(__file__).parents[2] / "README.md"


class Person:
    """Presses one key after the other, looks at the screen in between, and counts."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal, self.pressed = terminal, 0

    def press(self, *keys: str) -> None:
        for key in keys:
            self.terminal.press(KEYS.get(key, key))
            self.terminal.read(0.05)
            self.pressed += 1

    def type(self, text: str) -> None:
        self.press(*text)

    def sees(self, text: str) -> None:
        self.terminal.wait_for(text)


@pytest.fixture
def home(tmp_path: Path, demo_folder: Path) -> Path:
    shutil.copytree(demo_folder, tmp_path / "models", ignore=shutil.ignore_patterns("pictures"))
    (tmp_path / "pictures").mkdir()
    for picture in sorted((demo_folder / "pictures").rglob("*.png"))[:4]:
        shutil.copy(picture, tmp_path / "pictures")
    return tmp_path


@pytest.fixture
def person(home: Path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AOZORA_", "TEXTUAL"))}
    folders = {f"AOZORA_{name.upper()}": str(home / name) for name in ("data", "runs", "profiles", "cache", "config")}
    environment |= {"HOME": str(home), "TERM": "xterm-256color", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", **folders}
    terminal = Terminal([sys.executable, "-m", "aozora_tui"], environment)
    yield Person(terminal)
    terminal.cut()


def test_from_a_recipe_to_a_run(person: Person, home: Path):
    person.sees("Profiles")
    person.press("n")
    person.sees("from which recipe")
    person.press("down", "down", "enter")
    person.sees("called")
    person.press("clear")
    person.type("mine")
    person.press("enter")
    person.sees("Base checkpoint")

    person.press("right", "clear")  # the checkpoint, its path completed
    person.type("~/mo")
    person.press("tab")
    person.sees("~/models/")
    person.type("ao")
    person.press("tab")
    person.sees("SDXL base, v_prediction")
    person.press("down", "down")
    person.type("~/models/tok")
    person.press("tab", "esc")
    person.sees("enter goes into the form")  # an arrow that follows esc at once would be another key

    person.press("down", "right")  # the folders of the recipe are not there: the first mistake
    person.sees("does not exist")
    person.press("rest")
    person.type("~/pictures")
    person.press("down", "clear", "rest", "backspace", "down", "clear")
    person.type("12")  # the second one
    person.sees("! 1 problem")
    person.press("f10", "clear")
    person.type("128")
    person.sees("no problem")
    person.press("esc")
    person.sees("enter goes into the form")

    person.press("f4")
    person.sees("Trained layers")
    person.press("down", "space")
    person.sees("conv_in.*")
    person.press("f2")
    person.sees("F4 layers")

    person.press("c")
    person.sees("learning rate over steps")
    person.press("p", "right", "k", "k", "k", "f2")
    person.sees("Curve: schedule.shape")

    person.press("f6")
    person.sees("save and start")
    person.press("enter")
    person.sees("The first run of this profile")
    person.press("enter")
    person.sees("waiting for the engine")
    runs = rundir.all_runs(home / "runs")
    assert len(runs) == 1
    person.terminal.wait_for(lambda _: runs[0].events.exists() and b'"started"' in runs[0].events.read_bytes())

    ran = ProfileFile.open(runs[0].profile)
    assert ran.get("layers.train") == ["down_blocks.*", "mid_block.*", "conv_in.*"]
    assert ran.get("schedule.shape") == "curve" and ran.get("schedule.curve")[1][1] == 1.03
    assert ran.get("data.resolution") == 128
    assert "#" in (home / "profiles" / "mine.toml").read_text().partition("[data]")[2]  # the recipe's comments
    told = re.search(r"(\d+) keys", README.read_text())
    assert told is not None and int(told[1]) == person.pressed

    person.press("s")
    person.sees("Stop")
    person.press("enter")
    person.terminal.wait_for(lambda text: "stopped" in text)
