"""A picture of the data set, made small enough for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aozora_tui.widgets.half_blocks import Thumbnail, from_bytes
from engine.contract.picture_pixels import colour, scaled_picture

if TYPE_CHECKING:
    from aozora_tui.dataset_survey import Placed

_COLOURS = 64  # more would cost bytes that nobody sees
_CUT_AWAY = 3  # how much darker what is cropped away is shown


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
    return from_bytes(small.tobytes(), size[0])
