"""The engine's log: what libraries and the system said, as a terminal would have shown it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui.keymap import bindings
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.words import cut
from engine.contract.rundir import RunDir

KEPT_LINES = 5000
WINDOW = 1 << 19
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b\x0c\x0e-\x1f]")


class LogTail:
    """The last lines of a growing text file; a progress bar that redraws itself is one line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self._offset: int | None = None
        self._open_line = b""

    def read(self) -> bool:
        """Take in what was appended, at most 512 KiB of it; whether there was anything."""
        try:
            with self.path.open("rb") as file:
                end = os.fstat(file.fileno()).st_size
                if self._offset is None or end < self._offset:
                    self._offset, self._open_line, self.lines = max(0, end - WINDOW), b"", []
                if end == self._offset:
                    return False
                file.seek(self._offset)
                block = file.read(WINDOW)
        except FileNotFoundError:
            return False
        self._offset += len(block)
        *whole, rest = (self._open_line + block).split(b"\n")
        if self._open_line and self.lines:
            self.lines.pop()
        self._open_line = rest[-4096:]
        self.lines += [_as_shown(line) for line in whole] + ([_as_shown(rest)] if rest.strip() else [])
        if not rest.strip():
            self._open_line = b""
        del self.lines[:-KEPT_LINES]
        return True


def _as_shown(line: bytes) -> str:
    """What is left on the line after its carriage returns, without colours and tabs."""
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    return _ESCAPES.sub("", text.rpartition("\r")[2]).expandtabs(4).rstrip()


class LogScreen(AozoraScreen[None]):
    """Follows the end until it is scrolled up; `G` follows again. Only the visible lines exist as widgets' text."""

    scopes: ClassVar[tuple[str, ...]] = ("log",)
    BINDINGS = bindings("log")

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run_dir = run
        self.log_tail = LogTail(run.log)
        self.top: int | None = None  # None: following

    def body(self) -> Iterable[Widget]:
        yield Static(id="log", markup=False)

    def on_mount(self) -> None:
        self.log_tail.read()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def tick(self) -> None:
        if self.log_tail.read():
            self._show()

    def action_back(self) -> None:
        self.app.pop_screen()

    def action_scroll(self, by: int) -> None:
        last = self._last_top()
        top = min(max((last if self.top is None else self.top) + by, 0), last)
        self.top = None if top >= last else top
        self._show()

    def action_page(self, by: int) -> None:
        self.action_scroll(by * max(self._height() - 1, 1))

    def action_top(self) -> None:
        self.top = 0 if self._last_top() else None
        self._show()

    def action_follow(self) -> None:
        self.top = None
        self._show()

    def _height(self) -> int:
        return max(self.query_one("#log").size.height, 1)

    def _last_top(self) -> int:
        return max(len(self.log_tail.lines) - self._height(), 0)

    def _show(self) -> None:
        lines, top = self.log_tail.lines, self._last_top() if self.top is None else self.top
        width = self.query_one("#log").size.width
        shown = "\n".join(cut(line, width) for line in lines[top : top + self._height()])
        self.set_line("#log", Content(shown or "The log is empty: libraries had nothing to say."))
        place = "following" if self.top is None else f"line {top + 1:,} of {len(lines):,}"
        self.set_title((f"{self.run_dir.name}  ", "bold"), f"log  {place}")
