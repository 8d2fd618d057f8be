"""The loss by timestep over the run as a strip of shades: which noise levels are learnt, and when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from textual.geometry import Region
from textual.reactive import var
from textual.strip import Strip

from aozora_tui.history import TIMESTEPS, History
from aozora_tui.timestep_losses import Mean, TimestepLosses, recent
from aozora_tui.widgets.braille import Area, Axes, notice, x_axis
from aozora_tui.widgets.cells import Cell, Row, blank, cells, changed, fitting, text_of, to_strip
from aozora_tui.widgets.kept_styles import KeptStyles
from aozora_tui.widgets.scale import reach, short

SHADES = ".:-=+*#%@"  # from the lowest to the highest mean; a blank is where there is none
COLOURS = ("5f0087", "5f5faf", "0087af", "00afaf", "5faf87", "87d75f", "afd75f", "d7ff5f", "ffffaf")
VALUES = 9  # columns for the means at the right
MOST_BINS = 40
NOW_STEPS = 64  # that a mean of now is of, at least; a hundredth of the run, if that is more


class HeatStrip(KeptStyles):
    """Rows are equal ranges of the timesteps, the noisiest at the top; columns are spans of the x axis. At the right is
    the mean of each range: of the last steps, or at the cursor. With `own_scale` each row has its own shades, so that
    one sees what became of it; else all share them. Written on the lines of Chart, whose place it can take."""

    DEFAULT_CSS = "HeatStrip { height: 10; min-height: 1; overflow: hidden; }" + "".join(
        f"HeatStrip > .heat--level{level} {{ color: #{colour}; }}" for level, colour in enumerate(COLOURS)
    )
    DEFAULT_CSS += """
    HeatStrip > .heat--title { text-style: bold; }
    HeatStrip > .heat--axis { color: $foreground 70%; }
    HeatStrip > .heat--empty { color: $foreground 70%; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "heat--title",
        "heat--axis",
        "heat--empty",
        *(f"heat--level{level}" for level in range(len(COLOURS))),
    }
    ALLOW_SELECT = False
    style_prefix = "heat"

    title: var[str] = var("")
    own_scale: var[bool] = var(False)
    cursor: var[float | None] = var(None)
    """The x at which the means are read."""
    x_window: var[tuple[float, float] | None] = var(None)
    """The x range to look at; None for the whole run."""

    def __init__(self, title: str = "", *, empty_text: str = "no data yet", ascii_only: bool, name: str) -> None:
        super().__init__(name=name)
        self.empty_text, self.ascii_only = empty_text, ascii_only
        self.set_reactive(HeatStrip.title, title)
        self._history, self._xs = History(), list[float]()
        self._x_total: float | None = None
        self._x_end: float | None = None
        self._losses = TimestepLosses(0.0, 1.0, columns=1, bins=1)
        self._rows: tuple[Row, ...] = ()

    def set_data(self, history: History, xs: Sequence[float], x_total: float | None) -> None:
        """Show its samples over x from 0 to `x_total`, or to a round number beyond them; a step lies at its x."""
        if history is not self._history:
            self._losses = TimestepLosses(0.0, 1.0, columns=1, bins=1)
        self._history, self._xs, self._x_total = history, xs, x_total  # type: ignore[assignment]
        self._redraw()

    @property
    def plotted_rows(self) -> tuple[Row, ...]:
        """All rows, drawn for the present size."""
        width, height = self.size
        if len(self._rows) != height or (self._rows and len(self._rows[0]) != width):
            self._rows = self._drawn()
        return self._rows

    @property
    def text(self) -> str:
        """The strip as lines of text."""
        return "\n".join(text_of(row).rstrip() for row in self.plotted_rows)

    def render_line(self, y: int) -> Strip:
        rows = self.plotted_rows
        return to_strip(rows[y] if y < len(rows) else blank(self.size.width), self.style_of)

    def dots(self) -> int:
        """Places of the plot at the present size: how far one step of a cursor goes."""
        return max(self._area.plot_width, 2)

    @property
    def x_end(self) -> float:
        """Where the x axis of the whole run ends."""
        last = self._xs[-1] if len(self._xs) else 0.0
        if self._x_total is not None and self._x_total > 0:
            return max(self._x_total, last)
        self._x_end = reach(self._x_end, last)
        return self._x_end

    def watch_title(self) -> None:
        self._redraw()

    def watch_own_scale(self) -> None:
        self._redraw()

    def watch_cursor(self) -> None:
        self._redraw()

    def watch_x_window(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        if not self.size:
            self._rows = ()
            return
        old, self._rows = self._rows, self._drawn()
        if len(old) != len(self._rows):
            self.refresh()
            return
        pairs = enumerate(zip(old, self._rows, strict=True))
        spans = [Region(span[0], y, span[1] - span[0], 1) for y, (one, other) in pairs if (span := changed(one, other))]
        if spans:  # without arguments, refresh repaints everything
            self.refresh(*spans)

    @property
    def _room(self) -> int:
        """Columns for the means; none where they would leave no plot."""
        return VALUES if self.size.width >= 40 else 0

    @property
    def _area(self) -> Area:
        """Of the plot with its axes; the means lie right of it."""
        return Area(self.size.width - self._room, self.size.height, self.ascii_only)

    @property
    def _plain(self) -> bool:
        """Whether shades of colour would not be told apart."""
        return self.ascii_only or self.app.native_ansi_color or self.app.console.color_system in (None, "standard")

    def _drawn(self) -> tuple[Row, ...]:
        area, whole = self._area, Area(self.size.width, self.size.height)
        bins, columns = min(area.plot_height, MOST_BINS), area.plot_width
        if not len(self._history.samples.losses) or bins < 1 or columns < 1:
            return notice(self.empty_text, whole, title=[(self.title, "title")])
        start, stop = self.x_window or (0.0, self.x_end)
        made = self._losses
        if (made.start, made.stop, made.columns, made.bins) != (start, stop, columns, bins):
            self._losses = TimestepLosses(start, stop, columns=columns, bins=bins)
        self._losses.update(self._history, self._xs)
        rows = [cells(self._title(), whole.width)] * whole.top
        means = self._means(bins)
        for place in reversed(range(bins)):
            value = f" {short(means[place].value, 3):<{VALUES - 1}}" if means[place].count else ""
            right = cells([(value, "")], self._room)
            rows.append((*self._gutter(place, bins), *self._shades(place), *right))
        rows += [blank(whole.width)] * (area.plot_height - bins)
        axes = Axes((start, stop), (0.0, 1.0))
        rows += [(*row, *blank(self._room)) for row in self._marked(x_axis(axes, area), axes)]
        return tuple(rows)

    def _title(self) -> list[Cell]:
        extent, parts = self._losses.extent(), [[(self.title, "title")]]
        where = "at cursor" if self.cursor is not None else "mean now"
        if self.own_scale:
            parts.append([("each range: ", ""), *self._scale(), (" low to high", "")])
        elif extent is not None:
            parts.append([(f"{short(extent[0], 3)} ", ""), *self._scale(), (f" {short(extent[1], 3)}", "")])
        parts.append([(f"right: {where}", "axis")])
        return fitting(parts, self.size.width)

    def _scale(self) -> list[Cell]:
        return [self._cell(level) for level in range(len(SHADES))]

    def _cell(self, level: int) -> Cell:
        return (SHADES[level], "") if self._plain else ("█", f"level{level}")

    def _shades(self, place: int) -> Row:
        """The cells of one range of timesteps."""
        grid, extent = self._losses.grid, self._losses.extent()
        if self.own_scale:
            own = [column[place].value for column in grid if column[place].count]
            extent = (min(own), max(own)) if own else None
        if extent is None:
            return blank(len(grid))
        low, span = extent[0], max(extent[1] - extent[0], 1e-12)
        last = len(SHADES) - 1
        return tuple(
            self._cell(min(max(round((column[place].value - low) / span * last), 0), last))
            if column[place].count and math.isfinite(column[place].value)
            else (" ", "")
            for column in grid
        )

    def _gutter(self, place: int, bins: int) -> Row:
        """The smallest timestep of a range, left of it."""
        width, line = self._area.gutter, "|" if self.ascii_only else "│"
        edge = math.ceil(place * TIMESTEPS / bins)
        label = f"t {edge:>3}" if place == bins - 1 else str(edge)
        return cells([(f"{label:>{width - 1}}{line}", "axis")], width) if width else ()

    def _means(self, bins: int) -> list[Mean]:
        if self.cursor is not None:
            return list(self._losses.grid[self._losses.column_of(self.cursor)])
        return recent(self._history, max(NOW_STEPS, len(self._history.steps) // 100), bins)

    def _marked(self, rows: list[Row], axes: Axes) -> list[Row]:
        """With the cursor on the axis."""
        start, stop = axes.x_range
        if self.cursor is None or not rows or not start <= self.cursor <= stop:
            return rows
        row, place = list(rows[0]), self._area.gutter + self._losses.column_of(self.cursor)
        row[place] = ("^" if self.ascii_only else "▲", "title")
        return [tuple(row), *rows[1:]]
