"""What the samples screen shows and where its cursor is; pictures are painted in a thread, and never waited for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence

from rich.color import ColorSystem
from textual import work
from textual.message import Message
from textual.worker import Worker, get_current_worker

from aozora_tui.preview_pictures import Job, Kept, Paint, Painted, painted
from aozora_tui.previews import Preview, Previews, Prompt, previews
from aozora_tui.run_state import RunState
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.terminal import ascii_only
from aozora_tui.widgets.half_blocks import without_colours
from engine.contract.events import Sampled
from engine.contract.rundir import RunDir

BATCH = 6  # pictures that come at once


class SamplesWork(AozoraScreen[None]):
    """`state` is the run screen's own; `read` has it take in what the run has told since. `step` and `row` are the
    cursor: indices of a step and of a prompt."""

    class Came(Message):
        """Pictures were painted."""

        def __init__(self, found: Sequence[tuple[Job, Painted]]) -> None:
            super().__init__()
            self.found = found

    def __init__(self, run: RunDir, state: RunState, read: Callable[[], object]) -> None:
        super().__init__()
        self.run_dir, self.state, self.read = run, state, read
        self.shown = Previews()
        self.step = self.row = 0
        self.weights = ""
        self.kept = Kept()
        self._taken: tuple[int, Sampled | None] = (0, None)
        self._wanted: deque[Job] = deque()

    @property
    def slow(self) -> bool:
        return os.environ.get("AOZORA_SLOW_LINK", "") not in ("", "0")

    @property
    def paint(self) -> Paint:
        """What the terminal can show."""
        system = self.app.console._color_system
        if ascii_only() or without_colours() or system is ColorSystem.STANDARD:
            return "signs"
        if self.slow:
            return "numbered"
        return "dithered" if system is ColorSystem.EIGHT_BIT else "full"

    @property
    def current(self) -> Preview | None:
        """The picture under the cursor."""
        if not self.shown.drawn:
            return None
        return self.shown.at(self.prompt, self.shown.steps[self.step], self.weights)

    @property
    def prompt(self) -> Prompt:
        return self.shown.prompts[self.row]

    @property
    def newest(self) -> int:
        """The last step that has a picture of the prompt under the cursor."""
        steps = range(len(self.shown.steps) - 1, 0, -1)
        return next((each for each in steps if self.shown.at(self.prompt, self.shown.steps[each], "")), 0)

    @property
    def follows(self) -> bool:
        """Whether the cursor goes on with the newest step, once it is there."""
        return True

    def take_samples(self) -> bool:
        """The run's pictures anew, if it has told of others; the cursor stays on its own, or goes with the newest."""
        samples = self.state.samples
        taken = len(samples), samples[-1] if samples else None
        if taken == self._taken:
            return False
        at_end = self.follows and self.step == self.newest
        before = (self.shown.steps[self.step], self.prompt) if self.shown.drawn else None
        self._taken, self.shown = taken, previews(samples, self.run_dir.path)
        steps, prompts = self.shown.steps, self.shown.prompts
        if before is not None:
            self.row = prompts.index(before[1]) if before[1] in prompts else 0
            self.step = steps.index(before[0]) if before[0] in steps and not at_end else self.newest
        if self.weights not in self.shown.weights:
            self.weights = self.shown.weights[-1] if self.shown.weights else ""
        return True

    def want(self, jobs: Sequence[Job]) -> None:
        """Paint these, those that are not there yet, and nothing else any more."""
        self._wanted.clear()
        self._wanted.extend(job for job in dict.fromkeys(jobs) if self.kept.get(job) is None)
        self._work_on()

    def _work_on(self) -> None:
        busy = any(worker.group == "pictures" and not worker.is_finished for worker in self.workers)
        if self._wanted and not busy:
            self.paint_wanted()

    @work(thread=True, group="pictures", exit_on_error=False)
    def paint_wanted(self) -> None:
        """What is asked for, one after the other, until there is nothing more; what is asked for may change."""
        worker = get_current_worker()
        done: list[tuple[Job, Painted]] = []
        while not worker.is_cancelled:
            try:
                job = self._wanted.popleft()
            except IndexError:
                break
            done.append((job, painted(job)))
            if len(done) >= BATCH or job.fine:
                self.post_message(self.Came(done))
                done = []
        if done:
            self.post_message(self.Came(done))

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        super().on_worker_state_changed(event)
        if event.worker.is_finished:
            self._work_on()

    def on_samples_work_came(self, event: Came) -> None:
        for job, result in event.found:
            self.kept.put(job, result)
        self.came([job for job, _ in event.found])

    def came(self, jobs: Sequence[Job]) -> None:
        """These are kept now."""
        raise NotImplementedError

    def on_unmount(self) -> None:
        self._wanted.clear()
