"""What the NVIDIA driver says about each card, through NVML. What it cannot answer is None, never an exception."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from engine.contract.nvml_reading import Process as Process
from engine.contract.nvml_reading import Reading as Reading
from engine.contract.nvml_reading import Slice
from engine.contract.nvml_words import BROKEN_STARTS as BROKEN_STARTS
from engine.contract.nvml_words import NO_CARD, NO_PACKAGE

SLOW_SECONDS = 5.0  # what hardly changes, or takes long to ask, is asked for this seldom; a failed start is retried
# Bits of the reasons for a clock below its maximum, the same in every driver: by software or hardware. An idle card,
# clocks that a person set, and a display that wants them are no throttling; in synchronous boost a group of cards runs
# as fast as its slowest.
THROTTLES = {"thermal": 0x20 | 0x40, "power": 0x04 | 0x80, "hardware": 0x08, "sync": 0x10}
KIB = 1024


def _pynvml() -> Any:
    import pynvml

    return pynvml


class Gpus:
    """A connection to NVML, opened at the first question and reopened every few seconds while it cannot be. What goes
    over the bus is left out unless `throughput`: the driver counts it for 40 ms a card."""

    def __init__(
        self,
        load: Callable[[], Any] = _pynvml,
        clock: Callable[[], float] = time.monotonic,
        *,
        throughput: bool = True,
    ) -> None:
        self._load, self._clock, self._throughput = load, clock, throughput
        self._lost = False
        self._nvml: Any = None
        self._problem: str | None = None
        self._tried_at: float | None = None
        self._slow: dict[int, tuple[float, dict[str, Any]]] = {}
        self._names: dict[int, str | None] = {}

    def read_all(self, pid: int | None = None) -> tuple[Reading, ...]:
        """One reading a card, with the bytes that process `pid` holds on it if given; empty if `why_not` says why. A
        card that fell off the bus is left out."""
        self._open()
        handles = ((index, self._ask("nvmlDeviceGetHandleByIndex", index)) for index in range(self._count()))
        read = (self._read(index, handle, pid) for index, handle in handles if handle is not None)
        return tuple(reading for reading in read if reading is not None)

    def read(self, uuid: str, pid: int | None = None) -> Reading | None:
        """Of one card alone, with the others left in peace; None if the driver shows none of that uuid."""
        self._open()
        if self._nvml is None:
            return None
        handle = self._ask("nvmlDeviceGetHandleByUUID", uuid)
        index = None if handle is None else self._ask("nvmlDeviceGetIndex", handle)
        return None if index is None else self._read(index, handle, pid)

    def why_not(self) -> str | None:
        """A sentence that says why there are no readings and what to do; None if there are some."""
        self._open()
        if self._problem is not None:
            return self._problem
        return None if self._count() else NO_CARD

    def _open(self) -> None:
        now = self._clock()
        if self._nvml is not None or (self._tried_at is not None and now - self._tried_at < SLOW_SECONDS):
            return
        self._tried_at = now
        try:
            nvml = self._load()
        except ImportError:
            self._problem = NO_PACKAGE
            return
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            unknown = f"The NVIDIA driver does not answer ({error}): see what `nvidia-smi` says."
            self._problem = BROKEN_STARTS.get(type(error).__name__, unknown)
            return
        self._nvml, self._problem = nvml, None

    def _ask(self, question: str, *arguments: Any) -> Any:
        """NVML's answer, None for any error of its own: not supported, no permission, card lost, library too old, or a
        name in no encoding."""
        try:
            return getattr(self._nvml, question)(*arguments)
        except self._nvml.NVMLError as error:
            self._lost = self._lost or type(error).__name__ == "NVMLError_GpuIsLost"
            return None
        except (self._nvml.NVMLLibraryMismatchError, UnicodeDecodeError):
            return None

    def _count(self) -> int:
        return 0 if self._nvml is None else self._ask("nvmlDeviceGetCount") or 0

    def _read(self, index: int, handle: Any, pid: int | None) -> Reading | None:
        """None if the card was lost, which any question may find out."""
        ask, nvml = self._ask, self._nvml
        self._lost = False
        # The first version of the memory query: every driver has it, and its `free` is what can still be allocated.
        memory = ask("nvmlDeviceGetMemoryInfo", handle)
        utilisation = ask("nvmlDeviceGetUtilizationRates", handle)
        processes = self._processes(handle)
        reading = Reading(
            index=index,
            memory_used=None if memory is None else int(memory.used),
            memory_total=None if memory is None else int(memory.total),
            memory_free=None if memory is None else int(memory.free),
            run_memory=None if pid is None else _held_by(pid, processes or ()),
            processes=processes,
            utilisation=None if utilisation is None else int(utilisation.gpu),
            memory_utilisation=None if utilisation is None else int(utilisation.memory),
            power=_watts(ask("nvmlDeviceGetPowerUsage", handle)),
            sm_clock=ask("nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
            memory_clock=ask("nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM),
            throttled=self._throttled(handle),
            **self._slow_fields(index, handle),
        )
        if self._lost:
            self._slow.pop(index, None)
            return None
        return reading

    def _slow_fields(self, index: int, handle: Any) -> dict[str, Any]:
        now = self._clock()
        at, known = self._slow.get(index, (0.0, None))
        if known is None or now - at >= SLOW_SECONDS:
            known = {
                **self._identity(handle),
                **self._state(handle),
                **self._pcie(handle),
                "slices": self._slices(handle),
            }
            self._slow[index] = now, known
        return known

    def _identity(self, handle: Any) -> dict[str, Any]:
        ask, nvml = self._ask, self._nvml
        slowdown = nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        return {
            "name": _text(ask("nvmlDeviceGetName", handle)),
            "uuid": _text(ask("nvmlDeviceGetUUID", handle)),
            "driver_version": _text(ask("nvmlSystemGetDriverVersion")),
            # Drivers that know no threshold have said 0.
            "slowdown_temperature": ask("nvmlDeviceGetTemperatureThreshold", handle, slowdown) or None,
            "sm_clock_max": ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
            "memory_clock_max": ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_MEM),
            "pcie_generation_max": ask("nvmlDeviceGetMaxPcieLinkGeneration", handle),
            "pcie_width_max": ask("nvmlDeviceGetMaxPcieLinkWidth", handle),
        }

    def _state(self, handle: Any) -> dict[str, Any]:
        ask, nvml = self._ask, self._nvml
        state = ask("nvmlDeviceGetPerformanceState", handle)
        return {
            "power_limit": _watts(ask("nvmlDeviceGetEnforcedPowerLimit", handle)),
            "temperature": ask("nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
            "fan": ask("nvmlDeviceGetFanSpeed", handle),
            "performance_state": None if state == nvml.NVML_PSTATE_UNKNOWN else state,
        }

    def _pcie(self, handle: Any) -> dict[str, Any]:
        """The driver counts for 20 ms to answer each of the first two."""
        ask, nvml = self._ask, self._nvml
        received = sent = None
        if self._throughput:
            received = ask("nvmlDeviceGetPcieThroughput", handle, nvml.NVML_PCIE_UTIL_RX_BYTES)
            sent = ask("nvmlDeviceGetPcieThroughput", handle, nvml.NVML_PCIE_UTIL_TX_BYTES)
        return {
            "pcie_generation": ask("nvmlDeviceGetCurrPcieLinkGeneration", handle),
            "pcie_width": ask("nvmlDeviceGetCurrPcieLinkWidth", handle),
            "pcie_received": None if received is None else received * KIB,
            "pcie_sent": None if sent is None else sent * KIB,
        }

    def _throttled(self, handle: Any) -> tuple[str, ...] | None:
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
        if bits is None:  # a driver from before they had that name
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return None if bits is None else tuple(word for word, mask in THROTTLES.items() if bits & mask)

    def _processes(self, handle: Any) -> tuple[Process, ...] | None:
        """Who computes, then who only draws, as a desktop does."""
        computing = self._ask("nvmlDeviceGetComputeRunningProcesses", handle)
        drawing = self._ask("nvmlDeviceGetGraphicsRunningProcesses", handle)
        if computing is None and drawing is None:
            return None
        known = {each.pid for each in computing or ()}
        found = [*(computing or ()), *(each for each in drawing or () if each.pid not in known)]
        return tuple(Process(each.pid, each.usedGpuMemory, self._name_of(each.pid)) for each in found)

    def _slices(self, handle: Any) -> tuple[Slice, ...] | None:
        ask, nvml = self._ask, self._nvml
        mode = ask("nvmlDeviceGetMigMode", handle)
        if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return None
        count = ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0
        parts = ((index, ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)) for index in range(count))
        return tuple(self._slice(index, part) for index, part in parts if part is not None)

    def _slice(self, index: int, part: Any) -> Slice:
        memory = self._ask("nvmlDeviceGetMemoryInfo", part)
        name, uuid = _text(self._ask("nvmlDeviceGetName", part)), _text(self._ask("nvmlDeviceGetUUID", part))
        used, total = (None, None) if memory is None else (int(memory.used), int(memory.total))
        return Slice(index, name, uuid, used, total)

    def _name_of(self, pid: int) -> str | None:
        """Asked for once: it is a file that the driver reads."""
        if pid not in self._names:
            if len(self._names) > 1000:  # processes come and go
                self._names.clear()
            self._names[pid] = _text(self._ask("nvmlSystemGetProcessName", pid))
        return self._names[pid]


def _held_by(pid: int, processes: Iterable[Process]) -> int | None:
    # In a container NVML names the host's process ids, so an unknown id means "cannot tell", not "nothing".
    known = [each.bytes for each in processes if each.pid == pid and each.bytes is not None]
    return sum(known) if known else None


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _text(answer: str | bytes | None) -> str | None:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer


_gpus = Gpus(throughput=False)


def read_all(pid: int | None = None) -> tuple[Reading, ...]:
    """`Gpus.read_all` on the connection that this process shares."""
    return _gpus.read_all(pid)


def why_not() -> str | None:
    """`Gpus.why_not` on the connection that this process shares."""
    return _gpus.why_not()
