"""Five lines at the bottom of the scrollback that follow a run: `watch --inline`. No Textual, no alternate screen."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from aozora_tui import runs
from aozora_tui.inline_lines import Part, lines_of
from aozora_tui.remote import links
from aozora_tui.run_state import RunState
from aozora_tui.terminal import ascii_only

if TYPE_CHECKING:
    from aozora_tui.follow import Ending, Told
    from engine.contract.rundir import RunDir

# SGR codes of the terminal's own colours, so that light and dark ones both fit.
_STYLES = {"": "", "bold": "1", "faint": "2", "good": "32", "warning": "33", "bad": "1;31", "live": "36"}
# The lines that go first where there is no room for all.
_LEAST_WANTED = (3, 2, 1, 4)


class Block:
    """Lines that are drawn over themselves: up, over, down again; only those that changed. The cursor rests below."""

    def __init__(self, write: Callable[[str], object], size: Callable[[], os.terminal_size], *, colour: bool) -> None:
        self._write, self._size, self._colour = write, size, colour
        self._shown: list[str] = []
        self._width = 0

    def room(self) -> tuple[int, int]:
        """Columns that a line may fill, so that none wraps, and rows above the cursor's."""
        size = self._size()
        return max(size.columns - 1, 1), max(size.lines - 1, 1)

    def draw(self, lines: Sequence[Sequence[Part]]) -> None:
        width, height = self.room()
        wanted = [self._painted(_cut(line, width)) for line in _chosen(lines, height)]
        if width != self._width or len(wanted) != len(self._shown):
            out = self._back(width) + "".join(f"{line}\x1b[K\n" for line in wanted)
        else:
            changed = [(len(wanted) - at, line) for at, line in enumerate(wanted) if line != self._shown[at]]
            out = "".join(f"\x1b[{up}A\r{line}\x1b[K\x1b[{up}B\r" for up, line in changed)
        self._shown, self._width = wanted, width
        if out:
            self._write(out)

    def clear_input(self) -> None:
        """The line below, where a key may have left its sign."""
        self._write("\r\x1b[K")

    def _back(self, width: int) -> str:
        """To the first line, with all below it erased. A terminal that became narrower has wrapped the lines."""
        rows = sum(max(-(-_bare_width(line) // (width + 1)), 1) for line in self._shown)
        return f"\x1b[{rows}A\r\x1b[J" if rows else ""

    def _painted(self, line: Sequence[Part]) -> str:
        if not self._colour:
            return "".join(text for text, _ in line)
        return "".join(f"\x1b[{code}m{text}\x1b[m" if (code := _STYLES[style]) else text for text, style in line)


def follow(run: RunDir, each_round: Callable[[], None], *, tick: float = 1.0) -> Ending:
    """Follow a run to its end on a terminal, drawn at most every `tick` seconds; what was drawn last stays. Raises what
    `each_round` raises, after a last drawing."""
    from aozora_tui import follow

    state = RunState()
    block = Block(_write, shutil.get_terminal_size, colour=not os.environ.get("NO_COLOR"))
    due = 0.0

    def draw() -> None:
        link = links.of(run)
        word = runs.standing(run)
        now = time.time()
        trouble = link.news() if link else ""
        title = links.title(run)
        width, _ = block.room()
        block.draw(lines_of(state, title, word, width=width, now=now, trouble=trouble, ascii_only=ascii_only()))

    def take(told: Sequence[Told]) -> bool:
        state.apply([event for _, event in told if event is not None])
        return True

    def round_() -> None:
        nonlocal due
        each_round()
        if time.monotonic() >= due:
            draw()
            due = time.monotonic() + tick

    with _no_echo():
        try:
            ending = follow.attend(run, take, each_round=round_)
        finally:
            block.clear_input()
            draw()
    return ending


def _chosen(lines: Sequence[Sequence[Part]], height: int) -> list[Sequence[Part]]:
    left_out = _LEAST_WANTED[: max(len(lines) - height, 0)]
    return [line for at, line in enumerate(lines) if at not in left_out]


def _cut(line: Sequence[Part], width: int) -> list[Part]:
    """As many columns as there are."""
    found: list[Part] = []
    for text, style in line:
        fitting = ""
        for char in text:
            width -= _columns(char)
            if width < 0:
                break
            fitting += char
        found.append((fitting, style))
        if width < 0:
            break
    return found


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _bare_width(painted: str) -> int:
    """Columns of a line without its colours."""
    inside, width = False, 0
    for char in painted:
        if char == "\x1b":
            inside = True
        elif not inside:
            width += _columns(char)
        elif char == "m":
            inside = False
    return width


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@contextlib.contextmanager
def _no_echo() -> Iterator[None]:
    """Keys that are pressed meanwhile leave no sign in the lines, and go to no shell afterwards."""
    import termios

    try:
        before = termios.tcgetattr(sys.stdin)
    except (termios.error, OSError, ValueError):
        yield
        return
    quiet = before[:]
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, before)
