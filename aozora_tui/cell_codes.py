"""How cells look on a terminal, as the numbers of its SGR sequences, and the shortest way from one look to another."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from rich.color import Color, ColorSystem
from rich.style import Style

Codes = tuple[str, str, str]  # for bold and the like, the colour, and the background
Cell = tuple[str, Codes]  # the second half of a wide character is ""
Row = list[Cell | None]
PLAIN: Codes = "", "", ""
RESET = "\x1b[m"

# What ends each decoration. 22 ends bold and dim alike.
_OFF = {
    **dict.fromkeys(("1", "2"), "22"),
    **dict.fromkeys(("4", "21"), "24"),
    **dict.fromkeys(("5", "6"), "25"),
    **{"3": "23", "7": "27", "8": "28", "9": "29", "53": "55"},
}
_OF_BLANKS = frozenset(("4", "7", "9", "21", "51", "52", "53"))  # blanks show these too
_STEERING = ("Cc", "Cs", "Zl", "Zp")
_TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # the direction of writing
LEVELS = (0, 95, 135, 175, 215, 255)


def harmless(char: str) -> str:
    """The character, unless it steers a terminal or cannot be sent at all (a surrogate, of a file's name that is no
    UTF-8): then "?" where a column is kept for it, else nothing. All that is drawn goes through here."""
    if char.isprintable() or not (char in _TURNING or unicodedata.category(char) in _STEERING):
        return char
    return "?" if cell_len(char) else ""


@lru_cache(maxsize=4096)
def codes_of(style: Style | None, colours: ColorSystem | None) -> Codes:
    """Of a style; without `colours` none at all."""
    if style is None or colours is None:
        return PLAIN
    bare = style.without_color._make_ansi_codes(colours)
    return bare, _colour(style.color, colours, foreground=True), _colour(style.bgcolor, colours, foreground=False)


@lru_cache(maxsize=4096)
def blank(codes: Codes) -> Codes:
    """What of them a blank shows: its background, and itself only if it has a line through it, or is reversed."""
    return ("", "", codes[2]) if _OF_BLANKS.isdisjoint(_parts(codes[0])) else codes


@lru_cache(maxsize=4096)
def change(old: Codes, new: Codes) -> str:
    """The shortest sequence after which a terminal that draws as `old` says draws as `new` does."""
    if old == new:
        return ""
    if new == PLAIN:
        return RESET
    anew = _sequence(["0", *new])
    was, wanted = _parts(old[0]), _parts(new[0])
    gone = [code for code in was if code not in wanted]
    if any(code not in _OFF for code in gone):
        return anew
    off = dict.fromkeys(_OFF[code] for code in gone)
    on = [code for code in wanted if code not in was or _OFF.get(code) in off]
    colours = [code or end for code, before, end in zip(new[1:], old[1:], ("39", "49"), strict=True) if code != before]
    return min(_sequence([*off, *on, *colours]), anew, key=len)


@lru_cache(maxsize=4096)
def for_blank(pen: Codes, wanted: Codes) -> Codes:
    """`pen` changed as little as can be, for a blank of which `wanted` is all that is seen."""
    if wanted[0] or not _OF_BLANKS.isdisjoint(_parts(pen[0])):
        return wanted
    return pen[0], pen[1], wanted[2]


def _colour(colour: Color | None, colours: ColorSystem, *, foreground: bool) -> str:
    if colour is None:
        return ""
    triplet = colour.triplet
    if colours is ColorSystem.TRUECOLOR and triplet is not None:
        number = colours_by_number().get((triplet.red, triplet.green, triplet.blue))
        if number:
            return f"{38 if foreground else 48};5;{number}"
    return ";".join(colour.downgrade(colours).get_ansi_codes(foreground))


@lru_cache(maxsize=1)
def colours_by_number() -> dict[tuple[int, int, int], int]:
    """The colours that have a number of their own, the same on every terminal of 256 colours; short to say.

    Not the first six of the cube: some shells' themes give those another colour.
    """
    cube = [(red, green, blue) for red in LEVELS for green in LEVELS for blue in LEVELS]
    greys = [(level, level, level) for level in range(8, 239, 10)]
    return {colour: number for number, colour in reversed(list(enumerate([*cube, *greys], 16))) if number > 21}


def _parts(decoration: str) -> tuple[str, ...]:
    return tuple(decoration.split(";")) if decoration else ()


def _sequence(codes: list[str]) -> str:
    return f"\x1b[{';'.join(code for code in codes if code)}m"
