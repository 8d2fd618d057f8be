"""A step's micro-batches on their way from the cache to the plan."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.data.batches import Batch, Batches
from engine.data.prefetch import Prefetch
from engine.memory.plan import Judged, MicroBatch
from engine.objective.objective import Objective, Question
from engine.run.conditions import on_device


class Standstill:
    """How long nothing could be computed while the host waited.

    On a processor that is the host's own clock. A card may still be busy with what was queued before, and then the wait
    costs nothing: it passes a mark set before the wait when it has done all that, one set after it when both are over,
    and its own clock tells the time between them.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds = 0.0
        self._marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        if self._device.type == "cuda":
            before, behind = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            before.record()
            yield
            behind.record()
            self._marks.append((before, behind))
            return
        began = time.monotonic()
        yield
        self._seconds += time.monotonic() - began

    def seconds(self) -> float:
        """In all. On a card to be asked when the work that followed is done, or it is waited for."""
        return self._seconds + sum(map(_between, self._marks)) / 1e3


def _between(marks: tuple[torch.cuda.Event, torch.cuda.Event]) -> float:
    """Milliseconds."""
    before, behind = marks
    behind.synchronize()
    return float(before.elapsed_time(behind))


class Window:
    """`names` and `timesteps` of the samples fill up as they are drawn."""

    def __init__(self, loaded: Iterator[Batch], objective: Objective, device: torch.device, accumulate: int) -> None:
        self._loaded = loaded
        self._objective = objective
        self._device = device
        self._accumulate = accumulate
        self._standstill = Standstill(device)
        self.names: list[str] = []
        self.timesteps: list[int] = []

    def starved(self) -> float:
        """Seconds in which nothing could be computed for want of data, when the window's gradient is known."""
        return self._standstill.seconds()

    def judged(self) -> Iterator[Judged]:
        """Raises CacheError."""
        for _ in range(self._accumulate):
            with self._standstill.waiting():
                batch = next(self._loaded)
            question, judged = judge(self._objective, batch, self._device)
            self.names += batch.names
            self.timesteps += question.timesteps.tolist()
            yield judged


class Windows:
    """Window by window out of the prefetched stream. A window that was given up is loaded again."""

    def __init__(self, objective: Objective, batches: Batches, device: torch.device, accumulate: int) -> None:
        self._objective = objective
        self._batches = batches
        self._device = device
        self._accumulate = accumulate
        self._stream: Prefetch[Batch] | None = None
        self._next = -1

    def window(self, step: int) -> Window:
        """The micro-batches of `step`: number `step` x accumulation and on."""
        if self._stream is None or step != self._next:
            self.close()
            self._stream = self._batches.prefetch(step * self._accumulate)
        self._next = step + 1
        return Window(self._stream, self._objective, self._device, self._accumulate)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> "Windows":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def judge(objective: Objective, batch: Batch, device: torch.device) -> tuple[Question, Judged]:
    """A batch out of the cache, noised, on the device, and ready for a plan. Waits for no card if it is page-locked."""
    question = objective.ask(batch.latents.to(device, non_blocking=True), batch.positions)
    micro = MicroBatch(
        noisy_latents=question.noisy_latents,
        network_time=question.network_time,
        condition=on_device(batch.condition, device),
        time_ids=batch.time_ids.to(device, non_blocking=True),
    )
    return question, Judged(micro, question.losses)
