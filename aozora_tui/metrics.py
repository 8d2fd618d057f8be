"""What can be drawn of a run: each metric with its words, its unit and where its numbers are. No Textual."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aozora_tui.history import History

XAxis = Literal["step", "hours", "samples"]
X_AXES: tuple[XAxis, ...] = ("step", "hours", "samples")


@dataclass(frozen=True, slots=True)
class Metric:
    """`column` is of the steps' columns; `per` is what a number of it is divided by to be in `unit`. `smoothed`: an
    average says more than the points."""

    name: str
    title: str
    column: str
    unit: str = ""
    per: float = 1.0
    smoothed: bool = False


METRICS: tuple[Metric, ...] = (
    Metric("loss", "loss", "loss", smoothed=True),
    Metric("grad-norm", "gradient norm", "grad_norm", smoothed=True),
    Metric("lr", "learning rate", "lr"),
    Metric("seconds", "s/micro-batch", "seconds", "s"),
    Metric("samples", "samples/s", "samples_per_second"),
    Metric("waiting", "s/step waiting for data", "data", "s"),
    Metric("update", "s/step in the optimizer", "update", "s"),
    Metric("peak", "torch peak GiB", "memory_peak", "GiB", per=float(1 << 30)),
)


def values(history: History, metric: Metric) -> Sequence[float]:
    """In the metric's unit. The array itself where nothing is converted: it grows in place."""
    column = history.steps[metric.column]
    return column if metric.per == 1 else array("f", [value / metric.per for value in column])


def xs(history: History, axis: XAxis, *, per_step: int) -> Sequence[float]:
    """Ascending, one for each step; `per_step` samples make a step."""
    if axis == "hours":
        return array("d", [seconds / 3600 for seconds in history.steps.elapsed])
    if axis == "samples":
        return array("q", [step * per_step for step in history.steps.steps])
    return history.steps.steps


def shown(history: History) -> tuple[Metric, ...]:
    """Those of which the run says something: a processor has no torch memory, an old run no times of its parts."""
    return tuple(metric for metric in METRICS if _says(history.steps[metric.column]) or metric.name == "loss")


def _says(column: Sequence[float]) -> bool:
    """Whether the newest value is a number other than 0; the rate ends at 0, so the first one counts too."""
    return len(column) > 0 and any(value == value and value != 0 for value in (column[0], column[-1]))
