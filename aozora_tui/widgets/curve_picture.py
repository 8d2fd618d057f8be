"""A curve with its points and a cursor in rows of characters. Pure, and free of Textual."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aozora_tui.widgets.braille import Area, Axes, Layer, draw, notice
from aozora_tui.widgets.cells import Cell, Row, fitting
from aozora_tui.widgets.columns import Columns

STYLES = ("title", "smooth", "second", "axis", "empty", "point", "cursor")
# Of a point, of the cursor, and of the cursor on the x axis; with and without Unicode.
SIGNS: Mapping[bool, tuple[str, str, str]] = {False: ("○", "●", "▲"), True: ("o", "@", "^")}
DOTTED = 8  # columns of dots from one to the next
LEGEND: Mapping[str, tuple[str, str]] = {"smooth": ("⠒⠒", "*"), "second": ("⠂", "+")}


@dataclass(frozen=True)
class Line:
    """`style` is `smooth`, or `second` for dots, which are cheap to send; x ascending."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style: str = "smooth"


@dataclass(frozen=True)
class Picture:
    """What is plotted, the topmost line first. `points` are (x, y) in the axes' units, `cursor` is one too; `notice`
    stands there instead of lines. `axes` must be wide enough for all of it."""

    title: str
    axes: Axes
    lines: Sequence[Line] = ()
    points: Sequence[tuple[float, float]] = ()
    cursor: tuple[float, float] | None = None
    notice: str = ""


def rows_of(picture: Picture, area: Area) -> tuple[Row, ...]:
    """`area.height` rows of `area.width` cells."""
    title = fitting(_legend(picture, ascii_only=area.ascii_only), area.width)
    if picture.notice:
        return notice(picture.notice, area, title=title)
    layers = []
    for line in reversed(picture.lines):
        columns = Columns(*picture.axes.x_range, max(area.dots[0], 1))
        columns.extend(line.xs, line.ys)
        dotted = line.style == "second"
        by_dot = {dot: column for dot, column in columns.by_dot.items() if not dotted or dot % DOTTED == 0}
        layers.append(Layer(by_dot, line.style, scatter=dotted))
    rows = [list(row) for row in draw(layers, picture.axes, area, title=title)]
    _mark(rows, picture, area)
    return tuple(tuple(row) for row in rows)


def _legend(picture: Picture, *, ascii_only: bool) -> list[list[Cell]]:
    named = [[(LEGEND[line.style][ascii_only], line.style), (f" {line.name}", "")] for line in picture.lines]
    return [[(picture.title, "title")], *named]


def _mark(rows: list[list[Cell]], picture: Picture, area: Area) -> None:
    """Put the points over the lines, and the cursor over the points."""
    point, cursor, below = SIGNS[area.ascii_only]
    if not area.plot_width or not area.plot_height:
        return
    many = Counter(_cell(place, picture.axes, area) for place in picture.points)
    for (x, y), count in many.items():
        rows[y][x] = (point if count == 1 else f"{min(count, 9)}", "point")
    if picture.cursor is not None:
        x, y = _cell(picture.cursor, picture.axes, area)
        rows[y][x] = (cursor, "cursor")
        if area.footer == 2:
            rows[area.top + area.plot_height][x] = (below, "cursor")


def hidden(picture: Picture, area: Area) -> list[int]:
    """The indices of the points that the cursor, being on another one, lies over."""
    if picture.cursor is None or not area.plot_width or not area.plot_height:
        return []
    here = _cell(picture.cursor, picture.axes, area)
    return [
        index
        for index, place in enumerate(picture.points)
        if place != picture.cursor and _cell(place, picture.axes, area) == here
    ]


def _cell(place: tuple[float, float], axes: Axes, area: Area) -> tuple[int, int]:
    """Column and row of a place, those of the dots that a line through it has."""
    (start, stop), (across, down) = axes.x_range, area.dots
    column = int((place[0] - start) / (stop - start) * (across - 1) + 0.5) * area.plot_width // across
    return area.gutter + column, area.top + axes.dot_row(place[1], down) * area.plot_height // down
