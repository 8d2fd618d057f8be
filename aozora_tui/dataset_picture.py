"""A picture as half blocks, two pixels a cell; where colour or blocks do not arrive, as signs from dark to light."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from engine.contract.picture_pixels import colour, scaled_picture

if TYPE_CHECKING:
    from aozora_tui.dataset_survey import Placed

Rgb = tuple[int, int, int]
Row = tuple[tuple[str, str], ...]

_RAMP = " .:-=+*#%@"
_COLOURS = 64  # more would cost bytes that nobody sees
_CUT_AWAY = 3  # how much darker what is cropped away is shown


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Pixels by row, an even number of rows."""

    pixels: tuple[tuple[Rgb, ...], ...]

    @property
    def width(self) -> int:
        return len(self.pixels[0])


def thumbnail(placed: Placed, background: str, room: tuple[int, int], *, whole: bool) -> Thumbnail:
    """What is trained on, scaled and cut as the engine does it, then made small enough for `room`, columns and rows of
    cells. With `whole`, all of the picture, darker where it is cut away. Takes a tenth of a second. Raises any of
    `picture_file.decoding_errors()`."""
    from PIL import Image

    placement = placed.placement
    picture = scaled_picture(placed.picture.path, placement, colour(background))
    (left, top), (width, height) = placement.crop, placement.bucket
    kept = picture.crop((left, top, left + width, top + height))
    if whole:
        picture = picture.point(lambda value: value // _CUT_AWAY)
        picture.paste(kept, (left, top))
    else:
        picture = kept
    scale = min(room[0] / picture.width, 2 * room[1] / picture.height)
    size = max(round(picture.width * scale), 1), max(2 * round(picture.height * scale / 2), 2)
    small = picture.resize(size, Image.Resampling.LANCZOS).quantize(_COLOURS).convert("RGB")
    data = small.tobytes()
    line = 3 * size[0]
    return Thumbnail(
        tuple(
            tuple((data[at], data[at + 1], data[at + 2]) for at in range(row * line, (row + 1) * line, 3))
            for row in range(size[1])
        )
    )


def block_rows(picture: Thumbnail) -> list[Row]:
    """Rows of (text, style), two pixels a cell."""
    pairs = zip(picture.pixels[::2], picture.pixels[1::2], strict=True)
    return [_runs(list(zip(upper, lower, strict=True))) for upper, lower in pairs]


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


def _runs(cells: Sequence[tuple[Rgb, Rgb]]) -> Row:
    """Equal neighbours together. A cell of one colour is a blank on it, which is a third of the bytes."""
    row = []
    for (upper, lower), run in groupby(cells):
        sign = " " if upper == lower else "▀"
        paint = f"on {_hex(lower)}" if upper == lower else f"{_hex(upper)} on {_hex(lower)}"
        row.append((sign * len(list(run)), paint))
    return tuple(row)


def _hex(pixel: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixel)


def _light(pixel: Rgb) -> int:
    """Luma, 0..255."""
    return (299 * pixel[0] + 587 * pixel[1] + 114 * pixel[2]) // 1000
