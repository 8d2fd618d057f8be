"""Small pictures as half blocks, two pixels a cell; where colour or blocks do not arrive, as signs for how light."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from aozora_tui.cell_codes import colours_by_number

Rgb = tuple[int, int, int]
Row = tuple[tuple[str, str], ...]

_RAMP = " .:-=+*#%@"


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Pixels by row, an even number of rows."""

    pixels: tuple[tuple[Rgb, ...], ...]

    @property
    def width(self) -> int:
        return len(self.pixels[0])


def from_bytes(data: bytes, width: int) -> Thumbnail:
    """Of red, green and blue, one after the other, row by row."""
    line = 3 * width
    return Thumbnail(
        tuple(
            tuple((data[at], data[at + 1], data[at + 2]) for at in range(start, start + line, 3))
            for start in range(0, len(data), line)
        )
    )


def block_rows(picture: Thumbnail) -> list[Row]:
    """Rows of (text, style), two pixels a cell."""
    pairs = zip(picture.pixels[::2], picture.pixels[1::2], strict=True)
    return [_runs(list(zip(upper, lower, strict=True))) for upper, lower in pairs]


def thrifty_rows(picture: Thumbnail, tolerance: int) -> list[Row]:
    """The same with a third of the bytes: a pixel keeps a colour that the terminal draws with already if that is no
    further than `tolerance` from its own, and of the signs that show a cell the one is taken that needs the fewest new
    colours. The distance is `distance`."""
    rows: list[Row] = []
    for upper, lower in zip(picture.pixels[::2], picture.pixels[1::2], strict=True):
        row, pen = [], (upper[0], lower[0])
        for pixels in zip(upper, lower, strict=True):
            sign, pen = _thrifty(pixels, pen, tolerance)
            row.append((sign, f"{_hex(pen[0])} on {_hex(pen[1])}"))
        rows.append(tuple(row))
    return rows


def sign_rows(picture: Thumbnail) -> list[Row]:
    """The same without colours: a sign for how light both pixels of a cell are."""
    rows: list[Row] = []
    for upper, lower in zip(picture.pixels[::2], picture.pixels[1::2], strict=True):
        signs = [_RAMP[(_light(a) + _light(b)) * len(_RAMP) // 512] for a, b in zip(upper, lower, strict=True)]
        rows.append((("".join(signs), ""),))
    return rows


def without_colours() -> bool:
    """Whether the person asked for none."""
    return bool(os.environ.get("NO_COLOR"))


@lru_cache(maxsize=1)
def numbered_colours() -> tuple[Rgb, ...]:
    """Those that every terminal of 256 colours shows as they are, and that rich leaves so: it takes the lighter greys
    for darker ones."""
    from rich.color import Color, ColorSystem

    exact = (
        (colour, number)
        for colour, number in colours_by_number().items()
        if Color.from_rgb(*colour).downgrade(ColorSystem.EIGHT_BIT).number == number
    )
    return tuple(colour for colour, _ in exact)


def _runs(cells: Sequence[tuple[Rgb, Rgb]]) -> Row:
    """Equal neighbours together. A cell of one colour is a blank on it, which is a third of the bytes."""
    row = []
    for (upper, lower), run in groupby(cells):
        sign = " " if upper == lower else "▀"
        paint = f"on {_hex(lower)}" if upper == lower else f"{_hex(upper)} on {_hex(lower)}"
        row.append((sign * len(list(run)), paint))
    return tuple(row)


def _thrifty(pixels: tuple[Rgb, Rgb], pen: tuple[Rgb, Rgb], tolerance: int) -> tuple[str, tuple[Rgb, Rgb]]:
    """The sign, and what the terminal draws with then: colour and background."""
    upper, lower = (_nearest(pixel, pen, tolerance) for pixel in pixels)
    front, back = pen
    if distance(upper, lower) <= tolerance:
        if upper == front or lower == front:
            return "█", pen
        return " ", (front, upper if upper == back else lower)
    if upper == back or lower == front:
        return "▄", (lower, upper)
    return "▀", (upper, lower)


def _nearest(pixel: Rgb, known: tuple[Rgb, Rgb], tolerance: int) -> Rgb:
    best = min(known, key=lambda colour: distance(pixel, colour))
    return best if distance(pixel, best) <= tolerance else pixel


@lru_cache(maxsize=8192)
def distance(one: Rgb, other: Rgb) -> int:
    """As the eye has it, about ("redmean"), squared: 0 to 584,000."""
    mean = (one[0] + other[0]) // 2
    red, green, blue = (a - b for a, b in zip(one, other, strict=True))
    return ((512 + mean) * red * red + 1024 * green * green + (767 - mean) * blue * blue) >> 8


def _hex(pixel: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixel)


def _light(pixel: Rgb) -> int:
    """Luma, 0..255."""
    return (299 * pixel[0] + 587 * pixel[1] + 114 * pixel[2]) // 1000
