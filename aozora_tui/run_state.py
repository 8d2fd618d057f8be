"""A run as its events tell it: a pure fold, the same for replay, attach and live. No Textual, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePath
from typing import Literal

from aozora_tui.history import History
from aozora_tui.rate_factor import RateFactor
from aozora_tui.text import duration, scaled, size
from engine.contract import events
from engine.contract.events import AnyEvent
from engine.contract.health import Finding, Watch

PACE_STEPS = 32
LAST_NOTES = 200
SILENT_SECONDS = 300.0  # that a checkpoint on a slow disk may take
SILENT_LEAST, SILENT_STEPS = 120.0, 6

NoteKind = Literal["plain", "good", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Note:
    """One line of what happened. `time` is Unix seconds."""

    time: float
    kind: NoteKind
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the engine warned of. `time` is Unix seconds; `step` the last one complete by then."""

    time: float
    step: int
    text: str
    remedy: str


@dataclass
class RunState:
    """`apply` events in the order of the file. `pace` is seconds a step, without caching, previews and pauses. `factor`
    is what the schedule's rate is multiplied with now, by command; `planned_lr` the rate of the last step without it.
    `watch` judges the run's health; without one, days of steps are taken in twice as fast.
    """

    started: events.Started | None = None
    phase: str = ""
    progress: events.Progress | None = None
    micro: events.Micro | None = None
    last_step: events.Step | None = None
    step: int = 0
    history: History = field(default_factory=History)
    watch: Watch | None = field(default_factory=Watch, compare=False)
    planned: events.Planned | None = None
    machine: events.Machine | None = None
    epoch: events.Epoch | None = None
    warnings: int = 0
    checkpoints: list[events.Saved] = field(default_factory=list)
    paused: bool = False
    skipped: int = 0
    damped: int = 0
    planned_lr: float = 0.0
    checkpoint: events.Saved | None = None
    samples: list[events.Sampled] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)
    failed: events.Failed | None = None
    finished: events.Finished | None = None
    notes: deque[Note] = field(default_factory=lambda: deque(maxlen=LAST_NOTES))
    told: deque[Told] = field(default_factory=lambda: deque(maxlen=LAST_NOTES))
    last_time: float = 0.0
    _rate_factor: RateFactor = field(default_factory=RateFactor)
    _damped_note: Note | None = None
    _durations: deque[float] = field(default_factory=lambda: deque(maxlen=PACE_STEPS))
    _step_began: float | None = None

    @property
    def factor(self) -> float:
        """What the schedule's rate is multiplied with from now on."""
        return self._rate_factor.now

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with the run now, the newest last."""
        return self.watch.findings if self.watch is not None else ()

    @property
    def steps(self) -> int:
        """The last step of the whole run; 0 before it is known."""
        return self.started.steps if self.started else 0

    @property
    def pace(self) -> float | None:
        """The median of the last steps, so that one that waited for the disk does not move the forecast."""
        if self._durations:
            from statistics import median  # here, because a list of runs asks for no pace

            return median(self._durations)
        if self.last_step is not None and self.started is not None:
            return self.last_step.seconds * self.started.accumulate or None
        return None

    @property
    def eta(self) -> float | None:
        """Seconds of training left, or None while nobody can know, or when the run has ended."""
        if self.pace is None or self.failed or self.finished or self.paused:
            return None
        return max(self.steps - self.step, 0) * self.pace

    @property
    def micros_done(self) -> int:
        """How many micro-batches of the step it is in are finished."""
        return self.micro.micro if self.micro is not None and self.micro.step > self.step else 0

    def silent(self, now: float) -> float | None:
        """For how long nothing was heard, if that is longer than any step and what comes between steps takes. `now` and
        the answer in seconds."""
        usual = SILENT_SECONDS
        if self.phase == "train" and self.pace is not None:
            usual = min(max(SILENT_LEAST, SILENT_STEPS * self.pace), SILENT_SECONDS)
        silent = now - self.last_time
        return silent if self.last_time and silent > usual else None

    @property
    def share(self) -> float | None:
        """How much of the present phase is done, from 0 to 1: of the run itself while it trains."""
        if self.phase == "train" or self.finished or self.failed:
            return min(self._position() / self.steps, 1.0) if self.steps else None
        if self.progress is not None and self.progress.total > 0:
            return min(self.progress.done / self.progress.total, 1.0)
        return None

    def apply(self, arrived: Iterable[AnyEvent]) -> bool:
        """Take in new events; whether there were any."""
        count = 0
        for kind, alike in groupby(arrived, type):
            count += 1
            if kind is events.Step:  # most are, and together they cost least
                self._take_steps([event for event in alike if isinstance(event, events.Step)])
                continue
            for event in alike:
                if self.watch is not None:
                    self.watch.take(event)
                self._apply(event)
                self.last_time = max(self.last_time, event.time)
        return count > 0

    def _position(self) -> float:
        accumulate = max(self.started.accumulate, 1) if self.started is not None else 1
        return self.step + min(self.micros_done / accumulate, 1.0)

    def _apply(self, event: AnyEvent) -> None:
        match event:
            case events.Started():
                self._start(event)
            case events.Phase():
                self._enter(event)
            case events.Progress():
                self.progress = event
            case events.Micro():
                self.micro = event
            case events.Machine():
                self.machine = event
                self.history.box.take(event, self.step, self.history.elapsed(event.time))
            case events.Validated():
                self.history.checks.take(event, self.history.elapsed(event.time))
                self._note(event, f"validation loss {event.loss:.4g} at step {event.step}", "good")
            case events.Planned():
                self.planned = event
            case events.Epoch():
                self.epoch = event
            case events.Skipped():
                self.skipped, self.micro = self.skipped + 1, None
                names = f" in {', '.join(event.names[:3])}" if event.names else ""
                self._note(event, f"step {event.step} skipped: {event.reason}{names}; nothing changed", "warning")
            case events.Damped():
                self._damp(event)
            case events.Steered():
                self._steer(event)
            case events.Paused():
                self.paused, self._step_began = True, None
                self._note(event, f"paused after step {event.step}")
            case events.Unpaused():
                self.paused, self._step_began = False, event.time
                self._note(event, "goes on")
            case _:
                self._report(event)

    def _report(self, event: AnyEvent) -> None:
        """Events that change no number of the training."""
        match event:
            case events.Sampled():
                self.samples.append(event)
                self._note(event, f"preview at step {event.step}: {event.prompt}", "good")
            case events.Saved():
                self._saved(event)
            case events.Refused():
                self._note(event, f"{event.command} refused: {event.text}", "warning")
            case events.Warned():
                self.warnings += 1
                self.told.append(Told(event.time, self.step, event.text, event.remedy))
                self._note(event, f"{event.text}. {event.remedy}".strip(), "warning")
            case events.Failed():
                self.failed, self.micro = event, None
                self._note(event, f"{event.text}. {event.remedy}".strip(), "error")
            case events.Finished():
                self.finished, self.micro = event, None
                self._exported(event.export or "")
                self._note(event, f"{event.reason} at step {event.step} after {duration(event.seconds)}", "good")
            case _:
                pass

    def _start(self, event: events.Started) -> None:
        resumed = self.started is not None
        self.history.begin(event)
        self.samples = [sample for sample in self.samples if sample.step <= event.step]
        self.started, self.step = event, event.step
        self.checkpoints = [saved for saved in self.checkpoints if saved.step <= event.step]
        self.exports.clear()
        self.failed = self.finished = self.micro = self.progress = self.last_step = None
        self.paused, self._step_began = False, None
        self._rate_factor.apply(event)
        self._durations.clear()
        self._note(event, f"resumed from step {event.step}" if resumed else f"started on {event.device}")

    def _enter(self, event: events.Phase) -> None:
        if self.finished is not None or self.failed is not None:  # another start, on its way to its first word
            self.finished = self.failed = self.micro = None
        if event.name != self.phase:
            self.progress = None
        self.phase = event.name
        # Only time spent training counts: whatever else happens between two steps spoils that one interval.
        self._step_began = event.time if event.name == "train" else None

    def _take_steps(self, taken: list[events.Step]) -> None:
        """Steps that follow each other."""
        if self.watch is not None:
            self.watch.take_steps(taken)
        self.history.extend(taken)
        last = taken[-1]
        self.step, self.last_step, self.micro = last.step, last, None
        self.planned_lr = last.lr / self.factor if self.factor else last.lr
        if len(taken) > PACE_STEPS:
            self._step_began = taken[-PACE_STEPS - 1].time
        for event in taken[-PACE_STEPS:]:
            if self._step_began is not None and event.time > self._step_began:
                self._durations.append(event.time - self._step_began)
            self._step_began = event.time
        self.last_time = max(self.last_time, last.time)

    def _damp(self, event: events.Damped) -> None:
        """Spikes come often: those that follow each other share one line."""
        self.damped += 1
        if self.notes and self.notes[-1] is self._damped_note:
            self.notes.pop()
        so_far = f"; {self.damped} so far" if self.damped > 1 else ""
        self._note(
            event,
            f"step {event.step} damped x {event.factor:.2g}: loss {event.loss:.3g} above {event.limit:.3g}{so_far}",
        )
        self._damped_note = self.notes[-1]

    def _steer(self, event: events.Steered) -> None:
        if event.factor != self.factor:  # a resume says it again
            self._note(event, scaled(event.factor, event.step + 1))
        self._rate_factor.apply(event)

    def _saved(self, event: events.Saved) -> None:
        if event.kind == "export":
            self._exported(event.path)
            self._note(event, f"exported {event.path} ({size(event.bytes)})", "good")
        else:
            self.checkpoint = event
            self.checkpoints.append(event)
            self._note(
                event, f"checkpoint of step {event.step} saved ({size(event.bytes)}, {event.seconds:.1f} s)", "good"
            )

    def _exported(self, path: str) -> None:
        """The last word of a run names one of them again, by its whole path."""
        if path and all(PurePath(path).name != PurePath(other).name for other in self.exports):
            self.exports.append(path)

    def _note(self, event: AnyEvent, text: str, kind: NoteKind = "plain") -> None:
        self.notes.append(Note(event.time, kind, " ".join(text.replace("..", ".").split())))
