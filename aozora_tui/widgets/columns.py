"""A series folded into the dot columns of a chart: what a column must remember, and no more."""

from collections.abc import Sequence
from dataclasses import dataclass

LARGEST = 1e300  # NaN, inf and what would overflow when ranges are subtracted: not plotted
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
        lowest = SMALLEST if self.positive else -LARGEST
        for index in range(self._count, count):
            value = ys[index]
            if lowest <= value <= LARGEST:  # False for NaN
                self._fold(xs[index], self._smoothed(value))
            else:
                self.skipped += 1
                self._joined = False
        if count > self._count:
            self._count, self._newest = count, (xs[count - 1], ys[count - 1])

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

    def _fold(self, x: float, value: float) -> None:
        self.last = value
        if not self.start <= x <= self.stop:
            self._joined = False
            return
        dot = int((x - self.start) / (self.stop - self.start) * (self.width - 1) + 0.5)
        column = self.by_dot.get(dot)
        if column is None:
            self.by_dot[dot] = Column(value, value, value, value, self._joined)
        else:
            column.low, column.high, column.last = min(column.low, value), max(column.high, value), value
        self._joined = True


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)  # NaN is the same as NaN here
