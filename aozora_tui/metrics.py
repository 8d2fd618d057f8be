"""What can be drawn of a run: each metric with its words, its unit and where its numbers are. No Textual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

from aozora_tui.history import Columns, History
from engine.contract.rundir import RunDir

XAxis = Literal["step", "hours", "samples"]
Source = Literal["steps", "box", "checks"]  # the columns of a history
CLIP_IN_SIGHT = 2.5  # times the longest gradient
X_AXES: tuple[XAxis, ...] = ("step", "hours", "samples")


@dataclass(frozen=True, slots=True)
class Metric:
    """`column` is of the steps' columns, of the machine's (`box`), which are told half a minute apart, or of the looks
    at held-out pictures (`checks`); `per` is what a number of it is divided by to be in `unit`. `smoothed`: an average
    says more than the points. `by_timestep`: a strip of shades, of the samples' losses."""

    name: str
    title: str
    column: str
    unit: str = ""
    per: float = 1.0
    smoothed: bool = False
    by_timestep: bool = False
    of: Source = "steps"


METRICS: tuple[Metric, ...] = (
    Metric("loss", "loss", "loss", smoothed=True),
    Metric("grad-norm", "grad norm", "grad_norm", smoothed=True),
    Metric("timesteps", "loss by timestep", "loss", by_timestep=True),
    Metric("validation", "validation loss", "validation", of="checks"),
    Metric("lr", "learning rate", "lr"),
    Metric("seconds", "s/micro-batch", "seconds", "s"),
    Metric("samples", "samples/s", "samples_per_second"),
    Metric("waiting", "s/step waiting for data", "data", "s"),
    Metric("update", "s/step in the optimizer", "update", "s"),
    Metric("peak", "torch peak GiB", "memory_peak", "GiB", per=float(1 << 30)),
    Metric("vram", "card's memory GiB", "card_used", "GiB", per=float(1 << 30), of="box"),
    Metric("gpu", "card's use %", "utilisation", "%", of="box"),
    Metric("power", "card's power W", "power", "W", of="box"),
    Metric("heat", "card's heat C", "temperature", "C", of="box"),
)


def columns(history: History, metric: Metric) -> Columns:
    """Where its numbers are, with the step and the time of each."""
    return _columns(history, metric.of)


def _columns(history: History, of: Source) -> Columns:
    found: dict[Source, Columns] = {"steps": history.steps, "box": history.box, "checks": history.checks}
    return found[of]


def values(history: History, metric: Metric) -> Sequence[float]:
    """In the metric's unit. The array itself where nothing is converted: it grows in place."""
    column = columns(history, metric)[metric.column]
    return column if metric.per == 1 else Scaled(column, per=metric.per)


def xs(history: History, axis: XAxis, *, per_step: int, of: Source = "steps") -> Sequence[float]:
    """Ascending, one for each step, or for each look at `of`; `per_step` samples make a step."""
    found = _columns(history, of)
    if axis == "hours":
        return Scaled(found.elapsed, per=3600)
    if axis == "samples":
        return Scaled(found.steps, times=per_step)
    return found.steps


def shown(history: History) -> tuple[Metric, ...]:
    """Those of which the run says something: a processor has no torch memory, an old run no times of its parts."""
    return tuple(metric for metric in METRICS if _is_told(metric, history))


class Scaled(Sequence[float]):
    """Numbers in another unit, converted when asked for: copies of days of them at each tick would cost most of it."""

    def __init__(self, numbers: Sequence[float], *, times: float = 1, per: float = 1) -> None:
        self.numbers, self.times, self.per = numbers, times, per

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> float: ...

    @overload
    def __getitem__(self, index: slice) -> list[float]: ...

    def __getitem__(self, index: int | slice) -> float | list[float]:
        if isinstance(index, slice):
            return [number * self.times / self.per for number in self.numbers[index]]
        return self.numbers[index] * self.times / self.per


def _is_told(metric: Metric, history: History) -> bool:
    if metric.by_timestep:
        return len(history.samples.losses) > 0
    return metric.name == "loss" or _says(columns(history, metric)[metric.column])


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
