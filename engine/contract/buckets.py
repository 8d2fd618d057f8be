"""Which size a picture is trained at, how it gets there, and what the network is told about it.

All sizes are (width, height); only `time_ids`, the network's own vector, is height first.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# With the largest areas alone, 16:9 at 1152 would be 1536x832 instead of 1472x832. A tenth of the area, where it buys a
# nearer shape, cuts the average crop by a third and costs 2 % of the pixels.
_FULL = 0.9


class Bucket(NamedTuple):
    """The size of a picture as trained, in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Placement:
    """How a picture becomes its bucket: resize to `scaled`, then cut out the bucket at `crop`.

    `crop` is (left, top) in pixels of the resized picture; `scale` is resized size over original size.
    """

    bucket: Bucket
    scaled: tuple[int, int]
    crop: tuple[int, int]
    scale: float = 1.0

    @property
    def upscaled(self) -> bool:
        """Whether detail is invented. Without `upscale` only a side shorter than one step causes it."""
        return self.scale > 1

    @property
    def lost(self) -> float:
        """Share of the picture's area that is cropped away, in [0, 1)."""
        return 1 - (self.bucket.width * self.bucket.height) / (self.scaled[0] * self.scaled[1])


def make_buckets(resolution: int, step: int) -> tuple[Bucket, ...]:
    """The ladder of shapes: sides are multiples of `step` from resolution/2 to 2 x resolution, areas at most resolution
    squared and either as large as the width or the height allows, or 90 % of it at least. Sorted and symmetric."""
    if step < 1 or resolution < step:
        raise ValueError(f"no bucket of {step}-pixel steps fits a resolution of {resolution}: raise it or lower step")
    area = resolution * resolution
    shortest = -(-resolution // (2 * step)) * step
    longest = 2 * resolution // step * step
    square = resolution // step * step
    ladder = {Bucket(square, square)}
    for width in range(shortest, longest + 1, step):
        tallest = min(area // width // step * step, longest)
        for height in range(shortest, tallest + 1, step):
            if height == tallest or width * height >= _FULL * area:
                ladder |= {Bucket(width, height), Bucket(height, width)}
    return tuple(sorted(ladder))


def place(width: int, height: int, buckets: Sequence[Bucket], *, step: int, upscale: bool) -> Placement:
    """Where a picture of that size (after EXIF rotation) belongs: the bucket of the nearest shape, then of the largest
    area; the scale that covers it; a centred crop. Without `upscale` a picture that does not cover its bucket gets a
    smaller one in multiples of `step`, never below one step a side: a shorter side is enlarged (`upscaled` says so)."""
    if width < 1 or height < 1:
        raise ValueError(f"a picture of {width}x{height} pixels has no shape")
    if not buckets:
        raise ValueError("there is no bucket to place a picture in")
    bucket = _nearest(width / height, buckets)
    if not upscale and (width < bucket.width or height < bucket.height):
        bucket = _shrunk(width, height, bucket, step=step, buckets=buckets)
    # Whole numbers throughout: the scaled picture covers the bucket exactly on one axis and never falls short.
    if bucket.width * height >= bucket.height * width:
        scaled = (bucket.width, _rounded(height * bucket.width, width))
        scale = bucket.width / width
    else:
        scaled = (_rounded(width * bucket.height, height), bucket.height)
        scale = bucket.height / height
    crop = ((scaled[0] - bucket.width) // 2, (scaled[1] - bucket.height) // 2)
    return Placement(bucket, scaled, crop, scale)


def describe(placements: Iterable[Placement]) -> dict[Bucket, int]:
    """How many pictures each bucket holds, fullest first; a bucket of one picture is never batched with others."""
    counts = Counter(placement.bucket for placement in placements)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def time_ids(
    original: tuple[int, int], crop: tuple[int, int], target: tuple[int, int]
) -> tuple[int, int, int, int, int, int]:
    """SDXL's size conditioning: (original height, width, crop top, left, target height, width).

    The arguments are (width, height) after EXIF rotation, (left, top) in the resized picture, and the bucket: here, and
    only here, the order changes. Keep the numbers in float32: bf16 turns 1023 into 1024.
    """
    return original[1], original[0], crop[1], crop[0], target[1], target[0]


def _shrunk(width: int, height: int, bucket: Bucket, *, step: int, buckets: Sequence[Bucket]) -> Bucket:
    """The best bucket inside `bucket` that the picture covers: one side as long as possible, the other rounded to the
    picture's shape. A panorama beyond the ladder is cropped to the ladder's widest shape, as a large one would be."""
    widest = min(bucket.width, max(width // step, 1) * step)
    tallest = min(bucket.height, max(height // step, 1) * step)
    shapes = [candidate.width / candidate.height for candidate in buckets]
    ratio = min(max(width / height, min(shapes)), max(shapes))
    candidates = {Bucket(widest, tallest)}
    for up in (0, 1):
        fitted_height = (math.floor(widest / ratio / step) + up) * step
        fitted_width = (math.floor(tallest * ratio / step) + up) * step
        candidates.add(Bucket(widest, min(max(fitted_height, step), tallest)))
        candidates.add(Bucket(min(max(fitted_width, step), widest), tallest))
    return _nearest(ratio, candidates)


def _nearest(ratio: float, candidates: Iterable[Bucket]) -> Bucket:
    def distance(bucket: Bucket) -> tuple[float, int, Bucket]:
        # Rounded, so that equal shapes of different size tie and the larger wins.
        error = round(abs(math.log(ratio * bucket.height / bucket.width)), 9)
        return error, -bucket.width * bucket.height, bucket

    return min(candidates, key=distance)


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
