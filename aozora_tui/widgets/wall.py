"""A wall of pictures and words: cells that are drawn where they stand, and sent where they changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from aozora_tui.widgets.cells import changed

Cell = tuple[str, str]  # what stands there, "" for the second half of a wide character; and its style
STYLES = ("", "dim", "head", "attention", "cursor")


class Canvas:
    """Cells to be drawn; what does not fit is left out."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.width, height = size
        self.rows: list[list[Cell]] = [[(" ", "")] * self.width for _ in range(height)]

    def put(self, x: int, y: int, rows: Sequence[Sequence[Cell]]) -> None:
        """Rows of cells, the upper left one at column `x` and row `y`."""
        for down, row in enumerate(rows):
            if 0 <= y + down < len(self.rows) and 0 <= x < self.width:
                fits = row[: self.width - x]
                self.rows[y + down][x : x + len(fits)] = fits

    def write(self, x: int, y: int, text: str, style: str = "") -> None:
        self.put(x, y, [text_cells(text, style)])


def text_cells(text: str, style: str = "") -> list[Cell]:
    """A person's text: what is no character becomes a blank, and a wide one takes two cells."""
    cells: list[Cell] = []
    for char in text:
        width = cell_len(char) if char.isprintable() else 0
        if width:
            cells.append((char, style))
            cells += [("", style)] * (width - 1)
        elif not char.isprintable():
            cells.append((" ", style))
        elif cells and cells[-1][0]:
            cells[-1] = (cells[-1][0] + char, style)  # it is drawn over the one before
    return cells


class Wall(Widget):
    """Shows a canvas of its own size."""

    DEFAULT_CSS = """
    Wall { width: 1fr; height: 1fr; background: $background; }
    Wall > .wall--dim { color: $foreground 60%; }
    Wall > .wall--head { color: $primary; text-style: bold; }
    Wall > .wall--attention { color: $warning; }
    Wall > .wall--cursor {
        background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold;
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"wall--{style}" for style in STYLES if style}
    ALLOW_SELECT = False

    class Resized(Message):
        """What it shows was made for another size."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._rows: list[tuple[Cell, ...]] = []

    @property
    def room(self) -> tuple[int, int]:
        return self.size.width, self.size.height

    @property
    def rows(self) -> Sequence[tuple[Cell, ...]]:
        """What it shows."""
        return self._rows

    def show(self, canvas: Canvas) -> None:
        """Send the spans of cells that differ from what is shown."""
        before, self._rows = self._rows, [tuple(row) for row in canvas.rows]
        regions = []
        for y, row in enumerate(self._rows):
            old = before[y] if y < len(before) else ()
            if (span := changed(old, row)) is not None:
                start, stop = (0, self.size.width) if _has_wide(old) or _has_wide(row) else span
                regions.append(Region(start, y, stop - start, 1))
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        row = self._rows[y] if y < len(self._rows) else ()
        runs = [(style, "".join(text for text, _ in run)) for style, run in groupby(row, key=itemgetter(1))]
        strip = Strip([Segment(text, self._style(style)) for style, text in runs])
        return strip.adjust_cell_length(self.size.width, self.rich_style)

    def on_resize(self, _event: Resize) -> None:
        self._rows = []
        self.post_message(self.Resized())

    def _style(self, name: str) -> Style:
        if not name:
            return self.rich_style
        if name in STYLES:
            return self.get_component_rich_style(f"wall--{name}")
        return Style.parse(name)


def _has_wide(row: Iterable[Cell]) -> bool:
    return any(not text for text, _ in row)
