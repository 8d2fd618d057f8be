"""The plot of a curve, and lines of text, as canvases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.events import Click
from textual.message import Message

from aozora_tui.widgets.braille import GUTTER, Area
from aozora_tui.widgets.cells import Cell, Row, blank, cells
from aozora_tui.widgets.curve_canvas import Canvas
from aozora_tui.widgets.curve_picture import STYLES, Picture, hidden, rows_of


class CurvePlot(Canvas):
    """`show` draws a picture. The axis is a slice of its own, so that changes beside it do not send it again."""

    DEFAULT_CSS = f"""
    CurvePlot {{ height: 1fr; width: 1fr; min-height: 1; }}
    CurvePlot > _Slice:first-child {{ width: {GUTTER}; }}
    CurvePlot > .curve-plot--title {{ text-style: bold; }}
    CurvePlot > .curve-plot--smooth {{ color: $primary; }}
    CurvePlot > .curve-plot--second {{ color: $foreground 70%; }}
    CurvePlot > .curve-plot--axis {{ color: $foreground 70%; }}
    CurvePlot > .curve-plot--empty {{ color: $warning; }}
    CurvePlot > .curve-plot--point {{ color: $foreground; text-style: bold; }}
    CurvePlot > .curve-plot--cursor {{ color: $warning; text-style: bold; }}
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"curve-plot--{style}" for style in STYLES}
    prefix = "curve-plot--"
    num_slices = 3

    class Clicked(Message):
        """At `x`, in the units of the axis."""

        def __init__(self, x: float) -> None:
            super().__init__()
            self.x = x

    def __init__(self, *, ascii_only: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.ascii_only = ascii_only
        self._picture: Picture | None = None

    def show(self, picture: Picture) -> None:
        self._picture = picture
        self.redraw()

    @property
    def hidden(self) -> list[int]:
        """The indices of the points under the one that is chosen."""
        return hidden(self._picture, Area(*self.size, self.ascii_only)) if self._picture is not None else []

    def draw(self, width: int, height: int) -> tuple[Row, ...]:
        if self._picture is None:
            return (blank(width),) * height
        return rows_of(self._picture, Area(width, height, self.ascii_only))

    def on_click(self, event: Click) -> None:
        area = Area(*self.size, self.ascii_only)
        column = event.screen_x - self.region.x - area.gutter  # `x` is where it is in the slice
        if self._picture is not None and area.plot_width > 1 and column >= 0:
            start, stop = self._picture.axes.x_range
            self.post_message(self.Clicked(start + (stop - start) * column / (area.plot_width - 1)))


class CurveText(Canvas):
    """Lines of text; a part's style is `faint`, `chosen` or none."""

    DEFAULT_CSS = """
    CurveText { width: 1fr; height: auto; }
    CurveText > .curve-text--faint { color: $foreground 60%; }
    CurveText > .curve-text--chosen { text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"curve-text--faint", "curve-text--chosen"}
    prefix = "curve-text--"
    _lines: tuple[Sequence[Cell], ...] = ()

    def show(self, *lines: Sequence[Cell]) -> None:
        """Each line in its parts; what is too long is cut."""
        self._lines = lines
        self.redraw()

    def draw(self, width: int, height: int) -> tuple[Row, ...]:
        return tuple(cells(parts, width) for parts in (*self._lines, *[()] * height)[:height])
