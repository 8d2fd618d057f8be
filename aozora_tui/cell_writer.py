"""Writes cells to a terminal in few bytes: the shortest way from one to the next, and from one look to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from unicodedata import east_asian_width

from aozora_tui.cell_codes import PLAIN, RESET, Cell, Codes, blank, change, for_blank

LONGEST_GAP = 16  # unchanged cells that are looked at: whether to write them again costs less than to step over them
LEAST_ERASED = 11  # blanks that cost more than to erase them and step over them


@dataclass(frozen=True)
class Piece:
    """Cells of a line that are written in one go from column `x` on; if they are `erased`, blanks of one colour."""

    x: int
    y: int
    cells: Sequence[Cell]
    erased: bool = False


class CellWriter:
    """Keeps in mind where the cursor is and how the terminal draws; `text` is what to send. All that it takes for
    granted at its beginning is that the terminal draws plainly, and it leaves it so.

    Where characters are wider on some terminals than on others the next step is to a column by its number.
    """

    def __init__(self, wanted: Mapping[int, Sequence[Cell | None]], width: int) -> None:
        """`wanted` are the lines as they will be at the end, None where they are not ours to write."""
        self._wanted, self._width = wanted, width
        self._parts: list[str] = []
        self._pen = PLAIN
        self._x, self._y = 0, -1  # a row of -1: nobody knows
        self._sure = True  # of the column

    @property
    def text(self) -> str:
        return "".join(self._parts) + (RESET if self._pen != PLAIN else "")

    def shift(self, top: int, end: int, by: int) -> None:
        """The lines from `top` to before `end` go up by `by`, down if it is negative; the others are left blank."""
        lines = f"\x1b[{by}M" if by > 0 else f"\x1b[{-by}L"
        self._parts.append(f"\x1b[{top + 1};{end}r\x1b[{top + 1}H{lines}\x1b[r")
        self._y = -1

    def write(self, piece: Piece) -> None:
        self._go(piece.x, piece.y, piece.cells[0])
        if piece.erased:
            self._erase(piece)
            return
        text, self._pen, self._sure = _drawn(piece.cells, self._pen)
        self._parts.append(text)
        self._x += len(piece.cells)
        if self._x >= self._width:
            self._y = -1  # on the last column, or beyond it

    def _go(self, x: int, y: int, then: Cell) -> None:
        """To a cell, by writing what lies between once more if that is shorter than to step over it."""
        if y == self._y and x == self._x and self._sure:
            return
        between = self._wanted[y][self._x : x] if y == self._y and self._sure else ()
        cells = [cell for cell in between if cell is not None]
        if 0 < len(cells) == len(between) <= LONGEST_GAP:
            text, pen, sure = _drawn(cells, self._pen)
            over = len(_forward(len(between))) + len(change(self._pen, _pen_for([then], self._pen)))
            along = len(text.encode()) + len(change(pen, _pen_for([then], pen)))
            if sure and along <= over:
                self._parts.append(text)
                self._pen, self._x = pen, x
                return
        self._parts.append(self._way(x, y))
        self._x, self._y, self._sure = x, y, True

    def _erase(self, piece: Piece) -> None:
        """The cursor stays before them."""
        pen, count = for_blank(self._pen, piece.cells[0][1]), len(piece.cells)
        end = "\x1b[K" if piece.x + count == self._width else _erased(count)
        self._parts.append(change(self._pen, pen) + end)
        self._pen = pen

    def _way(self, x: int, y: int) -> str:
        """The shortest way there."""
        ways = [f"\x1b[{y + 1};{x + 1}H" if x else f"\x1b[{y + 1}H"]
        if y == self._y:
            ways.append(f"\x1b[{x + 1}G")
            if self._sure and x > self._x:
                ways.append(_forward(x - self._x))
        elif self._y >= 0 and y > self._y:
            if y == self._y + 1:
                ways.append(f"\r\n{_forward(x)}")
            if self._sure and x >= self._x:
                ways.append(_down(y - self._y) + _forward(x - self._x))
        return min(ways, key=len)


def pieces(y: int, row: Sequence[Cell | None], wanted: Sequence[Cell | None], *, erases: bool) -> Iterator[Piece]:
    """What of a line has to be written; `row` is what it is now, None where nobody knows.

    `erases`: what the terminal erases takes the background that it draws with.
    """
    for start, end in _joined(_runs(row, wanted), wanted, erases=erases):
        cells = [cell for cell in wanted[start:end] if cell is not None]
        written = 0
        for first, last in _long_blanks(cells, erases=erases):
            if written < first:
                yield Piece(start + written, y, cells[written:first])
            yield Piece(start + first, y, cells[first:last], erased=True)
            written = last
        if written < len(cells):
            yield Piece(start + written, y, cells[written:])


def by_look(found: Iterable[Piece]) -> list[Piece]:
    """The pieces, cut so that each has one look, and in such an order that the terminal has to be told of few. Blanks
    go with what is before them."""
    looks: dict[Codes, list[Piece]] = {}
    codes = PLAIN
    for piece in found:
        start = 0
        for at, (char, own) in enumerate(piece.cells):
            if own != codes and not (char == " " and for_blank(codes, own) == codes):
                if at > start:
                    looks.setdefault(codes, []).append(replace(piece, x=piece.x + start, cells=piece.cells[start:at]))
                start, codes = at, _pen_for(piece.cells[at:], PLAIN)
        looks.setdefault(codes, []).append(replace(piece, x=piece.x + start, cells=piece.cells[start:]))
    return [piece for pieces in looks.values() for piece in pieces]


def _long_blanks(cells: Sequence[Cell], *, erases: bool) -> Iterator[tuple[int, int]]:
    """Those that are longer to write than to erase."""
    at = 0
    while at < len(cells):
        end = at + 1
        if _can_erase(cells[at], erases=erases):
            while end < len(cells) and cells[end] == cells[at]:
                end += 1
            if end - at >= LEAST_ERASED or (end == len(cells) and end - at > len(_erased(end - at))):
                yield at, end
        at = end


def _can_erase(cell: Cell, *, erases: bool) -> bool:
    char, codes = cell
    return erases and char == " " and not codes[0] and not codes[1]


def _drawn(cells: Sequence[Cell], pen: Codes) -> tuple[str, Codes, bool]:
    """The cells' text with what changes its look; how the terminal draws then; and whether it is as wide everywhere."""
    parts: list[str] = []
    sure = True
    for index, (char, codes) in enumerate(cells):
        if codes != pen:
            new = _pen_for(cells[index:], pen) if char == " " else codes
            parts.append(change(pen, new))
            pen = new
        parts.append(char)
        sure = sure and (char.isascii() or _is_narrow(char))
    return "".join(parts), pen, sure


def _pen_for(cells: Sequence[Cell], pen: Codes) -> Codes:
    """How to draw the first of them: a blank as what follows it, if the terminal has to be told something anyway."""
    char, codes = cells[0]
    if char != " ":
        return codes
    least = for_blank(pen, codes)
    if least == pen:
        return pen
    following = next((other for text, other in cells if text != " " or other[2] != codes[2]), codes)
    return following if blank(following) == codes else least


def _joined(
    runs: Iterable[tuple[int, int]], wanted: Sequence[Cell | None], *, erases: bool
) -> Iterator[tuple[int, int]]:
    """With what lies between two of them if all of that is blank, and so are their ends: it is erased along."""
    last: tuple[int, int] | None = None
    for start, end in runs:
        if last is None:
            last = start, end
            continue
        between = wanted[last[1] - 1 : start + 1]
        alike = all(cell == between[0] for cell in between)
        if alike and between[0] is not None and _can_erase(between[0], erases=erases):
            last = last[0], end
        else:
            yield last
            last = start, end
    if last is not None:
        yield last


def _runs(row: Sequence[Cell | None], wanted: Sequence[Cell | None]) -> Iterator[tuple[int, int]]:
    """Where they differ: start and end, whole wide characters."""
    at, width = 0, len(wanted)
    while at < width:
        if wanted[at] is None or wanted[at] == row[at]:
            at += 1
            continue
        start = end = at
        while start > 0 and _is_half(wanted[start]):
            start -= 1
        while end < width and (_is_half(wanted[end]) or not (wanted[end] is None or wanted[end] == row[end])):
            end += 1
        yield start, end
        at = end


def _is_half(cell: Cell | None) -> bool:
    return cell is not None and cell[0] == ""


def _forward(count: int) -> str:
    return "" if count == 0 else "\x1b[C" if count == 1 else f"\x1b[{count}C"


def _down(count: int) -> str:
    return "\x1b[B" if count == 1 else f"\x1b[{count}B"


def _erased(count: int) -> str:
    return f"\x1b[{count}X"


@lru_cache(maxsize=4096)
def _is_narrow(char: str) -> bool:
    """Whether every terminal takes it to be one column wide."""
    return len(char) == 1 and east_asian_width(char) in ("N", "Na", "H")
