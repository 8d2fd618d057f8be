"""The running median of a series, evaluated where it is drawn: what a spike does not move."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from statistics import median

from aozora_tui.widgets.columns import LARGEST, SMALLEST, Column

LEAST = 101  # points about a dot column that its median is of; all of the column's own, where those are more


class Medians:
    """One value a dot column of `width` from x = `start` to `stop`: the median of the points in it, or of the nearest
    `LEAST` where it has fewer. Columns whose points cannot change any more are not looked at again."""

    def __init__(self, start: float, stop: float, width: int, *, positive: bool = False) -> None:
        self.start, self.stop, self.width, self.positive = start, stop, width, positive
        self.by_dot: dict[int, Column] = {}
        self.skipped = 0
        self.last: float | None = None
        self._count, self._newest = 0, 0.0

    def continues(self, xs: Sequence[float], ys: Sequence[float]) -> bool:
        """Whether these points start with those already seen, judged by the newest of them."""
        return self._count == 0 or (min(len(xs), len(ys)) >= self._count and xs[self._count - 1] == self._newest)

    def extend(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Take all of the points; those seen already cost nothing."""
        count = min(len(xs), len(ys))
        if count == self._count:
            return
        before, self._count, self._newest = self._count, count, xs[count - 1]
        joined = False
        for dot in range(self.width):
            first, stop = self._edge(xs, dot, count), self._edge(xs, dot + 1, count)
            if first == stop:
                continue
            missing = max(LEAST - (stop - first), 0)
            low, high = max(first - (missing + 1) // 2, 0), stop + (missing + 1) // 2
            if high < before and dot in self.by_dot:
                joined = True
                continue
            lowest = SMALLEST if self.positive else -LARGEST
            values = [value for value in ys[low:high] if lowest <= value <= LARGEST]
            if values:
                middle = median(values)
                self.by_dot[dot] = Column(middle, middle, middle, middle, joined)
                self.last, joined = middle, True

    def extent(self) -> tuple[float, float] | None:
        """Lowest and highest median in sight; None if there is nothing."""
        values = [column.low for column in self.by_dot.values()]
        return (min(values), max(values)) if values else None

    def _edge(self, xs: Sequence[float], dot: int, count: int) -> int:
        """The first point of a dot column: columns are centred on their dots, as those of the series itself."""
        x = self.start + (dot - 0.5) / max(self.width - 1, 1) * (self.stop - self.start)
        return bisect_left(xs, min(max(x, self.start), self.stop + 1e-9 * (self.stop - self.start)), 0, count)
