"""A run's numbers in columns, small enough for days of it: what charts and tables draw from. No Textual."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import lt

from engine.contract import events

# Of step events, by the name of the column. Days of them are read while somebody waits: a list for each column is
# twice as fast as a function for each event.
_OF_STEPS: dict[str, Callable[[Sequence[events.Step]], list[float]]] = {
    "loss": lambda taken: [event.loss for event in taken],
    "lr": lambda taken: [event.lr for event in taken],
    "grad_norm": lambda taken: [event.grad_norm for event in taken],
    "clipped": lambda taken: [event.clipped for event in taken],
    "seconds": lambda taken: [event.seconds for event in taken],
    "samples_per_second": lambda taken: [event.samples_per_second for event in taken],
    "memory_peak": lambda taken: [event.memory_peak for event in taken],
    "memory_reserved": lambda taken: [event.memory_reserved for event in taken],
}
SPENT = ("data", "learn", "update")
TIMESTEPS = 1000  # a sample may have: 0 to 999


def _floats(*names: str) -> dict[str, array[float]]:
    return {name: array("f") for name in names}


@dataclass
class Columns:
    """One entry an observation: the `steps` done by then, ascending; `elapsed` seconds since the run's first start,
    without the time between an end and the next start; and `values` by name, NaN where there is none. Values keep 24
    bits, so bytes are right to a sixteen-millionth."""

    steps: array[int] = field(default_factory=lambda: array("q"))
    elapsed: array[float] = field(default_factory=lambda: array("d"))
    values: dict[str, array[float]] = field(default_factory=dict)
    rewinds: int = 0  # how often entries have become void

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, name: str) -> array[float]:
        return self.values[name]

    def drop_after(self, step: int) -> int:
        """Forget what was observed after `step`; how many entries are left."""
        keep = bisect_right(self.steps, step)
        self.rewinds += keep < len(self.steps)
        del self.steps[keep:], self.elapsed[keep:]
        for column in self.values.values():
            del column[keep:]
        return keep


@dataclass
class Samples:
    """Each sample's timestep and loss, in the order they were drawn; `ends` is how many there were after each entry of
    the steps. Windows of more than 256 samples do not tell them."""

    timesteps: array[int] = field(default_factory=lambda: array("H"))
    losses: array[float] = field(default_factory=lambda: array("f"))
    ends: array[int] = field(default_factory=lambda: array("q"))

    def extend(self, taken: Sequence[events.Step]) -> None:
        counts = [len(event.losses) for event in taken]
        drawn = [timestep for event in taken for timestep in event.timesteps]
        sound = [len(event.timesteps) for event in taken] == counts
        if sound and 0 <= min(drawn, default=0) <= max(drawn, default=0) < TIMESTEPS:
            ends = accumulate(counts, initial=len(self.losses))
            self.timesteps.extend(array("H", drawn))
            self.losses.extend(array("f", [loss for event in taken for loss in event.losses]))
            self.ends.extend(array("q", list(ends)[1:]))
        elif len(taken) > 1:
            for event in taken:
                self.extend((event,))
        else:  # what makes no sense is left out
            self.ends.append(len(self.losses))

    def keep(self, entries: int) -> None:
        total = self.ends[entries - 1] if entries else 0
        del self.timesteps[total:], self.losses[total:], self.ends[entries:]


@dataclass
class Box(Columns):
    """What the machine told, half a minute apart: of the card its used bytes, watts, percent and degrees."""

    values: dict[str, array[float]] = field(
        default_factory=lambda: _floats("card_used", "power", "utilisation", "temperature", "disk_free")
    )

    def take(self, event: events.Machine, step: int, elapsed: float) -> None:
        self.steps.append(step)
        self.elapsed.append(elapsed)
        for name, column in self.values.items():
            value = getattr(event, name)
            column.append(math.nan if value is None or (name == "card_used" and not event.card) else value)


@dataclass
class Checks(Columns):
    """The loss on pictures that are held out."""

    values: dict[str, array[float]] = field(default_factory=lambda: _floats("validation"))

    def take(self, event: events.Validated, elapsed: float) -> None:
        """Of a step that is measured again, as after a resume, the newer one counts."""
        self.drop_after(event.step - 1)
        self.steps.append(event.step)
        self.elapsed.append(elapsed)
        self.values["validation"].extend(_finite([event.loss]))


@dataclass
class History:
    """Everything a run has measured, of which nothing is void: a resume from step k drops what came after k."""

    steps: Columns = field(default_factory=lambda: Columns(values=_floats(*_OF_STEPS, *SPENT)))
    samples: Samples = field(default_factory=Samples)
    box: Box = field(default_factory=Box)
    checks: Checks = field(default_factory=Checks)
    _began: float = 0.0  # Unix seconds that stand for elapsed 0, moved on by every pause between two starts

    def begin(self, event: events.Started) -> None:
        """A start, or a resume."""
        self.drop_after(event.step)
        last = self.steps.elapsed[-1] if self.steps.elapsed else 0.0
        self._began = event.time - last

    def extend(self, taken: Sequence[events.Step]) -> None:
        """Steps in the order of the file. One that is there already is taken again with all after it: a run that was
        killed before it could say that it started anew."""
        last = self.steps.steps[-1] if self.steps.steps else -1
        numbers = [event.step for event in taken]
        if all(map(lt, numbers, numbers[1:])):
            if taken and numbers[0] <= last:
                self.drop_after(numbers[0] - 1)
            self._append(taken)
        else:
            for event in taken:
                self.extend((event,))

    def drop_after(self, step: int) -> None:
        """Forget the steps after `step`."""
        self.samples.keep(self.steps.drop_after(step))
        self.box.drop_after(step)
        self.checks.drop_after(step)

    def elapsed(self, time: float) -> float:
        """What `elapsed` is at a moment of the present start, in Unix seconds."""
        return max(time - self._began, 0.0)

    def _append(self, taken: Sequence[events.Step]) -> None:
        columns = self.steps
        columns.steps.extend(array("q", [event.step for event in taken]))
        began = self._began
        columns.elapsed.extend(array("d", [event.time - began for event in taken]))
        for name, of in _OF_STEPS.items():
            columns[name].extend(_finite(of(taken)))
        spent = [event.spent for event in taken]
        for name in SPENT:
            columns[name].extend(_told(name, spent))
        self.samples.extend(taken)


def _told(name: str, spent: Sequence[Mapping[str, float]]) -> array[float]:
    """What went into a part of the steps' times; NaN where a run does not tell, as older ones."""
    try:
        return _finite([parts[name] for parts in spent])
    except KeyError:
        if not any(name in parts for parts in spent):
            return array("f", [math.nan]) * len(spent)
        return _finite([parts.get(name, math.nan) for parts in spent])


def _finite(values: Sequence[float]) -> array[float]:
    """With NaN for what cannot be drawn; float32 must hold them too."""
    kept = array("f", values)
    if math.isfinite(sum(kept)):
        return kept
    return array("f", [value if abs(value) < 3e38 else math.nan for value in values])
