"""Rows of styled cells on the screen, of which only changed cells are sent."""

from __future__ import annotations

from rich.style import Style
from textual.app import ComposeResult
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from aozora_tui.widgets.cells import Row, blank, changed, text_of, to_strip


class _Slice(Widget):
    """Some columns of a canvas."""

    DEFAULT_CSS = "_Slice { width: 1fr; height: 1fr; }"
    ALLOW_SELECT = False

    def __init__(self, canvas: Canvas, index: int) -> None:
        super().__init__()
        self.canvas, self.index = canvas, index

    def render_line(self, y: int) -> Strip:
        return self.canvas.strip_for(self.index, y)


class Canvas(Widget):
    """Shows what `draw` says. A cell's style is a component class of the subclass, without its `prefix`.

    Textual sends a changed span together with everything left of it in the same widget, because it cuts a row only
    where widgets begin and end. So a canvas may be made of slices; each of them makes a full repaint dearer.
    """

    DEFAULT_CSS = "Canvas { layout: horizontal; overflow: hidden; }"
    ALLOW_SELECT = False
    prefix = ""
    num_slices = 0

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: tuple[Row, ...] = ()
        self._slices = tuple(_Slice(self, index) for index in range(self.num_slices))

    def compose(self) -> ComposeResult:
        yield from self._slices

    def draw(self, width: int, height: int) -> tuple[Row, ...]:
        """`height` rows of `width` cells."""
        raise NotImplementedError

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, drawn for the present size."""
        width, height = self.size
        if len(self._rows) != height or (self._rows and len(self._rows[0]) != width):
            self._rows = self.draw(width, height)
        return self._rows

    @property
    def text(self) -> str:
        """What is shown, as lines."""
        return "\n".join(text_of(row).rstrip() for row in self.rows)

    def redraw(self) -> None:
        """Draw anew and repaint, in each slice, the span of each row that differs."""
        if not self.size:  # not laid out yet: drawn when it is asked for its rows
            self._rows = ()
            return
        old, self._rows = self._rows, self.draw(*self.size)
        alike = [len(row) for row in old] == [len(row) for row in self._rows]
        start = 0
        for part in self._slices or (self,):
            stop = start + part.size.width
            spans = [
                Region(span[0], y, span[1] - span[0], 1)
                for y, (before, after) in enumerate(zip(old, self._rows, strict=False))
                if (span := changed(before[start:stop], after[start:stop]))
            ]
            if not alike:
                part.refresh()
            elif spans:  # without arguments, refresh repaints everything
                part.refresh(*spans)
            start = stop

    def render_line(self, y: int) -> Strip:
        return self._strip(y, 0, self.size.width)

    def strip_for(self, index: int, y: int) -> Strip:
        """What slice number `index` shows in its row `y`."""
        start = sum(part.size.width for part in self._slices[:index])
        return self._strip(y, start, start + self._slices[index].size.width)

    def _strip(self, y: int, start: int, stop: int) -> Strip:
        row = self.rows[y][start:stop] if y < len(self.rows) else ()
        return to_strip((*row, *blank(stop - start - len(row))), self._style_of)

    def _style_of(self, style: str) -> Style:
        return self.get_component_rich_style(self.prefix + style) if style else self.rich_style
