"""A line chart drawn in rows of characters: braille dots, 2 by 4 a cell, or plain ASCII. Pure, and free of Textual."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aozora_tui.widgets.cells import Cell, Row, blank, cells
from aozora_tui.widgets.columns import Column
from aozora_tui.widgets.run_marks import LETTERS, RUN_STYLES, SIGNS
from aozora_tui.widgets.scale import linear_ticks, log_ticks, nice_step, tick_labels, whole

GUTTER = 7  # y labels and the axis; constant, so that old columns stay put when labels get longer
# The dots of a braille cell as bits over U+2800, by (dot row, dot column) inside the cell.
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
# How each style is told from the others without colour: dots on and off along the line, its ASCII glyph, its mark in
# the title row.
DASHES: Mapping[str, tuple[int, int]] = {"second": (6, 2), "third": (1, 1), "fourth": (3, 2)}
GLYPHS: Mapping[str, str] = {
    "raw": ".",
    "smooth": "*",
    "second": "+",
    "third": "o",
    "fourth": "x",
    **dict(zip(RUN_STYLES, LETTERS, strict=True)),
}
MARKS: Mapping[str, str] = {
    "raw": "⠂⠐",
    "smooth": "⠒⠒",
    "second": "⠒ ",
    "third": "⠂⠂",
    "fourth": "⠐⠒",
    **dict(zip(RUN_STYLES, SIGNS, strict=True)),
}


@dataclass(frozen=True, slots=True)
class Layer:
    """One series: values by dot column. `scatter` draws the extremes of each column, otherwise a connected line."""

    columns: Mapping[int, Column]
    style: str
    scatter: bool = False


@dataclass(frozen=True, slots=True)
class Area:
    """Where things go in `width` by `height` cells. Too small for axes: they go first, then the title row."""

    width: int
    height: int
    ascii_only: bool = False

    @property
    def gutter(self) -> int:
        """Columns left of the plot."""
        return GUTTER if self.width >= 20 and self.height >= 3 else 0

    @property
    def top(self) -> int:
        """Rows above the plot: the title, which also says the newest value, is the last to go."""
        return min(self.height, 1)

    @property
    def footer(self) -> int:
        """Rows under the plot: x labels, and an axis line where it does not crowd the plot."""
        return 0 if self.height < 4 else 1 if self.height < 8 else 2

    @property
    def plot_width(self) -> int:
        """Columns of the plot."""
        return max(self.width - self.gutter, 0)

    @property
    def plot_height(self) -> int:
        """Rows of the plot."""
        return max(self.height - self.top - self.footer, 0)

    @property
    def dots(self) -> tuple[int, int]:
        """Plot size in dots, (across, down)."""
        across, down = (1, 1) if self.ascii_only else (2, 4)
        return self.plot_width * across, self.plot_height * down


@dataclass(frozen=True, slots=True)
class Axes:
    """What the edges of the plot stand for."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    y_log: bool = False

    def dot_row(self, value: float, rows: int) -> int:
        """The dot row, 0 at the top, of a value; values beyond the range go to its edge."""
        low, high = self.y_range
        if self.y_log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        share = (high - value) / (high - low)
        return min(max(int(share * (rows - 1) + 0.5), 0), rows - 1)


def draw(layers: Sequence[Layer], axes: Axes, area: Area, *, title: Sequence[Cell] = ()) -> tuple[Row, ...]:
    """`area.height` rows of `area.width` cells: title, plot with y axis, x axis. Later layers lie on top."""
    plot = plot_rows(layers, axes, area)
    gutter = y_axis(axes, area)
    rows = [cells(title, area.width)] * area.top
    rows += [(*left, *right) for left, right in zip(gutter, plot, strict=True)]
    rows += x_axis(axes, area)
    return tuple(rows)


def notice(text: str, area: Area, *, title: Sequence[Cell] = ()) -> tuple[Row, ...]:
    """The rows of a chart that has nothing to draw, with `text` in their middle if they can hold it."""
    rows = [blank(area.width)] * area.height
    rows[: area.top] = [cells(title, area.width)] * area.top
    if area.plot_height > 0 and len(text) <= area.width:
        left = (area.width - len(text)) // 2
        rows[area.top + area.plot_height // 2] = (*blank(left), *cells([(text, "empty")], area.width - left))
    return tuple(rows)


def plot_rows(layers: Sequence[Layer], axes: Axes, area: Area) -> list[Row]:
    """The plot alone. Where layers share a cell it has the style of the topmost; lines keep the dots of lines under
    them, but not scattered ones, so that an average stays crisp over what it averages."""
    top: dict[tuple[int, int], Cell] = {}
    lines: dict[tuple[int, int], int] = {}
    for layer in layers:
        lit: dict[tuple[int, int], int] = {} if layer.scatter else lines
        touched = set()
        for x, y in _dots(layer, axes, area):
            cell = (x, y) if area.ascii_only else (x // 2, y // 4)
            lit[cell] = lit.get(cell, 0) | DOTS[y % 4][x % 2]
            touched.add(cell)
        for cell in touched:
            top[cell] = (GLYPHS[layer.style] if area.ascii_only else chr(0x2800 + lit[cell]), layer.style)
    rows = [[*blank(area.plot_width)] for _ in range(area.plot_height)]
    for (column, line), drawn in top.items():
        rows[line][column] = drawn
    return [tuple(row) for row in rows]


def y_axis(axes: Axes, area: Area) -> list[Row]:
    """Left of each plot row: a label where a round value lies, and the axis."""
    if area.gutter == 0:
        return [()] * area.plot_height
    tick_glyph, line_glyph = ("+", "|") if area.ascii_only else ("┤", "│")
    count = max(2, area.plot_height // 2)
    ticks = (log_ticks if axes.y_log else linear_ticks)(*axes.y_range, count)
    rows_per_cell = 1 if area.ascii_only else 4
    labels = [""] * area.plot_height
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        row = axes.dot_row(tick, area.dots[1]) // rows_per_cell
        labels[row] = labels[row] or label
    room = area.gutter - 1
    return [
        cells([(f"{label[:room]:>{room}}{tick_glyph if label else line_glyph}", "axis")], area.gutter)
        for label in labels
    ]


def x_axis(axes: Axes, area: Area) -> list[Row]:
    """The rows under the plot: the axis line with its marks if there is room for it, and step numbers."""
    if area.footer == 0 or area.plot_width == 0:
        return [blank(area.width)] * area.footer
    corner, line, tick_glyph = ("+", "-", "+") if area.ascii_only else ("└", "─", "┴")
    rule = [line] * area.plot_width
    text = [" "] * area.width
    for column, label in _x_labels(axes, area):
        left = min(max(area.gutter + column - len(label) // 2, 0), area.width - len(label))
        around = "".join(text[max(left - 1, 0) : left + len(label) + 1])
        if left >= 0 and not around.strip():
            text[left : left + len(label)] = label
            rule[column] = tick_glyph
    rows = [cells([("".join(text), "axis")], area.width)]
    if area.footer == 2:
        left_end = f"{corner:>{area.gutter}}" if area.gutter else ""
        rows.insert(0, cells([(left_end + "".join(rule), "axis")], area.width))
    return rows


def _x_labels(axes: Axes, area: Area) -> Iterator[tuple[int, str]]:
    """Plot column and text of each step number: the two ends first, for these are never crowded out."""
    start, stop = axes.x_range
    for x in (stop, start, *linear_ticks(start, stop, max(1, area.plot_width // 12))):
        column = int((x - start) / (stop - start) * (area.plot_width - 1) + 0.5)
        yield column, whole(x) if nice_step(stop - start, 10) >= 1 else f"{x:.4g}"


def _dots(layer: Layer, axes: Axes, area: Area) -> Iterator[tuple[int, int]]:
    """Every dot of a layer, (across, down)."""
    across, down = area.dots
    on, off = (1, 0) if area.ascii_only else DASHES.get(layer.style, (1, 0))
    previous: tuple[int, int] | None = None
    for x in sorted(layer.columns):
        if not 0 <= x < across or down == 0:
            continue
        column = layer.columns[x]
        highest, lowest = axes.dot_row(column.high, down), axes.dot_row(column.low, down)
        if layer.scatter:
            yield from {(x, highest), (x, lowest)}
            continue
        if previous is not None and column.joined:
            here = (x, axes.dot_row(column.first, down))
            yield from (dot for dot in _segment(previous, here) if dot[0] % (on + off) < on)
        if x % (on + off) < on:
            yield from ((x, y) for y in range(highest, lowest + 1))
        previous = (x, axes.dot_row(column.last, down))


def _segment(start: tuple[int, int], stop: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The dots strictly after `start` up to `stop`, as a line without gaps."""
    (x0, y0), (x1, y1) = start, stop
    length = max(abs(x1 - x0), abs(y1 - y0))
    for index in range(1, length + 1):
        yield x0 + round((x1 - x0) * index / length), y0 + round((y1 - y0) * index / length)
