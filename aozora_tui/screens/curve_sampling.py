"""Few points that follow many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

MOST_POINTS = 24
CLOSE = 0.015
LEAST = 1e-4  # of the highest value: smaller ones may be off by as much as this one


def followed(
    xs: Sequence[float],
    ys: Sequence[float],
    is_round: Callable[[float], bool],
    *,
    relative: bool = False,
    close: float = CLOSE,
    most: int = MOST_POINTS,
) -> list[int]:
    """Indices of the points that straight lines must join to stay within `close` of all of them, at most `most`:
    the two ends, then again and again the one that is farthest off (Ramer 1972, with the farthest first). Where it
    does no harm a round x is taken instead of one beside it.

    Off by a share of the highest value, or with `relative` of each point's own. `xs` rise; two at least.
    """
    top = max(ys)
    scales = [(max(y, top * LEAST) if relative else top) or 1.0 for y in ys]

    def farthest(first: int, last: int) -> tuple[float, int]:
        slope = (ys[last] - ys[first]) / (xs[last] - xs[first])
        return max(
            (
                (abs(ys[first] + slope * (xs[index] - xs[first]) - ys[index]) / scales[index], index)
                for index in range(first + 1, last)
            ),
            default=(0.0, first),
        )

    chosen = _farthest_first(len(xs) - 1, farthest, close, most)
    rounds = [index for index, x in enumerate(xs) if is_round(x)]
    for place in range(1, len(chosen) - 1):
        before, here, after = chosen[place - 1 : place + 2]
        near = min(rounds, key=lambda index: abs(xs[index] - xs[here]), default=here)
        worst = max(farthest(before, here)[0], farthest(here, after)[0], close)
        if before < near < after and max(farthest(before, near)[0], farthest(near, after)[0]) <= worst:
            chosen[place] = near
    return chosen


def _farthest_first(last: int, farthest: Callable[[int, int], tuple[float, int]], close: float, most: int) -> list[int]:
    chosen = {0, last}
    waiting: list[tuple[float, int, int, int]] = []

    def consider(first: int, last: int) -> None:
        error, index = farthest(first, last)
        if error > close:
            heappush(waiting, (-error, first, index, last))

    consider(0, last)
    while waiting and len(chosen) < most:
        _, first, index, end = heappop(waiting)
        chosen.add(index)
        consider(first, index)
        consider(index, end)
    return sorted(chosen)
