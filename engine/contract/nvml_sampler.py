"""What the cards' driver says at one moment, and a thread that asks it again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.contract import nvml
from engine.contract.nvml_reading import Reading
from engine.contract.nvml_words import GONE

# What a driver's answer in an unknown form, or a binding of another version, can make ctypes and the binding raise.
BINDING_ERRORS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sampler saw at `at`, by its clock; `why_not` is a sentence if it saw nothing."""

    at: float
    readings: tuple[Reading, ...]
    why_not: str | None


def sample(
    gpus: nvml.Gpus, *, uuid: str | None = None, pid: int | None = None, clock: Callable[[], float] = time.monotonic
) -> Sample:
    """What the driver says now of every card, or of that with `uuid`. Nothing that it answers is an exception."""
    try:
        if uuid is None:
            readings = gpus.read_all(pid)
        else:
            reading = gpus.read(uuid, pid)
            readings = () if reading is None else (reading,)
        why_not = None if readings else gpus.why_not() or GONE
    except BINDING_ERRORS as error:
        return Sample(clock(), (), f"The NVIDIA driver's answer cannot be read ({type(error).__name__}: {error}).")
    return Sample(clock(), readings, why_not)


class Sampler:
    """Reads the cards in a thread of its own every `period` seconds, for whoever must not wait for a slow driver. A
    driver that hangs leaves `latest` as it is: its age tells. `pid`: whose bytes are told; `uuid`: of one card alone.
    """

    def __init__(
        self,
        period: float,
        *,
        pid: int | None = None,
        uuid: str | None = None,
        gpus: nvml.Gpus | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.period = period
        self._pid, self._uuid, self._clock = pid, uuid, clock
        self._gpus = gpus or nvml.Gpus()
        self._latest: Sample | None = None
        self._seen, self._stop = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def latest(self) -> Sample | None:
        """None until the driver has answered for the first time."""
        return self._latest

    def start(self) -> None:
        """May be called again. While an earlier thread still hangs in the driver no second one is sent after it."""
        with self._lock:
            self._stop.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Does not wait for the thread: it may never come back."""
        self._stop.set()

    def wait(self, seconds: float) -> Sample | None:
        """`latest`, as soon as there is one; None if that takes longer."""
        self._seen.wait(seconds)
        return self._latest

    def _run(self) -> None:
        while self._goes_on():
            self._latest = sample(self._gpus, uuid=self._uuid, pid=self._pid, clock=self._clock)
            self._seen.set()
            self._stop.wait(self.period)

    def _goes_on(self) -> bool:
        with self._lock:
            if self._stop.is_set():
                self._thread = None
                return False
            return True
