"""Curves of several runs in one chart, each with its sign along the line, and the legend that says whose is whose."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from textual.strip import Strip

from aozora_tui.widgets.braille import MARKS, Area, Axes
from aozora_tui.widgets.cells import Cell, Row, cells, fitting, to_strip
from aozora_tui.widgets.chart import Chart
from aozora_tui.widgets.columns import Column
from aozora_tui.widgets.kept_styles import KeptStyles
from aozora_tui.widgets.run_marks import classes, css
from aozora_tui.widgets.traces import Trace, nearest_index

APART = 16  # columns from one sign of a line to its next


class Overlay(Chart):
    """`set_data` takes a series a run, called by its place and in its style. Where only ASCII arrives the lines are
    made of the runs' letters; otherwise a sign stands on them every so often, and at their ends."""

    DEFAULT_CSS = css("Overlay", "chart")
    COMPONENT_CLASSES: ClassVar[set[str]] = classes("chart")
    _traces: Sequence[Trace] = ()

    @property
    def readings(self) -> Mapping[str, float | None]:
        """By the name of the series: the newest value, or the one at the cursor; None where there is none. What is
        smoothed is read smoothed."""
        if not self._rows:
            self.plotted_rows  # noqa: B018  (draws, if that was put off)
        return {
            trace.name: trace.columns.last if self.cursor is None else self._at_cursor(trace) for trace in self._traces
        }

    def _title_cells(self, traces: Sequence[Trace], width: int) -> list[Cell]:
        """Whose lines they are stands in the legend."""
        self._traces = traces
        skipped = sum(trace.columns.skipped for trace in traces)
        parts: list[list[Cell]] = [[(self.title, "title")]]
        if skipped:
            parts.append([(f"! {skipped:,} not {'positive' if self.y_log else 'finite'}", "")])
        return fitting(parts, width)

    def _at_cursor(self, trace: Trace) -> float | None:
        """Nothing beyond a run's ends, by more than a dot."""
        assert self.cursor is not None
        series = trace.series
        start, stop = self._x_range()
        width = trace.columns.width
        dot = (stop - start) / max(width - 1, 1)
        if not len(series.xs) or not series.xs[0] - dot <= self.cursor <= series.xs[-1] + dot:
            return None
        if self.smoothing and series.smoothed:
            at = self._dot(self.cursor, width)
            near = min(trace.columns.by_dot, key=lambda each: abs(each - at), default=None)
            return None if near is None else trace.columns.by_dot[near].last
        index = nearest_index(series.xs, self.cursor)
        value = None if index is None else series.ys[index]
        return value if value is not None and math.isfinite(value) else None

    def _over(self, rows: tuple[Row, ...], traces: Sequence[Trace], axes: Axes, area: Area) -> tuple[Row, ...]:
        if area.ascii_only:
            return rows
        taken: dict[tuple[int, int], Cell] = {}
        for order, trace in enumerate(traces):
            first = APART * order // max(len(traces), 1) + APART // 4
            for column, line in _places(trace.columns.by_dot, first, axes, area):
                taken.setdefault((column, line), (MARKS[trace.style], trace.style))
        lines = [list(row) for row in rows]
        for (column, line), cell in taken.items():
            lines[area.top + line][area.gutter + column] = cell
        return tuple(tuple(line) for line in lines)


def _places(by_dot: Mapping[int, Column], first: int, axes: Axes, area: Area) -> Iterable[tuple[int, int]]:
    """Where on its line a run's signs stand: near every `APART`th column from `first` on, and at the newest value."""
    across, down = area.dots
    dots = sorted(dot for dot in by_dot if 0 <= dot < across)
    if not dots or not down:
        return
    wanted = [*range(2 * first, across, 2 * APART), dots[-1]]
    for want in wanted:
        right = bisect_left(dots, want)
        near = min(dots[max(right - 1, 0) : right + 1], key=lambda dot: abs(dot - want))
        if abs(near - want) <= APART // 2:
            yield near // 2, axes.dot_row(by_dot[near].last, down) // 4


class Legend(KeptStyles):
    """A line a run, or one line of all their names."""

    DEFAULT_CSS = f"""
    Legend {{ height: 1; }}
    {css("Legend", "legend")}
    Legend > .legend--dim {{ color: $foreground 60%; }}
    Legend > .legend--head {{ color: $primary; text-style: bold; }}
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = classes("legend") | {"legend--dim", "legend--head"}
    ALLOW_SELECT = False
    style_prefix = "legend"

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.lines: tuple[tuple[Cell, ...], ...] = ()

    def set_lines(self, lines: Sequence[Sequence[Cell]]) -> None:
        """Parts of text with their styles: "", "dim", "head" or one of a run's."""
        before, self.lines = self.lines, tuple(map(tuple, lines))
        if before != self.lines:
            self.refresh()

    def render_line(self, y: int) -> Strip:
        line = self.lines[y] if y < len(self.lines) else ()
        return to_strip(cells(line, self.size.width), self.style_of)
