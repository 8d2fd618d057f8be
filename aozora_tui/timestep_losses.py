"""The loss by timestep: which noise levels a run has learnt, and when. No Textual."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from aozora_tui.history import TIMESTEPS, History


@dataclass(frozen=True, slots=True)
class Mean:
    """Of the losses of `count` samples; NaN where there are none."""

    value: float
    count: int


class TimestepLosses:
    """The mean loss of `bins` equal ranges of the timesteps, for each of `columns` equal spans of the x axis from above
    `start` to `stop`. `update` takes what is new: nothing is summed up twice."""

    def __init__(self, start: float, stop: float, *, columns: int, bins: int) -> None:
        self.start, self.stop, self.columns, self.bins = start, stop, columns, bins
        self._last = (0, 0.0)  # how many entries of the history were summed up, and the newest one's x
        self._forget()

    @property
    def grid(self) -> Sequence[Sequence[Mean]]:
        """By column, then by bin, the smallest timesteps first."""
        return self._grid

    def update(self, history: History, xs: Sequence[float] | None = None) -> None:
        """Sum up what is new; `xs` is where the steps lie on the axis, if not at their numbers. Begins anew where steps
        were dropped."""
        places = history.steps.steps if xs is None else xs
        first, newest = self._last
        if len(places) < first or (first and places[first - 1] != newest):
            self._forget()
            first = 0
        self._last = (len(places), places[-1] if len(places) else 0.0)
        width = (self.stop - self.start) / self.columns
        while first < len(places):
            column = math.ceil((places[first] - self.start) / width) - 1
            if column >= self.columns:
                return
            end = bisect_right(places, self.start + (max(column, -1) + 1) * width, first)
            end = max(end, first + 1)
            if column >= 0:
                self._add(column, history, first, end)
            first = end

    def extent(self) -> tuple[float, float] | None:
        """The lowest and highest mean; None if there is none."""
        means = [mean.value for column in self._grid for mean in column if mean.count]
        return (min(means), max(means)) if means else None

    def column_of(self, x: float) -> int:
        """The column that a place on the axis is in, the nearest one if it is in none."""
        column = math.ceil((x - self.start) / (self.stop - self.start) * self.columns) - 1
        return min(max(column, 0), self.columns - 1)

    def _forget(self) -> None:
        self._sums = [[0.0] * self.bins for _ in range(self.columns)]
        self._counts = [[0] * self.bins for _ in range(self.columns)]
        self._grid: list[list[Mean]] = [[Mean(math.nan, 0)] * self.bins for _ in range(self.columns)]

    def _add(self, column: int, history: History, first: int, end: int) -> None:
        sums, counts = self._sums[column], self._counts[column]
        _sum_up(history, (first, end), sums, counts)
        self._grid[column] = _means(sums, counts)


def by_bin(history: History, first: int, end: int, bins: int) -> list[Mean]:
    """The mean loss by timestep over the entries from `first` to before `end`."""
    sums, counts = [0.0] * bins, [0] * bins
    _sum_up(history, (first, end), sums, counts)
    return _means(sums, counts)


def recent(history: History, steps: int, bins: int) -> list[Mean]:
    """The mean loss by timestep over the last `steps` steps."""
    entries = history.steps.steps
    if not entries:
        return [Mean(math.nan, 0)] * bins
    return by_bin(history, bisect_left(entries, entries[-1] - steps + 1), len(entries), bins)


def _sum_up(history: History, entries: tuple[int, int], sums: list[float], counts: list[int]) -> None:
    """Add the samples of the entries from the first to before the second to `sums` and `counts`, by bin."""
    first, end = entries
    ends, bins = history.samples.ends, len(sums)
    begin, stop = ends[first - 1] if first else 0, ends[end - 1] if end else 0
    losses = history.samples.losses[begin:stop]
    for timestep, loss in zip(history.samples.timesteps[begin:stop], losses, strict=True):
        place = timestep * bins // TIMESTEPS
        sums[place] += loss
        counts[place] += 1


def _means(sums: Sequence[float], counts: Sequence[int]) -> list[Mean]:
    return [Mean(total / count if count else math.nan, count) for total, count in zip(sums, counts, strict=True)]
