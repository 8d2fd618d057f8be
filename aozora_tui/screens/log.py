"""The engine's log: what libraries and the system said, as a terminal would have shown it."""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import work
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from aozora_tui.keymap import bindings
from aozora_tui.log_text import Level, LogText, pattern_of
from aozora_tui.log_times import LogTimes
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.find_line import FindLine
from aozora_tui.screens.words import counted, cut
from engine.contract.rundir import RunDir

READS_A_TICK = 4
SHOWN = ("all lines", "warnings and errors", "errors")
STYLES = {Level.WARNING: "$warning", Level.ERROR: "$error"}
NO_TIME = " " * 10


class LogScreen(AozoraScreen[None]):
    """Follows the end until it is scrolled up; `G` follows again. `times` knows when the run's log had which length."""

    scopes: ClassVar[tuple[str, ...]] = ("log",)
    BINDINGS = bindings("log")
    AUTO_FOCUS: ClassVar[str] = ""

    def __init__(self, run: RunDir, times: LogTimes | None = None) -> None:
        super().__init__()
        self.run_dir = run
        self.log_text = LogText(run.log)
        self.times = times or LogTimes()
        self.top: int | None = None  # None: following
        self.pattern: re.Pattern[str] | None = None
        self.here: int | None = None  # the line that was found last
        self.found = ""
        self._least = Level.PLAIN
        self._shown: Sequence[int] = range(0)  # the lines that are loud enough
        self._judged = 0
        self._first_column = 0
        self._with_times = False

    def body(self) -> Iterable[Widget]:
        yield Static(id="log", markup=False)
        yield FindLine(id="find")

    def on_mount(self) -> None:
        self.tick()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def tick(self) -> None:
        """Read on; a log of hundreds of megabytes is taken in over some ticks."""
        before, grown = self.log_text.end, False
        try:
            for _ in range(READS_A_TICK):
                if not self.log_text.read():
                    break
                grown = True
        except OSError as error:
            self.say(f"The log cannot be read: {error.strerror or error}", "error")
            return
        if before and self.log_text.end > before:  # what was there when this screen was opened is older
            self.times.add(self.log_text.end, self.aozora.clock())
        if self.log_text.end < before:
            self.top, self.here, self._judged = None, None, 0
        if grown:
            self._show()

    def offers(self, action: str) -> bool:
        return self.pattern is not None if action == "next" else not self.typing or action == "back"

    # -- moving --------------------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        if self.typing or self.pattern is not None:
            self.query_one(FindLine).close()
            self.pattern, self.here, self.found = None, None, ""
            self._show()
            self.update_keys()
        else:
            self.app.pop_screen()

    def action_scroll(self, by: int) -> None:
        last = self._last_top()
        top = min(max((last if self.top is None else self.top) + by, 0), last)
        self.top = None if top >= last else top
        self._show()

    def action_page(self, by: int) -> None:
        self.action_scroll(by * max(self._height() - 1, 1))

    def action_shift(self, by: int) -> None:
        self._first_column = max(self._first_column + by, 0)
        self._show()

    def action_top(self) -> None:
        self.top = 0 if self._last_top() else None
        self._show()

    def action_follow(self) -> None:
        self.top = None
        self._show()

    def action_loud(self) -> None:
        """The line that was at the top, or the next one that is loud enough, stays there."""
        line = None if self.top is None or not self._shown else self._shown[min(self.top, len(self._shown) - 1)]
        self._least, self._judged = Level((self._least + 1) % len(Level)), 0
        self._choose()
        self.top = None if line is None else self._place(line)
        self._show()

    def action_times(self) -> None:
        self._with_times = not self._with_times
        self._show()

    # -- searching -----------------------------------------------------------------------------------------------------

    def action_find(self) -> None:
        self.query_one(FindLine).open()
        self.update_keys()

    def on_find_line_asked(self, event: FindLine.Asked) -> None:
        self.set_focus(None)
        self.update_keys()
        if event.words:
            self.pattern = pattern_of(event.words)
            self.here, self.found = None, ""
            self._search(1)

    def action_next(self, step: int) -> None:
        if self.pattern is None:
            self.action_find()
        else:
            self._search(step)

    def _search(self, step: int) -> None:
        """From the line found last; else from what is in sight: back from its end, as one reads a log."""
        if not len(self.log_text) or self.pattern is None:
            self.found = "not found"
            self._show()
            return
        back = step < 0 if self.here is not None else self.top is None
        if self.here is not None:
            start = (self.here + (1 if step > 0 else -1)) % len(self.log_text)
        else:
            start = len(self.log_text) - 1 if self.top is None else self._shown[min(self.top, len(self._shown) - 1)]
        self.found = "looking"
        self._look_for(self.pattern, start, back)

    @work(thread=True, exclusive=True, group="find", exit_on_error=False)
    def _look_for(self, pattern: re.Pattern[str], start: int, back: bool) -> None:
        worker = get_current_worker()
        text = LogText(self.run_dir.log)
        while text.end < self.log_text.end and not worker.is_cancelled and text.read():
            pass
        at = text.find(pattern, min(start, max(len(text) - 1, 0)), back=back, wanted=lambda: not worker.is_cancelled)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._found, at)
        if at is not None:
            lines = text.count(pattern, wanted=lambda: not worker.is_cancelled)
            if not worker.is_cancelled:
                self.app.call_from_thread(self._counted, lines, at)

    def _found(self, at: int | None) -> None:
        self.here = at
        if at is None:
            self.found = "not found"
        else:
            if self._least and self.log_text.levels[at] < self._least:
                self._least, self._judged = Level.PLAIN, 0
            self._choose()
            self.top = min(max(self._place(at) - self._height() // 2, 0), self._last_top())
        self._show()

    def _counted(self, lines: list[int], at: int) -> None:
        if self.here == at and at in lines:
            self.found = f"{lines.index(at) + 1:,} of {counted(len(lines), 'line')}"
            self._show_title()

    # -- showing -------------------------------------------------------------------------------------------------------

    def _height(self) -> int:
        return max(self.query_one("#log").size.height, 1)

    def _last_top(self) -> int:
        return max(len(self._shown) - self._height(), 0)

    def _place(self, line: int) -> int:
        """Where a line is among those that are loud enough."""
        return bisect_left(self._shown, line)

    def _choose(self) -> None:
        """Which lines are loud enough: only what came since the last time is judged."""
        levels = self.log_text.levels
        if not self._least:
            self._shown = range(len(levels))
            return
        # The last line may have grown since it was judged.
        known = [line for line in self._shown if line < self._judged - 1] if self._judged else []
        first = max(self._judged - 1, 0)
        known += [line for line in range(first, len(levels)) if levels[line] >= self._least]
        self._shown, self._judged = known, len(levels)

    def _show(self) -> None:
        self._choose()
        top = self._last_top() if self.top is None else min(self.top, self._last_top())
        seen = self._shown[top : top + self._height()]
        try:
            texts = [self.log_text.lines(line, 1)[0] for line in seen]
        except (OSError, IndexError):  # it was taken away at this moment
            texts = []
        parts = [self._line(line, text) for line, text in zip(seen, texts, strict=False)]
        empty = "The log is empty: libraries had nothing to say."
        if not parts and len(self.log_text):
            empty = f"No {SHOWN[self._least].replace(' and ', ' or ')} in {counted(len(self.log_text), 'line')}."
        self.set_line("#log", Content("\n").join(parts) if parts else Content(empty))
        self._show_title()

    def _show_title(self) -> None:
        where = "following" if self.top is None else f"line {self.top + 1:,} of {len(self._shown):,}"
        loud = f"  {SHOWN[self._least]}" if self._least else ""
        found = f"  {cut(self.pattern.pattern, 24)}: {self.found}" if self.pattern else ""
        self.set_title((f"{self.run_dir.name}  ", "bold"), f"log  {where}{loud}{found}")

    def _line(self, line: int, text: str) -> Content:
        stamp = self._stamp(line) if self._with_times else ""
        room = max(self.query_one("#log").size.width - len(stamp), 1)
        seen = cut(text[self._first_column :], room)
        style = STYLES.get(Level(self.log_text.levels[line]), "")
        content = Content.styled(seen, style)
        if self.pattern is not None:
            spans = [found.span() for found in self.pattern.finditer(seen) if found.end() > found.start()]
            for start, stop in spans:
                content = content.stylize("reverse", start, stop)
        if self.here == line:
            content = content.stylize("bold")
        return Content.assemble((stamp, "$foreground 60%"), content) if stamp else content

    def _stamp(self, line: int) -> str:
        starts = self.log_text.starts
        end = starts[line + 1] if line + 1 < len(starts) else self.log_text.end
        at = self.times.at(end)
        return NO_TIME if at is None else time.strftime("%H:%M:%S  ", time.localtime(at))
