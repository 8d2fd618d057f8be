"""What a chart draws of its series: the points, their average and their median, folded into dot columns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aozora_tui.widgets.columns import Columns
from aozora_tui.widgets.medians import Medians


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one quantity, x ascending. The lists may grow in place: call `set_data` again after that.

    `style_class` is `raw`, `smooth`, `second`, `third` or `fourth`. A `raw` series is what was measured: with the
    chart's smoothing on it becomes faint dots under its own average, otherwise a line. The others are lines, told
    apart by dashes as well as by colour; they follow the chart's smoothing if `smoothed`.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style_class: str = "raw"
    smoothed: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """One thing drawn: a series, or the average of one."""

    series: Series
    columns: Columns | Medians
    style: str
    name: str
    scatter: bool = False


# Of which series, over which x range, how many dots wide, and whether for a log axis.
_At: TypeAlias = tuple[int, str, tuple[float, float], int, bool]


@dataclass(frozen=True, slots=True)
class Fold:
    """`smoothing` is the weight of the past in the average, 0 for none; `positive` is for a log axis."""

    smoothing: float
    median: bool
    positive: bool


class Folds:
    """Takes over what earlier calls have folded, so that a tick costs what is new."""

    def __init__(self) -> None:
        self._before: dict[tuple[object, ...], Columns | Medians] = {}
        self._now: dict[tuple[object, ...], Columns | Medians] = {}

    def of(self, series: Sequence[Series], x_range: tuple[float, float], width: int, fold: Fold) -> list[Trace]:
        """The traces of these series over the x range, `width` dots wide, those that belong together together."""
        self._before, self._now = self._now, {}
        traces = []
        for position, each in enumerate(series):
            at = (position, each.name, x_range, width, fold.positive)
            averaged = fold.smoothing > 0 and (each.smoothed or each.style_class == "raw")
            if averaged and each.style_class == "raw":
                traces.append(Trace(each, self._columns(at, each, 0.0), "raw", each.name, scatter=True))
            columns = self._columns(at, each, fold.smoothing if averaged else 0.0)
            style = "smooth" if each.style_class == "raw" else each.style_class
            name = "avg" if averaged and each.style_class == "raw" else each.name
            traces.append(Trace(each, columns, style, name))
            if fold.median and each.style_class == "raw":
                traces.append(Trace(each, self._medians(at, each), "third", "median"))
        return traces

    def _columns(self, at: _At, series: Series, smoothing: float) -> Columns:
        key = (*at, smoothing)
        columns = self._before.get(key)
        if not isinstance(columns, Columns) or not columns.continues(series.xs, series.ys):
            (start, stop), width, positive = at[2:]
            columns = Columns(start, stop, width, smoothing=smoothing, positive=positive)
        columns.extend(series.xs, series.ys)
        self._now[key] = columns
        return columns

    def _medians(self, at: _At, series: Series) -> Medians:
        key = (*at, "median")
        medians = self._before.get(key)
        if not isinstance(medians, Medians) or not medians.continues(series.xs, series.ys):
            (start, stop), width, positive = at[2:]
            medians = Medians(start, stop, width, positive=positive)
        medians.extend(series.xs, series.ys)
        self._now[key] = medians
        return medians


def nearest_index(xs: Sequence[float], x: float) -> int | None:
    """Of the nearest of ascending numbers; None if there are none."""
    if not len(xs):
        return None
    right = bisect_left(xs, x)
    if right == len(xs) or (right and x - xs[right - 1] < xs[right] - x):
        return right - 1
    return right
