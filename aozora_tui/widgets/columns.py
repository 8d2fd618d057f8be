"""A series folded into the dot columns of a chart: what a column must remember, and no more."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from math import isfinite

LARGEST = 1e300  # NaN, inf and what would overflow when ranges are subtracted: not plotted
FEW = 64  # points that are folded one by one
SMALLEST = 1e-290  # the least that a log axis takes


@dataclass(slots=True)
class Column:
    """The points of one dot column, in the series' own units. The ends are where neighbours connect."""

    first: float
    low: float
    high: float
    last: float
    joined: bool  # False where the line starts anew, after values that could not be plotted


class Columns:
    """Points folded into `width` dot columns from x = `start` to `stop`, each keeping its lowest and highest value.

    Points are only ever added, so a tick costs what is new, not what the run has produced so far; when the series is
    another one (`continues` is False) or the geometry changes, build a new object. With `smoothing` f > 0 the values
    folded are the debiased exponential average m_n / (1 - f^n), m_n = f m_(n-1) + (1 - f) y_n (Kingma and Ba 2015).
    With `positive`, for a log axis, zero and below are skipped like NaN and inf. Skipped values break the line.
    """

    def __init__(
        self, start: float, stop: float, width: int, *, smoothing: float = 0.0, positive: bool = False
    ) -> None:
        self.start, self.stop, self.width = start, stop, width
        self.smoothing, self.positive = smoothing, positive
        self.by_dot: dict[int, Column] = {}
        self.skipped = 0
        self.last: float | None = None  # the newest value folded, in or out of sight
        self._count = 0
        self._newest = (0.0, 0.0)
        self._mean = self._weight = 0.0
        self._joined = False

    def continues(self, xs: Sequence[float], ys: Sequence[float]) -> bool:
        """Whether these points start with those already folded, judged by the newest of them."""
        if self._count == 0:
            return True
        if min(len(xs), len(ys)) < self._count:
            return False
        return _same(xs[self._count - 1], self._newest[0]) and _same(ys[self._count - 1], self._newest[1])

    def extend(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Fold the points after those already folded."""
        count = min(len(xs), len(ys))
        if count == self._count:
            return
        if count - self._count < FEW:
            for index in range(self._count, count):
                self._add(xs[index], ys[index])
        else:
            self._add_many(xs[self._count : count], ys[self._count : count])
        self._count, self._newest = count, (xs[count - 1], ys[count - 1])

    def _add(self, x: float, value: float) -> None:
        if (SMALLEST if self.positive else -LARGEST) <= value <= LARGEST:  # False for NaN
            self._fold(x, self._smoothed(value))
        else:
            self.skipped += 1
            self._joined = False

    def _add_many(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """The same, dot column by dot column: of hundreds of thousands of points each costs some nanoseconds. Where one
        of them cannot be plotted, its column is folded point by point."""
        first = 0
        while first < len(xs):
            dot, stop = self._dot_of(xs[first]), len(xs)
            if dot is not None:
                stop = max(bisect_left(xs, self._end_of(dot), first), first + 1)
            elif xs[first] < self.start:
                stop = max(bisect_left(xs, self.start, first), first + 1)
            values = ys[first:stop]
            low, high = min(values), max(values)
            lowest = SMALLEST if self.positive else -LARGEST
            # NaN hides from min and max, but not from the sum.
            if lowest <= low and high <= LARGEST and isfinite(sum(values)) and self._dot_of(xs[stop - 1]) == dot:
                self._fold_many(dot, values if self.smoothing == 0 else self._smoothed_all(values))
            else:
                for x, value in zip(xs[first:stop], values, strict=True):
                    self._add(x, value)
            first = stop

    def extent(self) -> tuple[float, float] | None:
        """Lowest and highest value in sight; None if there is nothing."""
        if not self.by_dot:
            return None
        return min(column.low for column in self.by_dot.values()), max(column.high for column in self.by_dot.values())

    def _smoothed(self, value: float) -> float:
        if self.smoothing == 0:
            return value
        self._mean = self.smoothing * self._mean + (1 - self.smoothing) * value
        self._weight = self.smoothing * self._weight + (1 - self.smoothing)
        return self._mean / self._weight

    def _smoothed_all(self, values: Sequence[float]) -> list[float]:
        past, new = self.smoothing, 1 - self.smoothing
        means = list(accumulate(values, lambda mean, value: past * mean + new * value, initial=self._mean))[1:]
        self._mean = means[-1]
        ones = repeat(1.0, len(values))
        weights = list(accumulate(ones, lambda weight, one: past * weight + new * one, initial=self._weight))[1:]
        self._weight = weights[-1]
        return [mean / weight for mean, weight in zip(means, weights, strict=True)]

    def _dot_of(self, x: float) -> int | None:
        if not self.start <= x <= self.stop:
            return None
        return int((x - self.start) / (self.stop - self.start) * (self.width - 1) + 0.5)

    def _end_of(self, dot: int) -> float:
        """Where the next dot column begins, but for rounding."""
        return self.start + (dot + 0.5) / max(self.width - 1, 1) * (self.stop - self.start)

    def _fold(self, x: float, value: float) -> None:
        self._fold_many(self._dot_of(x), (value,))

    def _fold_many(self, dot: int | None, values: Sequence[float]) -> None:
        """Values of one dot column, or of none that is in sight."""
        self.last = values[-1]
        if dot is None:
            self._joined = False
            return
        low, high, column = min(values), max(values), self.by_dot.get(dot)
        if column is None:
            self.by_dot[dot] = Column(values[0], low, high, values[-1], self._joined)
        else:
            column.low, column.high, column.last = min(column.low, low), max(column.high, high), values[-1]
        self._joined = True


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)  # NaN is the same as NaN here
