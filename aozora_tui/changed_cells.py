"""What the terminal shows, cell by cell, so that only what changes is sent, and in few bytes.

Textual sends a widget's whole region when it refreshes it, a new screen several times over, and every colour with every
piece of text: over SSH that is kilobytes that say what is there already. Everything it draws comes by here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.geometry import Size
from textual.strip import Strip

GAP = 8  # unchanged cells in between that cost no more than to move over them
RESET = "\x1b[0m"

Cell = tuple[str, Style | None]  # the second half of a wide character is ""
Codes = tuple[str, str, str]  # for bold and the like, the colour, and the background
PLAIN: Codes = "", "", ""


class Shown:
    """The cells of a terminal, and those that it is to have. Unknown at first, after `forget` and in another size."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Cell | None]] = {}
        self._wanted: dict[int, list[Cell | None]] = {}
        self._changed: set[int] = set()
        self._size = Size()

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
        out = _Writer(colours)
        for y in sorted(self._changed):
            wanted = self._wanted[y]
            row = self._rows.get(y, [])
            row.extend([None] * (len(wanted) - len(row)))
            if row != wanted:
                for start, end in _runs(row, wanted):
                    out.write(start, y, wanted[start:end])
                self._rows[y] = list(wanted)
        self._changed.clear()
        return out.text


class _Writer:
    """Keeps in mind which colours hold."""

    def __init__(self, colours: ColorSystem | None) -> None:
        self._colours = colours
        self._parts: list[str] = []
        self._codes = PLAIN

    @property
    def text(self) -> str:
        return "".join(self._parts) + (RESET if self._codes != PLAIN else "")

    def write(self, x: int, y: int, cells: Sequence[Cell | None]) -> None:
        self._parts.append(f"\x1b[{y + 1};{x + 1}H")
        for cell in cells:
            if cell is not None:
                self._dress(cell)
                self._parts.append(cell[0])

    def _dress(self, cell: Cell) -> None:
        codes = _codes(cell[1], self._colours)
        if codes == self._codes:
            return
        decoration, colour, background = codes
        if decoration != self._codes[0] or "" in (colour, background):
            self._parts.append(f"\x1b[{';'.join(code for code in ('0', *codes) if code)}m")
        elif cell[0] == " " and background == self._codes[2] and not decoration:
            return  # a blank has no colour of its own
        else:
            new = (code for code, old in zip(codes, self._codes, strict=True) if code != old)
            self._parts.append(f"\x1b[{';'.join(new)}m")
        self._codes = codes


@lru_cache(maxsize=4096)
def _codes(style: Style | None, colours: ColorSystem | None) -> Codes:
    if style is None or colours is None:
        return PLAIN
    bare = style.without_color._make_ansi_codes(colours)
    pair = []
    for colour, foreground in ((style.color, True), (style.bgcolor, False)):
        pair.append(";".join(colour.downgrade(colours).get_ansi_codes(foreground)) if colour else "")
    return bare, pair[0], pair[1]


def _runs(row: Sequence[Cell | None], wanted: Sequence[Cell | None]) -> list[tuple[int, int]]:
    """Where they differ, whole wide characters."""
    changed = [at for at, new in enumerate(wanted) if new is not None and row[at] != new]
    if not changed:
        return []
    edges = [changed[0]]
    for one, other in pairwise(changed):
        if other - one > GAP or None in wanted[one:other]:
            edges += [one + 1, other]
    edges.append(changed[-1] + 1)
    return [_whole(wanted, start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _whole(cells: Sequence[Cell | None], start: int, end: int) -> tuple[int, int]:
    while start > 0 and _is_half(cells[start]):
        start -= 1
    while end < len(cells) and _is_half(cells[end]):
        end += 1
    return start, end


def _is_half(cell: Cell | None) -> bool:
    return cell is not None and cell[0] == ""


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


def _cells(strip: Strip) -> list[Cell | None]:
    cells: list[Cell | None] = []
    for text, style, control in strip:
        if control:
            continue
        if text.isascii():
            cells += [(char, style) for char in text]
            continue
        for char in text:
            width = cell_len(char)
            if width:
                cells.append((char, style))
                cells += [("", style)] * (width - 1)
            elif cells and (last := cells[-1]):
                cells[-1] = last[0] + char, last[1]  # it is drawn over the one before
    return cells
