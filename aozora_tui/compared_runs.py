"""Runs that are looked at side by side: each read to its end in a thread, then followed on the tick. No Textual."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aozora_tui import runs
from aozora_tui.averages import LowestAverage
from aozora_tui.history import Samples
from aozora_tui.metrics import METRICS, Metric, XAxis, shown, values, xs
from aozora_tui.remote import links
from aozora_tui.run_list import ENDED
from aozora_tui.run_state import RunState
from aozora_tui.runs import Standing
from aozora_tui.text import printable
from aozora_tui.widgets.traces import Series
from engine.contract import events
from engine.contract.rundir import RunDir

CHUNK = 1 << 18  # bytes whose events stay in a processor's cache
TURN = 4 * CHUNK  # of a run that goes on, at a tick
GONE = "its folder is gone"


class _NoSamples(Samples):
    """The loss of each sample is most of what a run tells, and nothing here shows it."""

    def extend(self, taken: Sequence[events.Step]) -> None:
        pass

    def keep(self, entries: int) -> None:
        pass


class ComparedRun:
    """`place` says which marker and colour it has for as long as it is compared. A thread calls `load`; until `loaded`
    nobody else looks at anything but `share`. `profile` holds what its profile writes by field, None if that cannot be
    read. `trouble` is what cannot be had of the run, "" if all can."""

    def __init__(self, run: RunDir, place: int) -> None:
        self.run, self.place = run, place
        self.state = RunState(watch=None)
        self.state.history.samples = _NoSamples()
        self.lowest = LowestAverage()
        self.word: Standing = "starting"
        self.trouble = ""
        self.profile: Mapping[str, Any] | None = None
        self.loaded = self.dropped = False
        self._tail = events.Tail(run.events)
        self._signature: tuple[int, ...] = ()

    @property
    def share(self) -> float:
        """How much of it has been read, from 0 to 1."""
        offset, left = self._tail.offset, self._tail.left
        return offset / (offset + left) if offset + left else 0.0

    @property
    def per_step(self) -> int:
        """Samples."""
        started = self.state.started
        return started.accumulate * started.batch_size if started else 1

    @property
    def whole(self) -> int:
        """The last step that it is going to have, as far as anybody knows."""
        done = self.state.history.steps.steps
        last = done[-1] if len(done) else 0
        return last if self.word in ENDED or self.trouble else max(self.state.steps, last)

    def load(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """All that is there now, unless `until` says that it is no longer wanted."""
        self._look()
        self.profile = _written(self.run)
        while self._read(CHUNK) and self._tail.left and not (until() or self.dropped):
            pass

    def follow(self) -> bool:
        """What was appended since, a bounded amount of it; whether there is anything new to show."""
        before = self.word, self.trouble, self.state.step, self.state.last_time
        self._look()
        self._read(TURN)
        return before != (self.word, self.trouble, self.state.step, self.state.last_time)

    def _look(self) -> None:
        """How it stands. Of one that has ended nothing changes without a file that does."""
        signature = runs.signature(self.run)
        if signature == self._signature and self.word in (*ENDED, "unreadable"):
            return
        self._signature = signature
        try:
            self.word, self.trouble = runs.state_now(self.run), ""
        except (OSError, ValueError) as error:
            self.word = "unreadable"
            self.trouble = f"it cannot be read: {printable(str(error))}" if self.run.path.is_dir() else GONE

    def _read(self, most: int) -> bool:
        """Whether there was anything."""
        if self.word == "unreadable":
            return False
        try:
            block = self._tail.read(most)
        except OSError as error:
            self.trouble = f"its events cannot be read: {error.strerror or error}"
            return False
        if block:
            self.state.apply(block)
            columns = self.state.history.steps
            self.lowest.extend(columns.steps, columns["loss"], columns.rewinds)
        if self._tail.unreadable:
            many = "1 line" if self._tail.unreadable == 1 else f"{self._tail.unreadable:,} lines"
            self.trouble = f"{many} of its events cannot be read and are left out"
        return bool(block) or self._tail.left > 0


def series(compared: ComparedRun, metric: Metric, axis: XAxis, style: str) -> Series:
    """A curve of it, over its own steps, hours or samples."""
    history = compared.state.history
    across = xs(history, axis, per_step=compared.per_step, of=metric.of)
    return Series(str(compared.place), across, values(history, metric), style, smoothed=metric.smoothed)


def told(compared: Sequence[ComparedRun]) -> tuple[Metric, ...]:
    """The metrics of which at least one of them says something; the loss in any case."""
    known = {metric.name for each in compared for metric in shown(each.state.history)} | {"loss"}
    return tuple(metric for metric in METRICS if metric.name in known and not metric.by_timestep)


def labels(found: Sequence[RunDir]) -> list[str]:
    """What each is called: by its name, and where several have the same one by as much of its path as tells them
    apart."""
    parts = [run.path.absolute().parts for run in found]
    names = []
    for run, own in zip(found, parts, strict=True):
        depth = 1
        while depth < len(own) and sum(other[-depth:] == own[-depth:] for other in parts) > 1:
            depth += 1
        names.append(printable(links.title(run) if depth == 1 else "/".join(own[-depth:])))
    return names


def distinct(found: Sequence[RunDir]) -> list[RunDir]:
    """Each folder once, however it was written."""
    kept: dict[Path, RunDir] = {}
    for run in found:
        kept.setdefault(run.path.resolve(), run)
    return list(kept.values())


def _written(run: RunDir) -> Mapping[str, Any] | None:
    """What the run was told, by field."""
    from engine.contract.profile import read_text
    from engine.contract.profile_values import written_values

    try:
        return written_values(read_text(run.profile).removeprefix("\ufeff")) if run.profile.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
