"""A few rows of braille that say how one number went: newest at the right, a scale at the left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from aozora_tui.widgets.braille import Area, Axes, Layer, plot_rows, y_axis
from aozora_tui.widgets.cells import Cell, Row, blank, cells, changed, text_of, to_strip
from aozora_tui.widgets.columns import Columns

HOPS = 4  # the window moves on by such a part of itself: cells stay put meanwhile
ABSENT = "n/a"


class _Plot(Area):
    """Without a row of labels under it."""

    @property
    def footer(self) -> int:
        return 0


class Trail(Widget):
    """`title` stands above the plot, with what is worth saying of its range. Values that are no number break it."""

    DEFAULT_CSS = """
    Trail { height: 1fr; width: 1fr; }
    Trail > .trail--title { color: $foreground 70%; }
    Trail > .trail--smooth { color: $primary; }
    Trail > .trail--axis { color: $foreground 70%; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"trail--title", "trail--smooth", "trail--axis"}
    ALLOW_SELECT = False

    def __init__(self, title: str, *, ascii_only: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.title, self.ascii_only = title, ascii_only
        self._xs: Sequence[float] = ()
        self._ys: Sequence[float] = ()
        self._x_range = (0.0, 1.0)
        self._y_range = (0.0, 1.0)
        self._note = ""
        self._rows: tuple[Row, ...] = ()

    def show(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        *,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        note: str = "",
    ) -> None:
        """Points with x ascending. `note` stands after the title."""
        self._xs, self._ys, self._note = xs, ys, note
        self._x_range, self._y_range = x_range, y_range
        before, self._rows = self._rows, self._drawn()
        spans = [(y, changed(before[y] if y < len(before) else (), row)) for y, row in enumerate(self._rows)]
        regions = [Region(span[0], y, span[1] - span[0], 1) for y, span in spans if span]
        if regions:  # without arguments, refresh repaints everything
            self.refresh(*regions)

    @property
    def dots(self) -> int:
        """Dot columns of the plot."""
        return max(self._area.dots[0], 2)

    @property
    def text(self) -> str:
        """As lines."""
        return "\n".join(text_of(row).rstrip() for row in self._drawn())

    def render_line(self, y: int) -> Strip:
        if len(self._rows) != self.size.height or (self._rows and len(self._rows[0]) != self.size.width):
            self._rows = self._drawn()
        return to_strip(self._rows[y] if y < len(self._rows) else blank(self.size.width), self._style_of)

    @property
    def _area(self) -> _Plot:
        return _Plot(self.size.width, self.size.height, self.ascii_only)

    def _drawn(self) -> tuple[Row, ...]:
        area = self._area
        columns = Columns(*self._x_range, area.dots[0])
        columns.extend(self._xs, self._ys)
        title: list[Cell] = [(self.title, "title"), (f"  {self._note if columns.by_dot else ABSENT}", "")]
        if sum(len(text) for text, _ in title) > area.width:
            title = title[:1]
        axes = Axes(self._x_range, self._y_range)
        plot = plot_rows([Layer(columns.by_dot, "smooth")], axes, area)
        left = y_axis(axes, area)
        rows = [cells(title, area.width)] * area.top
        return (*rows, *((*one, *other) for one, other in zip(left, plot, strict=True)))

    def _style_of(self, style: str) -> Style:
        return self.get_component_rich_style(f"trail--{style}") if style else self.rich_style


def window(now: float, span: float, *, shift: float = 0.0) -> tuple[float, float]:
    """The last `span` seconds and a little of what comes: it moves by hops, so that what is drawn stays put. `shift`:
    by which part of a hop later than others, so that not all move at once."""
    hop = span / HOPS
    stop = ((now - shift * hop) // hop + 1 + shift) * hop
    return stop - span, stop
