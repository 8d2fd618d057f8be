"""What the cards' driver says, asked in the background: whoever looks never waits for a slow one. No Textual."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.contract.nvml import Gpus, Reading
from engine.contract.nvml_sampler import Sample, sample
from engine.contract.nvml_words import NO_CARD

LEAST_SECONDS = 0.25  # between two questions
PATIENCE = 2.0  # seconds that a thread which needs an answer waits for it
STALE = 10.0  # seconds after which an answer is none any more


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest answer, taken at `at` by the watch's clock, None before the first; `silent` seconds that the driver
    has been owing another one; `why_not` is a sentence if there are no readings."""

    at: float | None = None
    readings: tuple[Reading, ...] = ()
    why_not: str | None = None
    silent: float = 0.0


class CardWatch:
    """Each look asks the driver once more, in a thread that sleeps when nobody looks. While the driver hangs no second
    question is sent after the first."""

    def __init__(self, gpus: Gpus | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._gpus, self._clock = gpus or Gpus(), clock
        self._latest: Sample | None = None
        self._asked: float | None = None  # while an answer is owed
        self._wanted = threading.Semaphore(0)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def look(self) -> Seen:
        """What is known, at once; the answer to the question asked now comes with a later look."""
        now = self._clock()
        with self._changed:
            latest = self._latest
            owed = None if self._asked is None else now - self._asked
            if owed is None and (latest is None or now - latest.at >= LEAST_SECONDS):
                self._ask(now)
        if latest is None:
            return Seen(silent=owed or 0.0)
        return Seen(latest.at, latest.readings, latest.why_not, owed or 0.0)

    def wait(self, seconds: float) -> bool:
        """Until nothing is owed; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._asked is None, seconds)

    def readings(self, pid: int | None) -> tuple[Reading, ...]:
        """With the bytes that process `pid` holds, at once. Without one, for a thread: as they are now, if the driver
        answers in time. An old answer is none."""
        seen = self.look()
        if pid is None and self.wait(PATIENCE):
            seen = self.look()
        if seen.at is None or self._clock() - seen.at > STALE:
            return ()
        return seen.readings if pid is None else tuple(with_run(reading, pid) for reading in seen.readings)

    def _ask(self, now: float) -> None:
        self._asked = now
        if self._thread is None:
            self._thread = threading.Thread(target=self._answer, name="cards", daemon=True)
            self._thread.start()
        self._wanted.release()

    def _answer(self) -> None:
        while self._wanted.acquire():
            found = sample(self._gpus, clock=self._clock)
            with self._changed:
                self._latest, self._asked = found, None
                self._changed.notify_all()


def with_run(reading: Reading, pid: int) -> Reading:
    """With the bytes that process `pid` holds there; None if the driver knows no such process, as in a container."""
    held = [each.bytes for each in reading.processes or () if each.pid == pid and each.bytes is not None]
    return replace(reading, run_memory=sum(held) if held else None)


class Told:
    """The same of a function that is asked at once, for whoever knows the readings otherwise."""

    def __init__(self, read: Callable[[int | None], tuple[Reading, ...]]) -> None:
        self.readings = read
        self._looks = 0

    def look(self) -> Seen:
        """Each look is a second later than the one before."""
        self._looks += 1
        found = self.readings(None)
        return Seen(float(self._looks), found, None if found else NO_CARD)
