"""A line chart that sends the terminal only the cells that changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from textual.geometry import Region
from textual.reactive import var
from textual.strip import Strip

from aozora_tui.widgets.braille import GLYPHS, MARKS, Area, Axes, Layer, draw, notice
from aozora_tui.widgets.cells import Cell, Row, blank, changed, fitting, text_of, to_strip
from aozora_tui.widgets.kept_styles import KeptStyles
from aozora_tui.widgets.scale import reach, settle, short
from aozora_tui.widgets.traces import Fold, Folds, Series, Trace, nearest_index

VALUE_WIDTH = 9  # of a number in the title, so that the ones after it stay put


class Chart(KeptStyles):
    """Values over steps. `set_data` draws; x runs over the whole length of the run, so that old columns stay put.

    Values that are not finite (on a log axis: not positive) are never plotted: they break the line and are counted in
    the title row. `plotted_rows` is what is on screen, as text with styles.
    """

    DEFAULT_CSS = """
    Chart { height: 10; min-height: 1; overflow: hidden; }
    Chart > .chart--title { text-style: bold; }
    Chart > .chart--raw { color: $foreground 45%; }
    Chart:ansi > .chart--raw { text-style: dim; }
    Chart > .chart--smooth { color: $primary; }
    Chart > .chart--second { color: $warning; }
    Chart > .chart--third { color: $success; }
    Chart > .chart--fourth { color: $error; }
    Chart > .chart--axis { color: $foreground 70%; }
    Chart > .chart--empty { color: $foreground 70%; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--title",
        "chart--raw",
        "chart--smooth",
        "chart--second",
        "chart--third",
        "chart--fourth",
        "chart--axis",
        "chart--empty",
    }
    ALLOW_SELECT = False
    style_prefix = "chart"

    # `var` and not `reactive`: these redraw through the comparison of cells instead of repainting the widget.
    title: var[str] = var("")
    smoothing: var[float] = var(0.0)
    """Weight of the past in the debiased exponential average, from 0 (off) to below 1."""
    y_log: var[bool] = var(False)
    ascii_only: var[bool] = var(False)
    median: var[bool] = var(False)
    """Whether a `raw` series has its running median drawn too."""
    cursor: var[float | None] = var(None)
    """The x at which values are read: marked on the axis, and the title says what they are there."""
    x_window: var[tuple[float, float] | None] = var(None)
    """The x range to look at; None for the whole run."""

    def __init__(
        self,
        title: str = "",
        *,
        empty_text: str = "no data yet",
        smoothing: float = 0.0,
        y_log: bool = False,
        ascii_only: bool = False,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.empty_text = empty_text
        self.set_reactive(Chart.title, title)
        self.set_reactive(Chart.smoothing, self.validate_smoothing(smoothing))
        self.set_reactive(Chart.y_log, y_log)
        self.set_reactive(Chart.ascii_only, ascii_only)
        self._series: tuple[Series, ...] = ()
        self._x_total: float | None = None
        self._x_end: float | None = None
        self._y_range: tuple[float, float] | None = None
        self._y_key: tuple[bool, tuple[float, float] | None] = (y_log, None)
        self._folds = Folds()
        self._rows: tuple[Row, ...] = ()

    def set_data(self, series: Sequence[Series], x_total: float | None = None) -> None:
        """Show these series over x from 0 to `x_total`, or to a round number beyond the data if that is unknown."""
        self._series, self._x_total = tuple(series), x_total
        self._redraw()

    def zoom(self, factor: float) -> None:
        """Look at `factor` times as much of the x axis as now, about the middle; the whole run at most."""
        start, stop = self._x_range()
        half, middle, whole = (stop - start) * factor / 2, (start + stop) / 2, self._whole()
        if 2 * half >= whole:
            self.x_window = None
        elif half > 1e-6 * whole:
            self._look_from(middle - half, 2 * half)

    def pan(self, share: float) -> None:
        """Move the x window right by `share` of its width, left if negative; it stops at the ends of the run."""
        start, stop = self._x_range()
        if self.x_window is not None:
            self._look_from(start + share * (stop - start), stop - start)

    @property
    def plotted_rows(self) -> tuple[Row, ...]:
        """All rows, drawn for the present size."""
        width, height = self.size
        if len(self._rows) != height or (self._rows and len(self._rows[0]) != width):
            self._rows = self._drawn()
        return self._rows

    @property
    def text(self) -> str:
        """The chart as lines of text, for the clipboard and for tests."""
        return "\n".join(text_of(row).rstrip() for row in self.plotted_rows)

    def render_line(self, y: int) -> Strip:
        rows = self.plotted_rows
        return to_strip(rows[y] if y < len(rows) else blank(self.size.width), self.style_of)

    def validate_smoothing(self, smoothing: float) -> float:
        return min(max(smoothing, 0.0), 0.9999)

    def watch_title(self) -> None:
        self._redraw()

    def watch_smoothing(self) -> None:
        self._redraw()

    def watch_y_log(self) -> None:
        self._redraw()

    def watch_ascii_only(self) -> None:
        self._redraw()

    def watch_median(self) -> None:
        self._redraw()

    def watch_cursor(self) -> None:
        self._redraw()

    def watch_x_window(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        """Draw anew and repaint the span of each row that differs. Textual sends it with all that is left of it in the
        widget; the app only what changed."""
        if not self.size:  # not laid out yet, or hidden; drawn when it is asked for its rows
            self._rows = ()
            return
        old, self._rows = self._rows, self._drawn()
        if len(old) != len(self._rows):
            self.refresh()
            return
        spans = [
            Region(span[0], y, span[1] - span[0], 1)
            for y, (before, after) in enumerate(zip(old, self._rows, strict=True))
            if before != after and (span := changed(before, after))
        ]
        if spans:  # without arguments, refresh repaints everything
            self.refresh(*spans)

    def _drawn(self) -> tuple[Row, ...]:
        area = Area(self.size.width, self.size.height, self.ascii_only)
        width, fold = max(area.dots[0], 1), Fold(self.smoothing, self.median, self.y_log)
        traces = self._folds.of(self._series, self._x_range(), width, fold)
        extents = [extent for trace in traces if (extent := trace.columns.extent())]
        title = self._title_cells(traces, area.width)
        if not extents:
            return notice(self.empty_text, area, title=title)
        if self._y_key != (self.y_log, self.x_window):
            self._y_key, self._y_range = (self.y_log, self.x_window), None
        low, high = min(low for low, _ in extents), max(high for _, high in extents)
        self._y_range = settle(self._y_range, low, high, log=self.y_log)
        layers = [Layer(trace.columns.by_dot, trace.style, trace.scatter) for trace in traces]
        # Dots at the bottom, and the first series on top of the others.
        layers = [layer for layer in layers if layer.scatter] + [layer for layer in layers[::-1] if not layer.scatter]
        axes = Axes(self._x_range(), self._y_range, self.y_log)
        return self._marked(self._over(draw(layers, axes, area, title=title), traces, axes, area), area)

    def _over(self, rows: tuple[Row, ...], traces: Sequence[Trace], axes: Axes, area: Area) -> tuple[Row, ...]:  # noqa: ARG002  (for subclasses)
        """With what lies over the lines."""
        return rows

    def _title_cells(self, traces: Sequence[Trace], width: int) -> list[Cell]:
        """Title, then for each trace how it is drawn, whose it is, and its newest value; whole or not at all."""
        parts: list[list[Cell]] = [[(self.title, "title")]] if self.title else []
        # The average skips what its raw series skips: count every series once.
        skipped = sum({trace.series.name: trace.columns.skipped for trace in traces}.values())
        if skipped:
            parts.append([(f"! {skipped} not {'positive' if self.y_log else 'finite'}", "")])
        for trace in traces:
            mark = (GLYPHS if self.ascii_only else MARKS)[trace.style]
            name = "" if self.title.endswith(trace.name) else f" {trace.name}"
            number = trace.columns.last if self.cursor is None else self._at_cursor(trace)
            value = "-" if number is None else short(number)
            parts.append([(mark, trace.style), (f"{name} {value:<{VALUE_WIDTH}}", "")])
        return fitting(parts, width)

    def _at_cursor(self, trace: Trace) -> float | None:
        """What was measured nearest to the cursor; of an average or a median its value in the cursor's dot column."""
        assert self.cursor is not None
        series = trace.series
        if trace.columns.by_dot and trace.name in ("avg", "median"):
            dot = self._dot(self.cursor, trace.columns.width)
            nearest = min(trace.columns.by_dot, key=lambda each: abs(each - dot))
            return trace.columns.by_dot[nearest].last
        index = nearest_index(series.xs, self.cursor)
        value = None if index is None else series.ys[index]
        return value if value is not None and math.isfinite(value) else None

    def _dot(self, x: float, width: int) -> int:
        start, stop = self._x_range()
        return int((x - start) / (stop - start) * (width - 1) + 0.5)

    def _marked(self, rows: tuple[Row, ...], area: Area) -> tuple[Row, ...]:
        """With the cursor under the plot, on the axis line or in the place of a label."""
        start, stop = self._x_range()
        if self.cursor is None or not area.footer or not start <= self.cursor <= stop:
            return rows
        column = area.gutter + self._dot(self.cursor, area.dots[0]) // (1 if area.ascii_only else 2)
        place = area.height - area.footer
        marked = list(rows[place])
        marked[column] = ("^" if area.ascii_only else "▲", "title")
        return (*rows[:place], tuple(marked), *rows[place + 1 :])

    def dots(self) -> int:
        """Dot columns of the plot at the present size: how far one step of a cursor goes."""
        return max(Area(self.size.width, self.size.height, self.ascii_only).dots[0], 2)

    @property
    def x_end(self) -> float:
        """Where the x axis of the whole run ends."""
        return self._whole()

    def _whole(self) -> float:
        """The end of the run on the x axis."""
        last = max((series.xs[-1] for series in self._series if len(series.xs)), default=0.0)
        if self._x_total is not None and self._x_total > 0:
            return max(self._x_total, last)
        self._x_end = reach(self._x_end, last)
        return self._x_end

    def _x_range(self) -> tuple[float, float]:
        return self.x_window or (0.0, self._whole())

    def _look_from(self, start: float, width: float) -> None:
        start = min(max(start, 0.0), self._whole() - width)
        self.x_window = (start, start + width)
