"""Points of a drawn curve, moved, added and removed. Pure: every function gives new points, in order and in range."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aozora_tui.widgets.scale import nice_step
from engine.contract.curves import piecewise
from engine.contract.sections import Point

Points: TypeAlias = tuple[Point, ...]

MOST = 1e9  # that a point's value may be
LOG_SPAN = 1e-4  # of the highest value: what is less than this is 0 on a logarithmic axis
LOG_FINE, LOG_COARSE = 10**0.02, 10**0.2
FINE_STEPS = 150  # at least so many from the bottom of the axis to its top; ten of them are a coarse one
GRID_LINES = 24
COARSE_LINES = 5
ROUND = (1, 2, 5)


@dataclass(frozen=True)
class Grain:
    """How points lie on their axis from 0 to `last`: at least `gap` apart, rounded to `digits` decimals, moved by
    `fine` or `coarse`, or from line to line of a `grid`."""

    last: float
    gap: float
    digits: int
    fine: float
    coarse: float
    grid: float

    def rounded(self, at: float) -> float:
        return min(max(float(round(at, self.digits)), 0.0), self.last)

    def is_round(self, at: float) -> bool:
        """Whether a place that is written short is less than half a `gap` away."""
        return abs(self._short(at) - at) < self.gap / 2

    def tidy(self, at: float) -> float:
        """That place, or else the nearest allowed one."""
        return self.rounded(self._short(at) if self.is_round(at) else at)

    def _short(self, at: float) -> float:
        return round(at / self.grid * 5) * self.grid / 5


OVER_TIMESTEPS = Grain(last=999, gap=1, digits=0, fine=5, coarse=50, grid=50)


def over_the_run(steps: int) -> Grain:
    """Points a step apart can be told from each other, whatever the length of the run."""
    gap = min(0.01, 1 / steps)
    return Grain(last=1, gap=gap, digits=math.ceil(-math.log10(gap)) + 1, fine=0.005, coarse=0.05, grid=0.05)


@dataclass(frozen=True)
class Pace:
    """How far a key moves a point: `top` is the highest value of the axis."""

    top: float
    log: bool = False
    snap: bool = False

    @property
    def grid(self) -> float:
        """From line to line of the values' grid, on a linear axis."""
        return nice_step(self.top, GRID_LINES)


def raised(points: Points, index: int, by: int, pace: Pace, *, coarse: bool = False) -> Points:
    """The point's value `by` steps higher, lower if negative."""
    value = points[index].value
    moved = _on_log(value, by, pace, coarse=coarse) if pace.log else _on_line(value, by, pace, coarse=coarse)
    return _with(points, index, Point(points[index].at, neat(min(max(moved, 0.0), MOST), 6)))


def slid(points: Points, index: int, by: int, grain: Grain, *, coarse: bool = False, snap: bool = False) -> Points:
    """The point moved sideways, as far as its neighbours let it."""
    low = points[index - 1].at + grain.gap if index else 0.0
    high = points[index + 1].at - grain.gap if index + 1 < len(points) else grain.last
    at = points[index].at
    if snap:
        lines = by * (COARSE_LINES if coarse else 1)
        target = grain.last if by > 0 and at + grain.grid > grain.last else _next_line(at, lines, grain.grid)
    else:
        target = at + by * (grain.coarse if coarse else grain.fine)
    target = grain.rounded(min(max(target, low), high))
    if low > high or (target - at) * by <= 0:
        return points
    return _with(points, index, Point(target, points[index].value))


def inserted(points: Points, index: int, grain: Grain) -> tuple[Points, int] | None:
    """A point between this one and the next, on the line, and its index; after the last one at the axis' end, or else
    before it. None where there is no room."""
    if index + 1 < len(points):
        at, place = (points[index].at + points[index + 1].at) / 2, index + 1
    elif points[index].at < grain.last:
        at, place = grain.last, index + 1
    else:
        at, place = ((points[index - 1].at if index else 0.0) + points[index].at) / 2, index
    at = grain.rounded(at)
    if any(abs(point.at - at) < grain.gap * 0.999 for point in points):
        return None
    return (*points[:place], Point(at, neat(piecewise(points, at), 6)), *points[place:]), place


def removed(points: Points, index: int) -> Points:
    return (*points[:index], *points[index + 1 :])


def put(points: Points, index: int, point: Point) -> tuple[Points, int]:
    """The point replaced, wherever that puts it among the others, and its index. Raises ValueError where another one
    is already."""
    others = removed(points, index)
    if any(other.at == point.at for other in others):
        raise ValueError(f"there is a point at {point.at:g} already")
    place = bisect_left(others, point.at, key=lambda other: other.at)
    return (*others[:place], point, *others[place:]), place


def snapped(points: Points, index: int, grain: Grain, pace: Pace) -> Points:
    """The point put onto the grid: sideways only as far as its neighbours let it."""
    point = points[index]
    lines = (round(point.at / grain.grid) * grain.grid, grain.last)
    at = grain.rounded(min(lines, key=lambda line: abs(line - point.at)))
    before = points[index - 1].at if index else -grain.gap
    after = points[index + 1].at if index + 1 < len(points) else grain.last + grain.gap
    if not before + grain.gap <= at <= after - grain.gap:
        at = point.at
    value = _nearest_round(point.value) if pace.log else round(point.value / pace.grid) * pace.grid
    return _with(points, index, Point(at, neat(min(value, MOST), 6)))


def plain_points(points: Sequence[Point]) -> list[list[float]]:
    """As TOML holds them: `[[0, 0.1], [0.5, 1.0]]`."""
    return [[int(point.at) if point.at == int(point.at) else point.at, float(point.value)] for point in points]


def neat(value: float, digits: int) -> float:
    """To so many significant digits."""
    return float(f"{value:.{digits}g}")


def _with(points: Points, index: int, point: Point) -> Points:
    return (*points[:index], point, *points[index + 1 :])


def _on_line(value: float, by: int, pace: Pace, *, coarse: bool) -> float:
    if pace.snap:
        return _next_line(value, by * (COARSE_LINES if coarse else 1), pace.grid)
    return value + by * nice_step(pace.top, FINE_STEPS) * (10 if coarse else 1)


def _next_line(value: float, lines: int, grid: float) -> float:
    """So many lines of a grid further; from between two lines, to the next one first."""
    here = value / grid
    return ((math.floor(here + 1e-6) if lines > 0 else math.ceil(here - 1e-6)) + lines) * grid


def _on_log(value: float, by: int, pace: Pace, *, coarse: bool) -> float:
    least = pace.top * LOG_SPAN
    if value < least:
        return least if by > 0 else 0.0
    moved = _next_round(value, by, coarse=coarse) if pace.snap else value * (LOG_COARSE if coarse else LOG_FINE) ** by
    return moved if moved >= least * 0.999 else 0.0


def _next_round(value: float, by: int, *, coarse: bool) -> float:
    """The next of 1, 2 and 5 times a power of ten, or the next power of ten."""
    decade = math.floor(math.log10(value) + 1e-9)
    factors = (1,) if coarse else ROUND
    rungs = [float(f"{factor}e{power}") for power in range(decade - 1, decade + 3) for factor in factors]
    if by > 0:
        return next(rung for rung in rungs if rung > value * (1 + 1e-6))
    return next(rung for rung in reversed(rungs) if rung < value * (1 - 1e-6))


def _nearest_round(value: float) -> float:
    if value <= 0:
        return 0.0
    decade = math.floor(math.log10(value))
    rungs = [float(f"{factor}e{power}") for power in (decade, decade + 1) for factor in ROUND]
    return min(rungs, key=lambda rung: abs(math.log(rung / value)))
