"""The box while it trains: what its card's driver, the kernel and the disk say, told now and then."""

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch

from engine.contract import events
from engine.contract.nvml_reading import Reading
from engine.contract.nvml_sampler import Sampler

EVERY = 30.0  # seconds between two events
PERIOD = 10.0  # between two questions to the driver
STALE = 3 * PERIOD  # older than that is no answer: the driver hangs
FIRST_ANSWER = 2.0  # a driver that takes longer to load is not waited for


class Lookout:
    """The card that the run trains on is asked in a thread of its own while the `with` block lasts: a driver that hangs
    costs figures and never a step. `folder` is the run's."""

    def __init__(
        self,
        folder: Path,
        uuid: str,
        *,
        sampler: Sampler | None = None,
        clock: Callable[[], float] = time.monotonic,
        proc: Path = Path("/proc"),
    ) -> None:
        self._folder, self._uuid, self._proc = folder, uuid, proc
        self._sampler = sampler or (Sampler(PERIOD, uuid=uuid, clock=clock) if uuid else None)
        self._clock = clock
        self._told: float | None = None

    def __enter__(self) -> Self:
        if self._sampler:
            self._sampler.start()
            self._sampler.wait(FIRST_ANSWER)
        return self

    def __exit__(self, *_: object) -> None:
        if self._sampler:
            self._sampler.stop()

    def due(self) -> events.Machine | None:
        """What to tell, at the first call and then at most every 30 s. Takes microseconds."""
        now = self._clock()
        if self._told is not None and now - self._told < EVERY:
            return None
        self._told = now
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError:  # a disk that is gone: nothing of this could be written either
            return None
        card = self._reading(now)
        used, total = _host_memory(self._proc)
        return events.Machine(
            card=self._uuid,
            card_used=card.memory_used or 0 if card else 0,
            card_total=card.memory_total or 0 if card else 0,
            utilisation=card.utilisation if card else None,
            power=card.power if card else None,
            power_limit=card.power_limit if card else None,
            temperature=card.temperature if card else None,
            temperature_limit=card.slowdown_temperature if card else None,
            throttled=card.throttled or () if card else (),
            run_memory=_resident(self._proc),
            host_used=used,
            host_total=total,
            disk_free=free,
        )

    def _reading(self, now: float) -> Reading | None:
        sample = self._sampler.latest if self._sampler else None
        if sample is None or now - sample.at > STALE or not sample.readings:
            return None
        return sample.readings[0]


def uuid_of(device: torch.device) -> str:
    """As NVML writes it; "" for a processor, and for a card that torch knows no uuid of."""
    if device.type != "cuda":
        return ""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return f"GPU-{uuid}" if uuid is not None else ""


def _resident(proc: Path) -> int:
    """Bytes of this process that are in memory; 0 where nothing tells."""
    pages = _text(proc / "self" / "statm").split()[1:2]
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages and pages[0].isdecimal() else 0


def _host_memory(proc: Path) -> tuple[int, int]:
    """Bytes that are used and cannot be given up at once, and all there are; 0 where nothing tells."""
    kib = dict(re.findall(r"^(MemTotal|MemAvailable):\s+([0-9]{1,18}) kB", _text(proc / "meminfo"), re.MULTILINE))
    if len(kib) < 2:
        return 0, 0
    total = int(kib["MemTotal"]) * 1024
    return total - int(kib["MemAvailable"]) * 1024, total


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
