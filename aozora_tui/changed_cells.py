"""What the terminal shows, cell by cell, so that only what changes is sent, and in few bytes.

Textual sends a widget's whole region when it refreshes it, a new screen several times over, and every colour with every
piece of text: over SSH that is kilobytes that say what is there already. Everything it draws comes by here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.geometry import Size
from textual.strip import Strip

from aozora_tui.cell_codes import Row, blank, codes_of, harmless
from aozora_tui.cell_shift import Shift, shifts
from aozora_tui.cell_writer import CellWriter, Piece, by_look, pieces

SHORT = 300  # bytes that are not worth looking for another way
PIECE_COST = 10  # bytes to go somewhere, and to say how to draw there
# Terminals that erase in the colour they draw with, as terminfo's `bce` says. Not GNU screen, and not tmux either: that
# finds out by itself what has to be sent on.
ERASING = ("xterm", "linux", "rxvt", "putty", "alacritty", "foot", "st", "konsole", "vte")

Drawn = tuple[str, Style | None]  # the second half of a wide character is ""


class Shown:
    """The cells of a terminal, and those that it is to have. Unknown at first, after `forget` and in another size.

    `erases`: whether the terminal erases in the colour that it draws with; by default as the environment has it.
    """

    def __init__(self, *, erases: bool | None = None) -> None:
        self._erases = erases_in_colour() if erases is None else erases
        self._rows: dict[int, Row] = {}
        self._wanted: dict[int, list[Drawn | None]] = {}
        self._changed: set[int] = set()
        self._size = Size()
        self._colours: ColorSystem | None = None

    def resize(self, size: Size) -> None:
        if size != self._size:
            self._size = size
            self._wanted.clear()
            self._changed.clear()
            self.forget()

    def forget(self) -> None:
        """Somebody else wrote there."""
        self._rows.clear()
        self._changed |= self._wanted.keys()

    def take(self, update: CompositorUpdate) -> None:
        """The terminal is to show `update`."""
        for x, y, strip in _strips(update):
            cells = _cells(strip)
            row = self._wanted.setdefault(y, [])
            row.extend([None] * (x + len(cells) - len(row)))
            row[x : x + len(cells)] = cells
            self._changed.add(y)

    def changes(self, colours: ColorSystem | None) -> str:
        """What has to be sent for that; "" if nothing has."""
        if colours != self._colours:
            self._colours = colours
            self.forget()
        wanted = {y: _looks(self._wanted[y], colours) for y in sorted(self._changed)}
        self._changed.clear()
        wanted = {y: row for y, row in wanted.items() if row != self._rows.get(y)}
        best = self._way(self._rows, wanted)
        if best.cost > SHORT:
            best = min((best, *self._shifted(wanted)), key=lambda way: way.cost)
        self._rows.update(wanted)
        text = self._written(best, best.pieces)
        if len(text) > SHORT:
            text = min(text, self._written(best, by_look(best.pieces)), key=lambda each: len(each.encode()))
        return text

    def _way(self, rows: Mapping[int, Row], wanted: Mapping[int, Row], shift: Shift | None = None) -> _Way:
        """From `rows` to `wanted`; the rows are as they are after the shift."""
        found: list[Piece] = []
        for y, row in wanted.items():
            known = rows.get(y, [])
            found += pieces(y, [*known, *[None] * (len(row) - len(known))], row, erases=self._erases)
        return _Way(found, wanted, shift)

    def _shifted(self, changed: Mapping[int, Row]) -> Iterator[_Way]:
        """With lines that the terminal moves by itself."""
        rows = {y: row for y, row in self._rows.items() if None not in row}
        wanted = {y: row for y in sorted(rows) if None not in (row := changed.get(y, rows[y]))}
        rows = {y: rows[y] for y in wanted}
        for shift in shifts(rows, wanted):
            region = range(shift.top, shift.end)
            if all(y in wanted for y in region):
                moved = {y: rows[y + shift.by] if y + shift.by in region else [] for y in region}
                touched = {**changed, **{y: wanted[y] for y in region}}
                yield self._way({**self._rows, **moved}, dict(sorted(touched.items())), shift)

    def _written(self, way: _Way, found: Iterable[Piece]) -> str:
        writer = CellWriter(way.wanted, self._size.width)
        if way.shift is not None:
            writer.shift(way.shift.top, way.shift.end, way.shift.by)
        for piece in found:
            writer.write(piece)
        return writer.text


@dataclass(frozen=True)
class _Way:
    """Pieces to write, after a shift, if there is one, for these lines to come out."""

    pieces: Sequence[Piece]
    wanted: Mapping[int, Row]
    shift: Shift | None

    @cached_property
    def cost(self) -> int:
        """Bytes, about."""
        return sum(PIECE_COST + (0 if piece.erased else len(piece.cells)) for piece in self.pieces)


def erases_in_colour() -> bool:
    """By the terminal's name; `STY` is set inside GNU screen, whatever that calls itself."""
    return os.environ.get("TERM", "").partition("-")[0] in ERASING and not os.environ.get("STY")


def _looks(cells: Iterable[Drawn | None], colours: ColorSystem | None) -> Row:
    """How they look: what is the same to the eye is the same here."""
    row: Row = []
    last, codes = None, codes_of(None, colours)
    for cell in cells:
        if cell is None:
            row.append(None)
            continue
        char, style = cell
        if style is not last:
            last, codes = style, codes_of(style, colours)
        row.append((char, blank(codes) if char == " " else codes))
    return row


def _strips(update: CompositorUpdate) -> Iterator[tuple[int, int, Strip]]:
    """The pieces of lines that `update` draws, and where: column, row."""
    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            yield update.region.x, y, Strip.join(line)
        return
    assert isinstance(update, ChopsUpdate)
    for y, left, right in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is None or x > right or end <= left:
                continue
            yield x, y, strip if end <= right else strip.crop(0, right - x)


def _cells(strip: Strip) -> list[Drawn | None]:
    cells: list[Drawn | None] = []
    for text, style, control in strip:
        if control:
            continue
        if text.isascii() and text.isprintable():
            cells += [(char, style) for char in text]
            continue
        for char in map(harmless, text):
            width = cell_len(char)
            if width:
                cells.append((char, style))
                cells += [("", style)] * (width - 1)
            elif cells and (last := cells[-1]):
                cells[-1] = last[0] + char, last[1]  # it is drawn over the one before
    return cells
