"""Whether a run is well: a fold of its events into what is wrong now, by which evidence, and what to try.

The engine and the app fold the same events: the one warns, the other shows what holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from engine.contract import events, health_learning, health_machine, health_validation
from engine.contract.events import Step
from engine.contract.health_past import BLOCK, Past
from engine.contract.health_rules import Level, Rule

AGAIN = 3600.0  # seconds; what ended and holds again within them is shown, but does not begin again


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong from step `since_step` on, found at `time` (Unix seconds); `text` is the newest evidence."""

    code: str
    text: str
    remedy: str
    since_step: int
    time: float
    level: Level


RULES: dict[str, Rule] = {
    "health-divergence": health_learning.divergence,
    "health-plateau": health_learning.plateau,
    "health-spikes": health_learning.spikes,
    "health-clipping": health_learning.clipping,
    "health-rate": health_learning.zero_rate,
    "health-skipped": health_learning.skipped,
    "health-rising": health_validation.rising,
    "health-data": health_machine.starvation,
    "health-heat": health_machine.heat,
    "health-spill": health_machine.spill,
    "health-disk": health_machine.disk,
    "health-checkpoint": health_machine.overdue,
}
# Which rules look when: after every so many blocks of steps, and after other events.
BY_BLOCKS: dict[int, tuple[str, ...]] = {
    2: ("health-rate", "health-clipping", "health-spill", "health-checkpoint"),
    4: ("health-divergence", "health-data", "health-skipped"),
    8: ("health-plateau", "health-spikes"),
}
BY_LOOKS = ("health-heat", "health-spill", "health-checkpoint")
BY_CHECKS = ("health-rising",)
BY_SETTLED_LOOKS = ("health-disk", *BY_LOOKS)  # when no checkpoint is about to be removed
# What is over with the process, whatever was true of it.
OF_THE_BOX = frozenset({"health-data", "health-heat", "health-spill", "health-disk", "health-checkpoint"})


class Watch:
    """Takes the events of one run in the order of its file. Time is theirs. Memory is bounded, and an event costs a few
    microseconds."""

    def __init__(self) -> None:
        self._past = Past()
        self._held: dict[str, Finding] = {}
        self._told: dict[tuple[str, bool], float] = {}  # when, by code and whether it was a danger

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What holds now, the newest last."""
        return tuple(self._held.values())

    def take(self, event: events.Event) -> tuple[Finding, ...]:
        """What begins with this event, or becomes a danger: each no more than once an hour."""
        if type(event) is Step:  # nearly all that come: no more than this for each
            pending = self._past.pending
            pending.append(event)
            return self._close(event.time) if len(pending) >= BLOCK else ()
        past = self._past
        match event:
            case events.Started():
                self._start(event)
            case events.Planned():
                past.planned = event
            case events.Steered():
                past.factor = event.factor
            case events.Machine():
                past.see(event, full=health_machine.FULL)
                return self._judge(BY_SETTLED_LOOKS if past.settled else BY_LOOKS, event.time)
            case events.Skipped():
                past.skips.append(event)
                return self._judge(("health-skipped",), event.time)
            case events.Validated():
                past.check(event)
                return self._judge(BY_CHECKS, event.time)
            case events.Saved(kind="checkpoint"):
                past.save(event)
                return self._judge(("health-checkpoint",), event.time)
        return ()

    def take_steps(self, steps: Sequence[Step]) -> tuple[Finding, ...]:
        """The same for steps that follow each other: days of them in a third of the time."""
        pending, first, begun = self._past.pending, 0, list[Finding]()
        while len(pending) + len(steps) - first >= BLOCK:
            stop = first + BLOCK - len(pending)
            pending += steps[first:stop]
            begun += self._close(pending[-1].time)
            first = stop
        pending += steps[first:]
        return tuple(begun)

    def _start(self, event: events.Started) -> None:
        self._past.start(event)
        held = self._held.items()
        self._held = {
            code: finding for code, finding in held if finding.since_step <= event.step and code not in OF_THE_BOX
        }

    def _close(self, time: float) -> tuple[Finding, ...]:
        past = self._past
        past.close(health_learning.ZERO_RATE)
        codes = [code for every, codes in BY_BLOCKS.items() if past.closed % every == 0 for code in codes]
        return self._judge(codes, time)

    def _judge(self, codes: Iterable[str], time: float) -> tuple[Finding, ...]:
        return tuple([begun for code in codes if (begun := self._look(code, time)) is not None])

    def _look(self, code: str, time: float) -> Finding | None:
        held = self._held.get(code)
        evidence = RULES[code](self._past, held is not None)
        if evidence is None:
            self._held.pop(code, None)
            return None
        worse = evidence.level == "danger"
        if held is not None and (held.level == "danger" or not worse):
            self._held[code] = replace(held, text=evidence.text, remedy=evidence.remedy, level=evidence.level)
            return None
        since = self._past.step if evidence.since is None else evidence.since
        self._held[code] = finding = Finding(code, evidence.text, evidence.remedy, since, time, evidence.level)
        told = self._told.get((code, worse))
        if told is not None and 0 <= time - told < AGAIN:  # a clock that was set back must not silence a rule
            return None
        self._told[code, worse] = time
        return finding
