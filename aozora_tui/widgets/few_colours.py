"""Pixels in the colours that every terminal of 256 colours shows alike."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

from aozora_tui.cell_codes import LEVELS
from aozora_tui.widgets.half_blocks import Rgb, distance, numbered_colours

_SHARES = ((1, 0, 7), (-1, 1, 3), (0, 1, 5), (1, 1, 1))  # of 16, columns on and rows down (Floyd and Steinberg 1976)


def few_colours(data: bytes, width: int, *, carried: float) -> bytes:
    """The nearest to each pixel of `data` (red, green and blue, row by row). `carried` is the share of what is lost
    that goes on to its neighbours: 1 keeps the mean colour and is noisy, 0 draws bands."""
    height = len(data) // (3 * width)
    levels = [float(level) for level in data]
    out = bytearray(len(data))
    for y in range(height):
        step = -1 if y % 2 else 1
        for x in range(width) if step > 0 else range(width - 1, -1, -1):
            at = 3 * (y * width + x)
            red, green, blue = (min(max(int(level + 0.5), 0), 255) for level in levels[at : at + 3])
            found = _nearest(red >> 2, green >> 2, blue >> 2)
            out[at : at + 3] = bytes(found)
            if not carried:
                continue
            lost = (
                (red - found[0]) * carried / 16,
                (green - found[1]) * carried / 16,
                (blue - found[2]) * carried / 16,
            )
            for right, down, share in _SHARES:
                to_x, to_y = x + step * right, y + down
                if 0 <= to_x < width and to_y < height:
                    to = 3 * (to_y * width + to_x)
                    levels[to] += lost[0] * share
                    levels[to + 1] += lost[1] * share
                    levels[to + 2] += lost[2] * share
    return bytes(out)


@lru_cache(maxsize=1 << 15)
def _nearest(red: int, green: int, blue: int) -> Rgb:
    """To a colour whose levels were divided by four. Only those about it are looked at."""
    wanted = 4 * red + 2, 4 * green + 2, 4 * blue + 2
    mean = sum(wanted) // 3
    about = [
        *product(*map(_about, wanted)),
        *((grey, grey, grey) for grey in range(8, 239, 10) if abs(grey - mean) < 20),
    ]
    known = [colour for colour in about if colour in _known()]
    return min(known or numbered_colours(), key=lambda colour: distance(wanted, colour))


@lru_cache(maxsize=256)
def _about(level: int) -> tuple[int, ...]:
    """The levels of the colour cube next to it, below and above."""
    above = next((index for index, each in enumerate(LEVELS) if each >= level), len(LEVELS) - 1)
    return LEVELS[max(above - 1, 0) : above + 1]


@lru_cache(maxsize=1)
def _known() -> frozenset[Rgb]:
    return frozenset(numbered_colours())
