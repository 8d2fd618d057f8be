"""What is remembered of a run to judge its health: the last steps in blocks, its whole loss in few numbers, the box."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from statistics import median
from typing import NamedTuple

from engine.contract import events

BLOCK = 16  # steps that are judged together: a median of fewer is noise, and more would be told late
RECENT = 64  # blocks that are remembered one by one: 1,024 steps
GROUP = 4  # blocks in one point of the curve
MOST_POINTS = 256  # of the curve; then neighbours become one, so that any run fits
LEAST_LOSS = 1e-12  # below it a logarithm says nothing
SPREAD = 1.4826  # times the median deviation is the standard deviation of what is normally distributed
LEVELS = 240  # of the free disk: two hours
OWN = (0.5, 1.5)  # times a checkpoint's size: if the disk has so much less after it, one more of them is kept
MOST_OWN = 8  # so many at most are: a run that keeps more fills the disk itself
# The median of n values spreads so much further than their mean, which spreads 1 / sqrt(n) as far as they do.
MEDIAN_SPREAD = 1.25
LAST_MACHINES = 8
MOST_CHECKS = 1024
MOST_SKIPS = 16


class Block(NamedTuple):
    """Some steps in a row."""

    first: int
    last: int
    began: float  # time of the first step's event
    losses: list[float]
    loss: float  # the median's natural logarithm: noise on a loss is a share of it
    rates: list[float]
    norms: list[float]
    clipped: int
    seconds: float  # median, of a micro-batch
    taken: float  # seconds of a micro-batch, of all steps together
    data: float  # seconds of all steps that went by waiting for it
    spent: float  # and in all
    reserved: int  # bytes, after the last step


@dataclass(frozen=True, slots=True)
class Point:
    """The median loss of some blocks up to step `last`, as a logarithm, and the rate there."""

    last: int
    loss: float
    lr: float


@dataclass
class Curve:
    """The loss of the whole run, evenly in at most MOST_POINTS points."""

    points: list[Point] = field(default_factory=list)
    best: Point | None = None
    _blocks: list[Block] = field(default_factory=list)
    _group: list[Point] = field(default_factory=list)
    _together: int = 1  # groups in a point

    def add(self, block: Block) -> None:
        self._blocks.append(block)
        if len(self._blocks) < GROUP:
            return
        self._group.append(Point(block.last, median([each.loss for each in self._blocks]), block.rates[-1]))
        self._blocks.clear()
        if len(self._group) < self._together:
            return
        self.points.append(Point(block.last, median([each.loss for each in self._group]), block.rates[-1]))
        self._group.clear()
        if len(self.points) == MOST_POINTS:
            halves = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [Point(b.last, (a.loss + b.loss) / 2, b.lr) for a, b in halves]
            self._together *= 2
        self._look()

    def spread(self, sigma: float) -> float:
        """The standard deviation of a point, by that of a block."""
        return sigma * MEDIAN_SPREAD / math.sqrt(GROUP) * MEDIAN_SPREAD / math.sqrt(self._together)

    def drop_after(self, step: int) -> None:
        self.points = [point for point in self.points if point.last <= step]
        self._group = [point for point in self._group if point.last <= step]
        self._blocks = [block for block in self._blocks if block.last <= step]
        self._look()

    def _look(self) -> None:
        self.best = min(self.points, key=attrgetter("loss"), default=None)


@dataclass
class Past:
    """A fold of events, bounded."""

    started: events.Started | None = None
    planned: events.Planned | None = None
    pending: list[events.Step] = field(default_factory=list)
    blocks: deque[Block] = field(default_factory=lambda: deque(maxlen=RECENT))
    closed: int = 0  # blocks in all
    curve: Curve = field(default_factory=Curve)
    peak: float = 0.0  # the highest rate so far
    factor: float = 1.0  # on the rate, by command
    zero_since: int | None = None  # the first of the last steps that all had a rate of zero
    skips: deque[events.Skipped] = field(default_factory=lambda: deque(maxlen=MOST_SKIPS))
    machines: deque[events.Machine] = field(default_factory=lambda: deque(maxlen=LAST_MACHINES))
    levels: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=LEVELS))
    full_since: float | None = None
    usual_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    saved_bytes: int = 0  # of the last checkpoint
    saved_step: int = 0
    saved_at: float = 0.0  # in seconds of training, and so are the gaps between the last checkpoints
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=5))
    # (step, loss) of the looks at pictures that are held out
    checks: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=MOST_CHECKS))
    _step: int = 0
    _trained: float = 0.0
    _saved_since: bool = False  # the last level
    _own: list[int] = field(default_factory=list)  # bytes of the checkpoints by which the run took more of the disk

    @property
    def step(self) -> int:
        """The last one taken."""
        return self.pending[-1].step if self.pending else self._step

    @property
    def steps(self) -> int:
        return self.started.steps if self.started else 0

    @property
    def accumulate(self) -> int:
        return self.started.accumulate if self.started else 1

    @property
    def trained(self) -> float:
        """Seconds of training so far, pauses and saving left out."""
        return self._trained + self.accumulate * sum(step.seconds for step in self.pending)

    @property
    def remaining(self) -> float | None:
        """Seconds of training that are left."""
        if not self.blocks or not self.steps:
            return None
        return max(0, self.steps - self.step) * self.accumulate * self.blocks[-1].seconds

    @property
    def settled(self) -> bool:
        """Whether the last checkpoint's predecessors are gone: they are kept until a step after it was sound."""
        return not self.saved_bytes or self.step > self.saved_step + 1

    def start(self, event: events.Started) -> None:
        """What came after the step that it starts from is void, and the box may be another."""
        self.started, self._step = event, event.step
        self.pending = [step for step in self.pending if step.step <= event.step]
        self.blocks = deque((block for block in self.blocks if block.last <= event.step), maxlen=RECENT)
        self.curve.drop_after(event.step)
        self.skips = deque((skip for skip in self.skips if skip.step <= event.step), maxlen=MOST_SKIPS)
        self._drop_checks(event.step)
        self.machines.clear()
        self.levels.clear()
        self.usual_seconds.clear()
        self.planned = self.full_since = self.zero_since = None
        self.factor, self.saved_at, self.saved_step = 1.0, self.trained, min(self.saved_step, event.step)

    def close(self, zero: float) -> Block:
        """The pending steps become a block. A rate up to `zero` times the peak is none."""
        block = _block(self.pending)
        self.peak = max(self.peak, *block.rates)
        some = [rate > zero * self.peak for rate in block.rates]
        if any(some):
            self.zero_since = None
        if not some[-1] and self.zero_since is None:
            self.zero_since = self.pending[-_length(some)].step
        self._trained += self.accumulate * block.taken
        self._step = block.last
        self.pending.clear()
        self.blocks.append(block)
        self.closed += 1
        self.curve.add(block)
        if self.full_since is None:
            self.usual_seconds.append(block.seconds)
        return block

    def check(self, event: events.Validated) -> None:
        """Of a step that is measured again the newer look counts."""
        self._drop_checks(event.step - 1)
        self.checks.append((event.step, event.loss))

    def _drop_checks(self, after: int) -> None:
        self.checks = deque((look for look in self.checks if look[0] <= after), maxlen=MOST_CHECKS)

    def save(self, event: events.Saved) -> None:
        trained = self.trained
        self.gaps.append(trained - self.saved_at)
        self.saved_at, self.saved_step, self.saved_bytes = trained, event.step, event.bytes
        self._saved_since = True

    def see(self, machine: events.Machine, *, full: float) -> None:
        """`full`: the share of the card's memory from which on it counts as full. The levels of the free disk are told
        as if the run kept no more checkpoints than at its start."""
        if self.settled:
            level = machine.disk_free + sum(self._own)
            if self._saved_since and self.levels and len(self._own) < MOST_OWN:
                fall = self.levels[-1][1] - level
                kept = OWN[0] * self.saved_bytes < fall < OWN[1] * self.saved_bytes
                self._own += [self.saved_bytes] * kept
                level += self.saved_bytes * kept
            self._saved_since = False
            self.levels.append((machine.time, level))
        self.machines.append(machine)
        if not machine.card_total or machine.card_used < full * machine.card_total:
            self.full_since = None
        elif self.full_since is None:
            self.full_since = machine.time


def _block(steps: Sequence[events.Step]) -> Block:
    losses = [step.loss for step in steps]
    seconds = [step.seconds for step in steps]
    told = [step.spent for step in steps if step.spent]
    return Block(
        first=steps[0].step,
        last=steps[-1].step,
        began=steps[0].time,
        losses=losses,
        loss=math.log(max(median(losses), LEAST_LOSS)),
        rates=[step.lr for step in steps],
        norms=[step.grad_norm for step in steps],
        clipped=[step.clipped for step in steps].count(True),
        seconds=median(seconds),
        taken=sum(seconds),
        data=sum([spent.get("data", 0.0) for spent in told]),
        spent=sum([sum(spent.values()) for spent in told]),
        reserved=steps[-1].memory_reserved,
    )


def _length(some: Sequence[bool]) -> int:
    """Of the row of False at the end."""
    return some[::-1].index(True) if any(some) else len(some)


def noise(levels: Sequence[float]) -> float:
    """The standard deviation of each of `levels` (two or more) around whatever line they follow: by the differences of
    neighbours, robustly, so that neither a trend nor a jump counts."""
    differences = [b - a for a, b in pairwise(levels)]
    middle = median(differences)
    return SPREAD * median([abs(each - middle) for each in differences]) / math.sqrt(2)
