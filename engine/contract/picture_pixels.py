"""A picture as it is trained on: turned, laid on a background, scaled and cut to its bucket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.buckets import Placement
from engine.contract.picture_file import limited_decoding

if TYPE_CHECKING:
    from PIL.Image import Image

Colour = tuple[int, int, int]  # RGB, 0..255

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def colour(text: str) -> Colour:
    """Of `#rrggbb`, as the profile has it."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def scaled_picture(path: Path, placement: Placement, background: Colour) -> Image:
    """The whole picture at the size from which the bucket is cut, RGB. Turned as its EXIF says, laid on `background`
    where it is transparent, scaled with Lanczos.

    Raises any of `picture_file.decoding_errors()` if it cannot be decoded. Takes a tenth of a second and more."""
    from PIL import Image, ImageOps

    with limited_decoding(), Image.open(path) as file:
        file.load()  # a PNG may carry its orientation behind its pixels
        picture = _as_rgb(ImageOps.exif_transpose(file), background)
    return picture.resize(placement.scaled, Image.Resampling.LANCZOS)


def trained_picture(path: Path, placement: Placement, background: Colour) -> Image:
    """The bucket's part of it, of the bucket's size. Raises as `scaled_picture`."""
    left, top = placement.crop
    width, height = placement.bucket
    return scaled_picture(path, placement, background).crop((left, top, left + width, top + height))


def _as_rgb(picture: Image, background: Colour) -> Image:
    from PIL import Image

    if picture.mode in _SIXTEEN_BIT:
        # Pillow's own conversion clips at 255 instead of scaling. From "F" it cuts the fraction off.
        values = picture.convert("I").convert("F").point(lambda value: value * (1 / 257) + 0.5)
        return values.convert("L").convert("RGB")
    if picture.has_transparency_data:
        on_top = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", on_top.size, (*background, 255)), on_top).convert("RGB")
    return picture.convert("RGB")
