"""The loss by timestep: which noise levels a run has learnt, and when. No Textual."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from aozora_tui.history import History

TIMESTEPS = 1000


@dataclass(frozen=True, slots=True)
class Mean:
    """Of the losses of `count` samples; NaN where there are none."""

    value: float
    count: int


class TimestepLosses:
    """The mean loss of `bins` equal ranges of the timesteps, for each of `columns` equal spans of the steps from above
    `start` to `stop`. `update` takes what is new: a column that is full is never summed up again."""

    def __init__(self, start: float, stop: float, *, columns: int, bins: int) -> None:
        self.start, self.stop, self.columns, self.bins = start, stop, columns, bins
        self._grid: list[list[Mean]] = [[Mean(math.nan, 0)] * bins for _ in range(columns)]
        self._done = 0  # entries of the history whose columns are full
        self._last: tuple[int, int] = (0, 0)  # how many there were, and the newest one's step

    @property
    def grid(self) -> Sequence[Sequence[Mean]]:
        """By column, then by bin, the smallest timesteps first."""
        return self._grid

    def update(self, history: History) -> None:
        """Sum up the columns that got new steps. Begins anew where steps were dropped."""
        steps = history.steps.steps
        count = len(steps)
        seen, newest = self._last
        if count < seen or (seen and steps[seen - 1] != newest):
            self._done = 0
            self._grid = [[Mean(math.nan, 0)] * self.bins for _ in range(self.columns)]
        self._last = (count, steps[-1] if count else 0)
        width = (self.stop - self.start) / self.columns
        first = self._done
        while first < count:
            column = math.ceil((steps[first] - self.start) / width) - 1
            end = bisect_right(steps, self.start + (column + 1) * width, first)
            end = max(end, first + 1)
            if 0 <= column < self.columns:
                self._grid[column] = by_bin(history, first, end, self.bins)
            if end < count or column < 0:
                self._done = end
            first = end

    def extent(self) -> tuple[float, float] | None:
        """The lowest and highest mean; None if there is none."""
        means = [mean.value for column in self._grid for mean in column if mean.count]
        return (min(means), max(means)) if means else None


def by_bin(history: History, first: int, end: int, bins: int) -> list[Mean]:
    """The mean loss by timestep over the entries from `first` to before `end`."""
    ends = history.samples.ends
    begin = ends[first - 1] if first else 0
    stop = ends[end - 1] if end else 0
    sums, counts = [0.0] * bins, [0] * bins
    losses = history.samples.losses[begin:stop]
    for timestep, loss in zip(history.samples.timesteps[begin:stop], losses, strict=True):
        place = timestep * bins // TIMESTEPS
        sums[place] += loss
        counts[place] += 1
    return [Mean(total / count if count else math.nan, count) for total, count in zip(sums, counts, strict=True)]


def recent(history: History, steps: int, bins: int) -> list[Mean]:
    """The mean loss by timestep over the last `steps` steps."""
    entries = history.steps.steps
    if not entries:
        return [Mean(math.nan, 0)] * bins
    return by_bin(history, bisect_left(entries, entries[-1] - steps + 1), len(entries), bins)
