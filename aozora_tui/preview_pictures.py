"""Pictures as cells: decoded, cut, scaled and reduced to colours in a thread, and kept, as many as memory allows."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aozora_tui.remote import links
from aozora_tui.widgets.few_colours import few_colours
from aozora_tui.widgets.half_blocks import from_bytes, sign_rows, thrifty_rows
from engine.contract.picture_file import damage, decoding_errors, limited_decoding

Cells = tuple[tuple[str, str], ...]
Part = tuple[float, float, float, float]  # left, top, right, bottom as shares of the picture
Paint = Literal["full", "numbered", "dithered", "signs"]
WHOLE: Part = (0.0, 0.0, 1.0, 1.0)
COLOURS = 64  # in 24 bit; more would cost bytes that nobody sees
# How far a colour may be from its own (half_blocks.thrifty_rows): of a picture by itself, and of one among many.
FINE, COARSE = 1500, 2500
# How much dithering: more is noise, and on few pixels it is seen sooner.
CARRIED_FINE, CARRIED_COARSE = 0.6, 0.4
MOST_PIXELS = 4096 * 4096  # of the largest preview that a profile can ask for
MOST_CELLS = 100_000  # that are kept


@dataclass(frozen=True)
class Job:
    """A part of a picture, to be made small enough for `room`, columns and rows. `time` is the picture's own. `fine`:
    it is looked at by itself, and worth more bytes."""

    path: Path
    time: float
    room: tuple[int, int]
    paint: Paint
    part: Part = WHOLE
    fine: bool = False


@dataclass(frozen=True)
class Painted:
    """`fault` says why there are no rows; it follows the file's name."""

    rows: tuple[Cells, ...] = ()
    fault: str = ""


def painted(job: Job) -> Painted:
    """Takes a twentieth of a second and more; far longer if the picture has yet to come from another machine."""
    links.bring(job.path)
    try:
        small = _small(job)
    except FileNotFoundError:
        return Painted(fault="is missing")
    except _TooLargeError as error:
        return Painted(fault=str(error))
    except decoding_errors() as error:
        return Painted(fault=damage(error))
    if job.paint == "signs":
        rows = sign_rows(from_bytes(*small))
    else:
        rows = thrifty_rows(from_bytes(*small), FINE if job.fine else COARSE)
    return Painted(tuple(tuple((char, style) for text, style in row for char in text) for row in rows))


class Kept:
    """What was painted, the newest uses last; the oldest goes when there are too many cells."""

    def __init__(self, most: int = MOST_CELLS) -> None:
        self._most, self._cells = most, 0
        self._found: OrderedDict[Job, Painted] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, job: Job) -> Painted | None:
        if job in self._found:
            self._found.move_to_end(job)
        return self._found.get(job)

    def put(self, job: Job, result: Painted) -> None:
        self._drop(job)
        self._found[job] = result
        self._cells += _count(job)
        while self._cells > self._most and len(self._found) > 1:
            self._drop(next(iter(self._found)))

    def forget_faults(self) -> None:
        """A file that was missing may have come."""
        for job in [job for job, result in self._found.items() if result.fault]:
            self._drop(job)

    def _drop(self, job: Job) -> None:
        if self._found.pop(job, None) is not None:
            self._cells -= _count(job)


class _TooLargeError(ValueError):
    """The message is for the person."""


def _count(job: Job) -> int:
    return job.room[0] * job.room[1]


def _small(job: Job) -> tuple[bytes, int]:
    """Its pixels, and how many there are in a row."""
    from PIL import Image

    with limited_decoding(), Image.open(job.path, formats=("PNG",)) as file:
        wide, high = file.size
        if wide * high > MOST_PIXELS:
            raise _TooLargeError(f"is {wide}x{high}, larger than a preview can be")
        picture = file.convert("RGB")
    left, top, right, bottom = job.part
    box = (left * wide, top * high, right * wide, bottom * high)
    size = fitted((box[2] - box[0], box[3] - box[1]), job.room)
    small = picture.resize((size[0], 2 * size[1]), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    if job.paint == "full":
        return small.quantize(COLOURS).convert("RGB").tobytes(), size[0]
    if job.paint == "signs":
        return small.tobytes(), size[0]
    carried = (CARRIED_FINE if job.fine else CARRIED_COARSE) if job.paint == "dithered" else 0.0
    return few_colours(small.tobytes(), size[0], carried=carried), size[0]


def fitted(size: tuple[float, float], room: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows for something of that width and height; a cell is twice as high as wide."""
    wide, high = size
    scale = min(room[0] / wide, 2 * room[1] / high)
    return min(max(round(wide * scale), 1), room[0]), min(max(round(high * scale / 2), 1), room[1])
