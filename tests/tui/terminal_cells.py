"""What a terminal shows of the bytes that it was sent: its cells, each with its letter and its look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyte

_ON = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "reverse"}
_OFF = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",), 27: ("reverse",)}
_CUBE = (0, 95, 135, 175, 215, 255)
_SIXTEEN = (
    *("000000", "cd0000", "00cd00", "cdcd00", "0000ee", "cd00cd", "00cdcd", "e5e5e5"),
    *("7f7f7f", "ff0000", "00ff00", "ffff00", "5c5cff", "ff00ff", "00ffff", "ffffff"),
)


class Look(NamedTuple):
    """Colours as `#rrggbb` or an index of the palette, "" for the terminal's own; `marks` in the order of the codes."""

    colour: str = ""
    background: str = ""
    marks: tuple[str, ...] = ()

    def __str__(self) -> str:
        colours = f"{self.colour or '-'}/{self.background or '-'}" if self.colour or self.background else ""
        return " ".join(part for part in (*self.marks, colours) if part) or "plain"


class Cell(NamedTuple):
    """`text` is "" in the second half of a wide letter."""

    text: str
    look: Look


class _Screen(pyte.Screen):
    """Looks as they were sent: pyte's own attributes lack dim, and know an index of the palette by its colour only."""

    def __init__(self, columns: int, rows: int) -> None:
        self.codes: set[int] = set()
        super().__init__(columns, rows)

    def select_graphic_rendition(self, *codes: int, private: bool = False) -> None:
        assert not private, codes
        look = self.cursor.attrs.fg if isinstance(self.cursor.attrs.fg, Look) else Look()
        left = list(codes or (0,))
        while left:
            look = self._with(look, left)
        self.cursor.attrs = self.cursor.attrs._replace(fg=look)

    def _with(self, look: Look, left: list[int]) -> Look:
        """After the first code of `left`, and what belongs to it."""
        code = left.pop(0)
        self.codes.add(code)
        if code == 0:
            return Look()
        if code in _ON:
            kept = {*look.marks, _ON[code]}
            return look._replace(marks=tuple(mark for mark in _ON.values() if mark in kept))
        if code in _OFF:
            return look._replace(marks=tuple(mark for mark in look.marks if mark not in _OFF[code]))
        name = "colour" if 30 <= code < 40 or 90 <= code < 98 else "background"
        return look._replace(**{name: _colour(code, left)})


def _colour(code: int, left: list[int]) -> str:
    if code in (39, 49):
        return ""
    if code in (38, 48):
        kind = left.pop(0)
        if kind == 5:
            return str(left.pop(0))
        assert kind == 2, f"no colour of the kind {kind}"
        return "#{:02x}{:02x}{:02x}".format(*(left.pop(0) for _ in range(3)))
    for first, index in ((30, 0), (40, 0), (90, 8), (100, 8)):
        if first <= code < first + 8:
            return str(index + code - first)
    raise AssertionError(f"a code that no look has: {code}")


class Terminal:
    """One of `size`, columns and rows, on which nothing stands yet."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._screen = _Screen(*size)
        self._stream = pyte.Stream(self._screen)

    def feed(self, sent: str) -> None:
        self._stream.feed(sent)

    @property
    def codes(self) -> frozenset[int]:
        """Of looks, all that ever came."""
        return frozenset(self._screen.codes)

    def rows(self) -> list[list[Cell]]:
        """A blank has only what can be seen of it."""
        width, height = self.size
        return [[self._cell(self._screen.buffer[y][x]) for x in range(width)] for y in range(height)]

    def _cell(self, found: pyte.screens.Char) -> Cell:
        look = found.fg if isinstance(found.fg, Look) else Look()
        return Cell(found.data, _of_a_blank(look) if found.data == " " else look)


def text_of(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Lines without trailing blanks."""
    return ["".join(cell.text for cell in row).rstrip() for row in rows]


def runs(row: Sequence[Cell]) -> Iterator[tuple[int, str, Look]]:
    """Where a piece of one look begins, its text and its look. A blank goes with the piece before it, at the beginning
    with the one after it, if its own look is all that could be seen of theirs."""
    at, text, look = 0, "", Look()
    for x, cell in enumerate(row):
        blank = cell.text == " "
        if not text:
            at, look = x, cell.look
        elif not text.strip() and look == _of_a_blank(cell.look):
            look = look if blank else cell.look
        elif cell.look != look and not (blank and _of_a_blank(look) == cell.look):
            yield at, text, look
            at, text, look = x, "", cell.look
        text += cell.text or "\0"
    if text:
        yield at, text, look


def _of_a_blank(look: Look) -> Look:
    marks = tuple(mark for mark in look.marks if mark in ("underline", "reverse"))
    return Look(look.colour if marks else "", look.background, marks)


def rgb(colour: str) -> tuple[int, int, int]:
    """Of the palette as xterm has it."""
    if colour.startswith("#"):
        text = colour[1:]
    else:
        index = int(colour)
        if 16 <= index < 232:
            index -= 16
            return _CUBE[index // 36], _CUBE[index // 6 % 6], _CUBE[index % 6]
        if index >= 232:
            return (8 + 10 * (index - 232),) * 3
        text = _SIXTEEN[index]
    red, green, blue = (int(text[at : at + 2], 16) for at in (0, 2, 4))
    return red, green, blue


def contrast(look: Look) -> float:
    """Of the letter to what it stands on, as WCAG 2 reckons it: 1 to 21. Both colours must be known."""
    pair = (look.background, look.colour) if "reverse" in look.marks else (look.colour, look.background)
    light, dark = sorted((_luminance(rgb(each)) for each in pair), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: tuple[int, int, int]) -> float:
    linear = [(each / 255 / 12.92 if each <= 10 else ((each / 255 + 0.055) / 1.055) ** 2.4) for each in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
