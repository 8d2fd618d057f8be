"""A line chart that sends the terminal only the cells that changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from textual.app import ComposeResult
from textual.geometry import Region
from textual.reactive import var
from textual.strip import Strip
from textual.widget import Widget

from aozora_tui.widgets.braille import GLYPHS, MARKS, Area, Axes, Layer, draw, notice
from aozora_tui.widgets.cells import Cell, Row, blank, changed, fitting, text_of, to_strip
from aozora_tui.widgets.columns import Columns
from aozora_tui.widgets.scale import reach, settle, short

NUM_SLICES = 8
VALUE_WIDTH = 9  # of a number in the title, so that the ones after it stay put


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one quantity, x ascending. The lists may grow in place: call `set_data` again after that.

    `style_class` is `raw`, `smooth`, `second`, `third` or `fourth`. A `raw` series is what was measured: with the
    chart's smoothing on it becomes faint dots under its own average, otherwise a line. The others are lines, told
    apart by dashes as well as by colour; they follow the chart's smoothing if `smoothed`.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style_class: str = "raw"
    smoothed: bool = False


@dataclass(frozen=True, slots=True)
class _Trace:
    """One thing drawn: a series, or the average of one."""

    series: Series
    columns: Columns
    style: str
    name: str
    scatter: bool = False


class _Slice(Widget):
    """Some columns of a chart.

    Textual sends a changed span together with everything left of it in the same widget, because it cuts a row only
    where widgets begin and end. A chart grows at its right end, so it is made of slices: that caps what a new point
    costs, however full the row already is.
    """

    DEFAULT_CSS = "_Slice { width: 1fr; height: 1fr; }"
    ALLOW_SELECT = False

    def __init__(self, chart: Chart, index: int) -> None:
        super().__init__()
        self.chart, self.index = chart, index

    def render_line(self, y: int) -> Strip:
        return self.chart.strip_for(self.index, y)


class Chart(Widget):
    """Values over steps. `set_data` draws; x runs over the whole length of the run, so that old columns stay put.

    Values that are not finite (on a log axis: not positive) are never plotted: they break the line and are counted in
    the title row. `plotted_rows` is what is on screen, as text with styles.
    """

    DEFAULT_CSS = """
    Chart { height: 10; min-height: 1; layout: horizontal; overflow: hidden; }
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

    # `var` and not `reactive`: these redraw through the comparison of cells instead of repainting the widget.
    title: var[str] = var("")
    smoothing: var[float] = var(0.0)
    """Weight of the past in the debiased exponential average, from 0 (off) to below 1."""
    y_log: var[bool] = var(False)
    ascii_only: var[bool] = var(False)
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
        self._folded: dict[tuple[object, ...], Columns] = {}
        self._rows: tuple[Row, ...] = ()
        self._slices = tuple(_Slice(self, index) for index in range(NUM_SLICES))

    def compose(self) -> ComposeResult:
        yield from self._slices

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

    def strip_for(self, index: int, y: int) -> Strip:
        """What slice number `index` shows in its row `y`."""
        start, stop = self._span_of(index)
        rows = self.plotted_rows
        row = rows[y][start:stop] if y < len(rows) else ()
        return to_strip((*row, *blank(stop - start - len(row))), self._style_of)

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

    def watch_x_window(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        """Draw anew and repaint, in each slice, the span of each row that differs."""
        if not self.size:  # not laid out yet, or hidden; drawn when it is asked for its rows
            self._rows = ()
            return
        old, self._rows = self._rows, self._drawn()
        if len(old) != len(self._rows):
            for part in self._slices:
                part.refresh()
            return
        for index, part in enumerate(self._slices):
            start, stop = self._span_of(index)
            spans = [
                Region(span[0], y, span[1] - span[0], 1)
                for y, (before, after) in enumerate(zip(old, self._rows, strict=True))
                if (span := changed(before[start:stop], after[start:stop]))
            ]
            if spans:  # without arguments, refresh repaints everything
                part.refresh(*spans)

    def _drawn(self) -> tuple[Row, ...]:
        area = Area(self.size.width, self.size.height, self.ascii_only)
        traces = self._traces(area)
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
        return draw(layers, Axes(self._x_range(), self._y_range, self.y_log), area, title=title)

    def _traces(self, area: Area) -> list[_Trace]:
        """The series as dot columns, taking over what earlier calls have folded."""
        folded, self._folded = self._folded, {}
        traces = []
        for position, series in enumerate(self._series):
            averaged = self.smoothing > 0 and (series.smoothed or series.style_class == "raw")
            if averaged and series.style_class == "raw":
                columns = self._fold(folded, (position, series.name, 0.0), area, series)
                traces.append(_Trace(series, columns, "raw", series.name, scatter=True))
            smoothing = self.smoothing if averaged else 0.0
            columns = self._fold(folded, (position, series.name, smoothing), area, series)
            style = "smooth" if series.style_class == "raw" else series.style_class
            average_of_raw = averaged and series.style_class == "raw"
            traces.append(_Trace(series, columns, style, "avg" if average_of_raw else series.name))
        return traces

    def _fold(
        self, folded: dict[tuple[object, ...], Columns], key: tuple[int, str, float], area: Area, series: Series
    ) -> Columns:
        start, stop = self._x_range()
        width = max(area.dots[0], 1)
        full_key = (*key, start, stop, width, self.y_log)
        columns = folded.get(full_key)
        if columns is None or not columns.continues(series.xs, series.ys):
            columns = Columns(start, stop, width, smoothing=key[2], positive=self.y_log)
        columns.extend(series.xs, series.ys)
        self._folded[full_key] = columns
        return columns

    def _title_cells(self, traces: Sequence[_Trace], width: int) -> list[Cell]:
        """Title, then for each trace how it is drawn, whose it is, and its newest value; whole or not at all."""
        parts: list[list[Cell]] = [[(self.title, "title")]] if self.title else []
        # The average skips what its raw series skips: count every series once.
        skipped = sum({trace.series.name: trace.columns.skipped for trace in traces}.values())
        if skipped:
            parts.append([(f"! {skipped} not {'positive' if self.y_log else 'finite'}", "")])
        for trace in traces:
            mark = (GLYPHS if self.ascii_only else MARKS)[trace.style]
            name = "" if trace.name == self.title else f" {trace.name}"
            value = "-" if trace.columns.last is None else short(trace.columns.last)
            parts.append([(mark, trace.style), (f"{name} {value:<{VALUE_WIDTH}}", "")])
        return fitting(parts, width)

    def _style_of(self, style: str) -> Style:
        return self.get_component_rich_style(f"chart--{style}") if style else self.rich_style

    def _span_of(self, index: int) -> tuple[int, int]:
        start = sum(part.size.width for part in self._slices[:index])
        return start, start + self._slices[index].size.width

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
