"""Rows of styled text of which only changed cells are sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import ClassVar

from rich.segment import Segment
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from aozora_tui.widgets.cells import Cell, Row, blank, cells, changed, text_of

STYLES = ("plain", "dim", "cursor", "blurred", "whole", "part", "found", "rate", "bar", "warning", "error", "strong")


class Sheet(Widget):
    """A change at the right end of a row takes all that is left of it along, for Textual cuts rows only where widgets
    begin: what changes by itself has a sheet of its own."""

    DEFAULT_CSS = """
    Sheet { height: 1fr; width: 1fr; }
    Sheet > .sheet--plain { color: $foreground; }
    Sheet > .sheet--dim { color: $foreground 60%; }
    Sheet:ansi > .sheet--dim { text-style: dim; }
    Sheet > .sheet--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
    Sheet > .sheet--blurred { background: $block-cursor-blurred-background; }
    Sheet > .sheet--whole { color: $success; }
    Sheet > .sheet--part { color: $primary; }
    Sheet > .sheet--found { color: $accent; text-style: bold; }
    Sheet > .sheet--rate { color: $warning; }
    Sheet > .sheet--bar { color: $scrollbar-hover; }
    Sheet > .sheet--warning { color: $warning; }
    Sheet > .sheet--error { color: $error; }
    Sheet > .sheet--strong { text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"sheet--{style}" for style in STYLES}
    ALLOW_SELECT = False

    def __init__(self, draw: Callable[[int, int], Sequence[Sequence[Cell]]], *, id: str | None = None) -> None:
        """`draw` gives the rows for a width and a height: each is parts of text with their styles, which are cut or
        filled up at the right. It is asked when the sheet is first seen, at a new size, and at `redraw`."""
        super().__init__(id=id)
        self._draw = draw
        self._rows: tuple[Row, ...] = ()
        self._drawn_for = Size(0, 0)

    @property
    def text(self) -> str:
        """What is shown, as lines."""
        return "\n".join(text_of(row).rstrip() for row in self._rows)

    def redraw(self) -> None:
        """Draw anew, and send what differs; nothing before the sheet is seen."""
        if self._drawn_for != self.size or not self.size:
            return
        old, self._rows = self._rows, self._fitted()
        spans = [
            Region(span[0], y, span[1] - span[0], 1)
            for y, (before, after) in enumerate(zip(old, self._rows, strict=True))
            if (span := changed(before, after))
        ]
        if spans:  # without arguments, refresh repaints everything
            self.refresh(*spans)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if self._drawn_for != self.size:
            self._rows, self._drawn_for = self._fitted(), self.size
        runs = groupby(self._rows[y], key=itemgetter(1))
        styled = [
            Segment(text_of(tuple(run)), self.get_component_rich_style(f"sheet--{style or 'plain'}"))
            for style, run in runs
        ]
        return Strip(styled, width)

    def _fitted(self) -> tuple[Row, ...]:
        width, height = self.size
        rows = [cells(row, width) for row in self._draw(width, height)[:height]]
        return (*rows, *[blank(width)] * (height - len(rows)))
