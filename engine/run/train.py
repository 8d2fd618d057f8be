"""The loop: windows in, steps out. Loading, caching, previews and memory are other modules' business."""

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from engine.contract import events
from engine.contract.sections import Profile
from engine.data.batches import Batches
from engine.data.cache import CacheError
from engine.memory.compiling import Clock
from engine.memory.plan import Plan, WindowGradient, Written
from engine.objective.objective import Objective
from engine.run import checkpoint
from engine.run.errors import RunError
from engine.run.machine import Lookout, uuid_of
from engine.run.making_room import make_room
from engine.run.pace import Pace
from engine.run.session import Session, StopRequested
from engine.run.windows import Window, Windows

PAUSE_SECONDS = 0.25
SAMPLES_LISTED = 256


@dataclass
class Training:
    """One run's parts, put together. `step` counts the windows that were drawn; `saved` is the last one on disk.
    `unproven` is a checkpoint that no sound gradient has followed yet: older ones stay until then. `clock` is there if
    blocks are compiled."""

    session: Session
    profile: Profile
    plan: Plan
    objective: Objective
    pace: Pace
    batches: Batches
    draw: Callable[[int], None]
    validate: Callable[[int], None]
    state: checkpoint.TrainingState
    device: torch.device
    step: int
    saved: int
    rejected: int = 0
    unproven: Path | None = None
    clock: Clock | None = None
    _lookout: Lookout | None = None
    _steered: float = 1.0
    _validated: int = -1
    _micro_began: float = 0.0

    def run(self) -> bool:
        """Train until the last step or a stop, and leave a checkpoint of it. True if all steps are taken."""
        session, settings = self.session, self.profile
        session.phase("train", self.step)
        with (
            Lookout(session.run.path, uuid_of(self.device)) as self._lookout,
            Windows(self.objective, self.batches, self.device, settings.train.accumulate) as windows,
        ):
            while True:
                session.poll(now=True)
                self._wait_while_paused()
                self._steer()
                complete = self.step >= settings.train.steps
                self._save_if_due(ending=complete or bool(session.stopping))
                if not session.stopping:
                    self._validate_if_due(ending=complete)
                if complete or session.stopping:
                    return complete
                self._preview_if_due()
                self._tell_of_compiling()  # of the rehearsal, or of the last step
                self._tell_of_machine()
                try:
                    self._take_step(windows)
                except StopRequested:
                    continue  # the window is discarded; a resume draws its samples again

    def _tell_of_compiling(self) -> None:
        if self.clock and (seconds := self.clock.take()):
            self.session.emit(events.Compiled(seconds=seconds))

    def _tell_of_machine(self) -> None:
        if self._lookout and (machine := self._lookout.due()):
            self.session.emit(machine)

    def save(self) -> None:
        """A complete checkpoint of this step. What the disk refuses is a warning while the run can go on."""
        session, step = self.session, self.step
        session.phase("save", step)
        try:
            state = msgspec.structs.replace(self.state, step=step, losses=self.pace.losses)
            path, size, seconds = checkpoint.save(session.run.checkpoints, state, self.plan)
        except checkpoint.NotFiniteError as error:
            raise RunError("not-finite", f"step {step} is not saved: {error}", self._way_back()) from error
        except OSError as error:
            remedy = "Make room; then `aozora-tui save` tries again. The older checkpoint is untouched."
            if session.stopping or step >= self.profile.train.steps:
                raise RunError("checkpoint-failed", f"step {step} could not be saved: {error}", remedy) from error
            session.warn("checkpoint-failed", f"step {step} could not be saved: {error}", remedy)
        else:
            self.saved = step
            relative = str(path.relative_to(session.run.path))
            session.emit(events.Saved(kind="checkpoint", step=step, path=relative, bytes=size, seconds=seconds))
            self.unproven = path
            if step >= self.profile.train.steps:
                self._prune()
        session.phase("train", step)

    def _prune(self) -> None:
        """Not before the weights just saved have given a sound gradient: they may be what is wrong."""
        newest, self.unproven = self.unproven, None
        if newest is None:
            return
        try:
            checkpoint.prune(self.session.run.checkpoints, newest, self.profile.save.keep)
        except OSError as error:
            text = f"old checkpoints could not be removed: {error}"
            self.session.warn("prune-failed", text, "Remove them yourself; the new one is complete.")

    def _way_back(self) -> str:
        last = f"The last checkpoint is of step {self.saved}. " if self.saved else ""
        return f"{last}Lower optimizer.learning_rate in the run's profile.toml and resume it."

    def _save_if_due(self, *, ending: bool) -> None:
        asked, self.session.save_requested = self.session.save_requested, False
        comes = due(self.step, self.profile.save.every) and not self.rejected
        if self.step > self.saved and (ending or asked or comes):
            self.save()
        elif asked:
            text = f"step {self.step} is saved already" if self.step else "no step is complete yet"
            self.session.emit(events.Refused(command="save", text=text))

    def _keep_what_is_learnt(self) -> None:
        """Before a failure that left the weights of the last step intact. A disk that refuses has said so."""
        if self.step > self.saved:
            with contextlib.suppress(RunError):
                self.save()

    def _take_step(self, windows: Windows) -> None:
        began = time.monotonic()
        self._micro_began = began
        try:
            window, gradient = self._gradient(windows)
        except (CacheError, RunError, MemoryError, torch.OutOfMemoryError):
            self._keep_what_is_learnt()
            raise
        if not gradient.sound:
            self._reject(gradient, window.names)
            return
        # The host's clock is right for a card as well, whose work is only queued: a gradient is known by its losses and
        # its norm, an update by its ratios, and each of these reads waits until the card has come so far.
        learnt, starved = time.monotonic(), window.starved()
        self._prune()
        loss = statistics.fmean(gradient.losses)
        damping = self._damping(loss)
        written = self._update(damping)
        lr = self.pace.lr(self.step)
        self.pace.note(loss)
        self.step += 1
        self.rejected = 0
        ended = time.monotonic()
        spent = {"data": starved, "learn": max(0.0, learnt - began - starved), "update": ended - learnt}
        self._report(gradient, window, lr=lr, written=written, spent=spent, seconds=ended - began)

    def _gradient(self, windows: Windows) -> tuple[Window, WindowGradient]:
        """Where memory does not suffice, the window is drawn again as soon as the plan needs less."""
        self.plan.rest(self.pace.resting(self.step))
        while True:
            window = windows.window(self.step)
            try:
                return window, self.plan.gradient(window.judged(), self._sign_of_life)
            except torch.OutOfMemoryError as error:
                full = str(error)
            if not make_room(self.session, self.plan):
                raise torch.OutOfMemoryError(full)

    def _update(self, damping: float) -> Written:
        clip = self.profile.train.max_grad_norm
        try:
            return self.plan.update(self.pace.rates(self.step), max_grad_norm=clip, damping=damping)
        except FloatingPointError as error:
            raise RunError("not-finite", f"step {self.step + 1}: {error}", self._way_back()) from error

    def _steer(self) -> None:
        """Obey a commanded rate, and say which factor holds when another begins to, also in a resumed run."""
        asked, self.session.rate_requested = self.session.rate_requested, None
        if asked is not None:
            try:
                self.pace.steering.steer(self.step, asked)
            except OSError as error:
                text = f"the rate could not be noted, so it stays: {error}"
                self.session.emit(events.Refused(command="lr", text=text))
                asked = None
        factor = self.pace.steering.factor(self.step)
        if asked is not None or factor != self._steered:
            self.session.emit(events.Steered(step=self.step, factor=factor))
        self._steered = factor

    def _damping(self, loss: float) -> float:
        """What the step's gradient is scaled with."""
        damping = self.pace.damping(loss)
        if damping is None:
            return 1.0
        self.session.emit(events.Damped(step=self.step + 1, loss=loss, limit=damping.limit, factor=damping.factor))
        return damping.factor

    def _reject(self, gradient: WindowGradient, names: list[str]) -> None:
        """Nothing was written. The window's samples are passed over, or the same ones would be drawn for ever."""
        bad = [name for name, loss in zip(names, gradient.losses, strict=True) if not _is_finite(loss)]
        huge = _is_finite(gradient.grad_norm)
        reason = "a loss is not finite" if bad else f"the gradient is {'too large' if huge else 'not finite'}"
        self.step += 1
        self.rejected += 1
        self.session.emit(events.Skipped(step=self.step, reason=reason, names=tuple((bad or names)[:SAMPLES_LISTED])))
        if self.rejected >= self.profile.train.max_skipped:
            text = f"{self.rejected} steps in a row gave no sound gradient ({reason})"
            raise RunError("not-finite", text, self._way_back())

    def _report(
        self,
        gradient: WindowGradient,
        window: Window,
        *,
        lr: float,
        written: Written,
        spent: dict[str, float],
        seconds: float,
    ) -> None:
        listed = len(gradient.losses) <= SAMPLES_LISTED
        memory = (0, 0)
        if self.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self.device), torch.cuda.memory_reserved(self.device)
        step = events.Step(
            step=self.step,
            loss=statistics.fmean(gradient.losses),
            lr=lr,
            grad_norm=gradient.grad_norm,
            clipped=written.clipped,
            seconds=seconds / self.profile.train.accumulate,
            samples_per_second=len(gradient.losses) / seconds,
            memory_peak=memory[0],
            memory_reserved=memory[1],
            timesteps=tuple(window.timesteps) if listed else (),
            losses=tuple(float(f"{loss:.5g}") for loss in gradient.losses) if listed else (),
            updates={group: float(f"{ratio:.3g}") for group, ratio in written.ratios.items()},
            spent={part: float(f"{each:.4g}") for part, each in spent.items()},
        )
        self.session.emit(events.fitting(step))

    def _sign_of_life(self, micro: int, losses: Tensor) -> None:
        """After each micro-batch: obey a stop, and at most twice a second read a loss from the device."""
        self.session.check()
        self._tell_of_machine()
        now = time.monotonic()
        seconds, self._micro_began = now - self._micro_began, now
        if self.session.may_report():
            loss = float(losses.mean())
            if _is_finite(loss):
                self.session.emit(events.Micro(step=self.step + 1, micro=micro + 1, loss=loss, seconds=seconds))

    def _validate_if_due(self, *, ending: bool) -> None:
        """At the start it is the base that is measured. Not twice after the same step, as of a pause."""
        settings = self.profile.validation
        comes = ending or self.step == 0 or due(self.step, settings.every)
        if settings.pictures and comes and self.step != self._validated:
            self._validated = self.step
            with contextlib.suppress(StopRequested):
                self.validate(self.step)
                self.session.phase("train", self.step)

    def _preview_if_due(self) -> None:
        settings = self.profile.preview
        asked, self.session.sample_requested = self.session.sample_requested, False
        if not settings.prompts:
            if asked:
                text = "the profile has no preview.prompts"
                self.session.emit(events.Refused(command="sample", text=text))
            return
        start = self.step == 0 and settings.at_start
        if asked or start or (self.step > 0 and due(self.step, settings.every)):
            with contextlib.suppress(StopRequested):
                self.draw(self.step)
                self.session.phase("train", self.step)

    def _wait_while_paused(self) -> None:
        session = self.session
        if not session.paused or session.stopping:
            return
        session.emit(events.Paused(step=self.step))
        while session.paused and not session.should_stop():
            self._steer()
            if session.save_requested or session.sample_requested:
                self._save_if_due(ending=False)
                if session.sample_requested:
                    self._preview_if_due()
                session.emit(events.Paused(step=self.step))
            time.sleep(PAUSE_SECONDS)
        session.emit(events.Unpaused(step=self.step))


def due(step: int, every: int) -> bool:
    """Whether something that happens every `every` steps (0: never) happens after `step`."""
    return every > 0 and step % every == 0


def _is_finite(value: float) -> bool:
    return value - value == 0.0
