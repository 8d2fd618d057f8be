"""A picture file's header: its size as it is meant to be seen, read without decoding the pixels."""

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL.Image import Image

# File name endings that are looked at, in lower case, and Pillow's names for what may be inside any of them.
EXTENSIONS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
    ".avif": "AVIF",
}  # fmt: skip
# Pictures too, but not read here: said instead of passed over.
FOREIGN = (".gif", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".tga", ".svg")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_ORIENTATION = 0x0112
_LATE_EXIF = (b"Raw profile type exif", b"XML:com.adobe.xmp")
# What a whole file of the format ends with.
_ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}
_TIFF_PARTS = ((273, 279), (324, 325))  # tags of where the strips begin and how long they are; of the tiles


def read_header(path: Path) -> tuple[int, int, bool]:
    """(width, height, animated) of the picture as it is meant to be seen. The pixels are decoded only of a file that
    seems to lack its end. Raises any of `decoding_errors`, also for a file that lacks it."""
    from PIL import Image, features

    formats = [name for name in dict.fromkeys(EXTENSIONS.values()) if name != "AVIF" or features.check("avif")]
    if path.suffix.lower() == ".avif" and "AVIF" not in formats:
        raise ValueError("this installation of Pillow has no AVIF decoder")
    if _is_short_riff(path):  # its decoder says of it only that it could not begin
        raise OSError("image file is truncated")
    with Image.open(path, formats=formats) as image:
        width, height = image.size
        # A camera's JPEG may carry a second picture for the display; that is no animation.
        animated = image.format != "MPO" and bool(getattr(image, "is_animated", False))
        if _may_be_cut_off(path, image) or (image.format == "PNG" and _has_late_exif(path)):
            image.load()
        # Not image.getexif(): a PNG's own would decode every pixel to look behind them.
        turned = Image.Image.getexif(image).get(_ORIENTATION) in _SIDEWAYS
        # TIFF reports its size as already turned.
        return (height, width, animated) if turned and image.format != "TIFF" else (width, height, animated)


def _may_be_cut_off(path: Path, image: "Image") -> bool:
    """Whether the file is shorter than it says, or has something behind its end: what of it is missing, if anything is,
    only decoding can tell."""
    with path.open("rb") as file:
        head = file.read(12)
        size = file.seek(0, os.SEEK_END)
        match image.format:
            case "PNG" | "JPEG" | "MPO":
                file.seek(max(size - 64, 0))
                return not file.read().rstrip(b"\0").endswith(_ENDS[image.format])
            case "BMP":
                return int.from_bytes(head[2:6], "little") > size
            case "TIFF":
                return _end_of_tiff(image) > size
            case "AVIF":
                return _end_of_boxes(file, size) > size
    return False


def _is_short_riff(path: Path) -> bool:
    """Whether it is a WebP file, whatever its name says, that is shorter than it says."""
    with path.open("rb") as file:
        head = file.read(12)
        riff = head[:4] == b"RIFF" and head[8:] == b"WEBP"
        return riff and int.from_bytes(head[4:8], "little") + 8 > file.seek(0, os.SEEK_END)


def _end_of_tiff(image: "Image") -> int:
    """Where the last of its pixels end."""
    tags = getattr(image, "tag_v2", {})
    ends = [0]
    for starts, lengths in _TIFF_PARTS:
        ends += [sum(part) for part in zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False)]
    return max(ends)


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Of a file made of boxes, each with its length in front."""
    end = 0
    while 0 <= end < size:
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        if length < 8:  # 0: to the end of the file
            return size
        end += length
    return end


def _has_late_exif(path: Path) -> bool:
    """Whether a PNG has its orientation behind its pixels, where the standard allows it and a header read ends."""
    with path.open("rb") as file:
        file.seek(8)
        behind = False
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            start = file.tell()
            if behind and (kind == b"eXIf" or file.read(24).startswith(_LATE_EXIF)):
                return True
            behind = behind or kind == b"IDAT"
            file.seek(start + length + 4)
    return False


@contextmanager
def limited_decoding() -> Iterator[None]:
    """Turns Pillow's warning at its pixel limit into an error (it raises only at twice that; one limit is easier to
    explain) and silences its other warnings, which are about details that do not matter here. Python's filters of
    warnings belong to the whole process: with several threads in here, the last to leave puts them back."""
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()


class _Limit:
    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before = warnings.catch_warnings()

    def enter(self) -> None:
        from PIL import Image

        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.__exit__(None, None, None)


_limit = _Limit()


def decoding_errors() -> tuple[type[BaseException], ...]:
    """What Pillow and its plugins raise for a file that is damaged, hostile, or no picture at all."""
    from PIL import Image

    kinds = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, MemoryError)
    return (*kinds, struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning)


def damage(error: BaseException) -> str:
    """A `Skipped.reason` for one of `decoding_errors`."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "is not a picture in a known format, whatever its name says"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"claims more than {Image.MAX_IMAGE_PIXELS:,} pixels, the limit that guards against hostile files"
    if isinstance(error, OSError) and "truncated" in str(error).lower():
        return "is truncated: the end of the file is missing"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"is damaged ({' '.join(str(error).split()) or type(error).__name__})"
