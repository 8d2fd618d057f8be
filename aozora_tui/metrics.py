"""What can be drawn of a run: each metric with its words, its unit and where its numbers are. No Textual."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aozora_tui.history import Columns, History
from engine.contract.rundir import RunDir

XAxis = Literal["step", "hours", "samples"]
CLIP_IN_SIGHT = 2.5  # times the longest gradient
X_AXES: tuple[XAxis, ...] = ("step", "hours", "samples")


@dataclass(frozen=True, slots=True)
class Metric:
    """`column` is of the steps' columns, or of the machine's (`of_box`), which are told half a minute apart; `per` is
    what a number of it is divided by to be in `unit`. `smoothed`: an average says more than the points."""

    name: str
    title: str
    column: str
    unit: str = ""
    per: float = 1.0
    smoothed: bool = False
    of_box: bool = False


METRICS: tuple[Metric, ...] = (
    Metric("loss", "loss", "loss", smoothed=True),
    Metric("grad-norm", "grad norm", "grad_norm", smoothed=True),
    Metric("lr", "learning rate", "lr"),
    Metric("seconds", "s/micro-batch", "seconds", "s"),
    Metric("samples", "samples/s", "samples_per_second"),
    Metric("waiting", "s/step waiting for data", "data", "s"),
    Metric("update", "s/step in the optimizer", "update", "s"),
    Metric("peak", "torch peak GiB", "memory_peak", "GiB", per=float(1 << 30)),
    Metric("vram", "card's memory GiB", "card_used", "GiB", per=float(1 << 30), of_box=True),
    Metric("gpu", "card's use %", "utilisation", "%", of_box=True),
    Metric("power", "card's power W", "power", "W", of_box=True),
    Metric("heat", "card's heat C", "temperature", "C", of_box=True),
)


def columns(history: History, metric: Metric) -> Columns:
    """Where its numbers are, with the step and the time of each."""
    return history.box if metric.of_box else history.steps


def values(history: History, metric: Metric) -> Sequence[float]:
    """In the metric's unit. The array itself where nothing is converted: it grows in place."""
    column = columns(history, metric)[metric.column]
    return column if metric.per == 1 else array("f", [value / metric.per for value in column])


def xs(history: History, axis: XAxis, *, per_step: int, of_box: bool = False) -> Sequence[float]:
    """Ascending, one for each step, or for each look at the machine; `per_step` samples make a step."""
    found = history.box if of_box else history.steps
    if axis == "hours":
        return array("d", [seconds / 3600 for seconds in found.elapsed])
    if axis == "samples":
        return array("q", [step * per_step for step in found.steps])
    return found.steps


def shown(history: History) -> tuple[Metric, ...]:
    """Those of which the run says something: a processor has no torch memory, an old run no times of its parts."""
    return tuple(
        metric for metric in METRICS if metric.name == "loss" or _says(columns(history, metric)[metric.column])
    )


def _says(column: Sequence[float]) -> bool:
    """Whether the newest value is a number other than 0; the rate ends at 0, so the first one counts too."""
    return len(column) > 0 and any(value == value and value != 0 for value in (column[0], column[-1]))


def clip_line(history: History, clip: float) -> bool:
    """Whether the length at which gradients are clipped can be drawn beside theirs without flattening these."""
    norms = history.steps["grad_norm"]
    return clip > 0 and len(norms) > 0 and clip <= CLIP_IN_SIGHT * max(norms)


def clip_of(run: RunDir) -> float:
    """The length that gradients are scaled down to, by the profile as it ran; 0 if they are not, or nobody knows."""
    from engine.contract.profile import load

    try:
        return load(run.profile).train.max_grad_norm if run.profile.is_file() else 0.0
    except (OSError, ValueError):
        return 0.0
