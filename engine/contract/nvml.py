"""What the NVIDIA driver says about each card, through NVML. What it cannot answer is None, never an exception."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from engine.contract.nvml_reading import Process as Process
from engine.contract.nvml_reading import Reading as Reading

SLOW_SECONDS = 5.0  # what hardly changes, or takes long to ask, is asked for this seldom; a failed start is retried
BROKEN_STARTS = {
    "NVMLError_LibraryNotFound": "No NVIDIA driver was found (libnvidia-ml.so.1 is missing): install the driver, or "
    "start the container with GPU access.",
    "NVMLError_DriverNotLoaded": "The NVIDIA driver is installed but not loaded: `sudo modprobe nvidia`, or reboot.",
    "NVMLError_LibRmVersionMismatch": "The NVIDIA driver was updated while it was loaded, and its library no longer "
    "matches the kernel module: reboot.",
    "NVMLError_NoPermission": "The NVIDIA driver refuses access: check the permissions of /dev/nvidia*.",
}
NO_PACKAGE = "The package nvidia-ml-py, which reads the GPU, is missing: install it with `pip install nvidia-ml-py`."
NO_CARD = "The NVIDIA driver runs but shows no GPU: check `nvidia-smi -L`, and the container's GPU access if in one."
# Bits of the reasons for a clock below its maximum, the same in every driver: by software or hardware. An idle card,
# clocks that a person set, and a display that wants them are no throttling; in synchronous boost a group of cards runs
# as fast as its slowest.
THROTTLES = {"thermal": 0x20 | 0x40, "power": 0x04 | 0x80, "hardware": 0x08, "sync": 0x10}
KIB = 1024
# What a driver's answer in an unknown form, or a binding of another version, can make ctypes and the binding raise.
BINDING_ERRORS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def _pynvml() -> Any:
    import pynvml

    return pynvml


class Gpus:
    """A connection to NVML, opened at the first question and reopened every few seconds while it cannot be."""

    def __init__(self, load: Callable[[], Any] = _pynvml, clock: Callable[[], float] = time.monotonic) -> None:
        self._load, self._clock = load, clock
        self._nvml: Any = None
        self._problem: str | None = None
        self._tried_at: float | None = None
        self._slow: dict[int, tuple[float, dict[str, Any]]] = {}
        self._names: dict[int, str | None] = {}

    def read_all(self, pid: int | None = None) -> tuple[Reading, ...]:
        """One reading a card, with the bytes that process `pid` holds on it if given; empty if `why_not` says why."""
        self._open()
        handles = ((index, self._ask("nvmlDeviceGetHandleByIndex", index)) for index in range(self._count()))
        return tuple(self._read(index, handle, pid) for index, handle in handles if handle is not None)

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
        except (self._nvml.NVMLError, self._nvml.NVMLLibraryMismatchError, UnicodeDecodeError):
            return None

    def _count(self) -> int:
        return 0 if self._nvml is None else self._ask("nvmlDeviceGetCount") or 0

    def _read(self, index: int, handle: Any, pid: int | None) -> Reading:
        ask, nvml = self._ask, self._nvml
        # The first version of the memory query: every driver has it, and its `free` is what can still be allocated.
        memory = ask("nvmlDeviceGetMemoryInfo", handle)
        utilisation = ask("nvmlDeviceGetUtilizationRates", handle)
        processes = self._processes(handle)
        return Reading(
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

    def _slow_fields(self, index: int, handle: Any) -> dict[str, Any]:
        now = self._clock()
        at, known = self._slow.get(index, (0.0, None))
        if known is None or now - at >= SLOW_SECONDS:
            known = {**self._identity(handle), **self._state(handle), **self._pcie(handle)}
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
        """The driver counts for 20 ms to answer each of the last two."""
        ask, nvml = self._ask, self._nvml
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
        found = self._ask("nvmlDeviceGetComputeRunningProcesses", handle)
        if found is None:
            return None
        return tuple(Process(each.pid, each.usedGpuMemory, self._name_of(each.pid)) for each in found)

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


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sampler saw at `at`, by its clock; `why_not` is a sentence if it saw nothing."""

    at: float
    readings: tuple[Reading, ...]
    why_not: str | None


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
        gpus: Gpus | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.period = period
        self._pid, self._uuid, self._clock = pid, uuid, clock
        self._gpus = gpus or Gpus()
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
            self._latest = self._sample()
            self._seen.set()
            self._stop.wait(self.period)

    def _goes_on(self) -> bool:
        with self._lock:
            if self._stop.is_set():
                self._thread = None
                return False
            return True

    def _sample(self) -> Sample:
        try:
            if self._uuid is None:
                readings = self._gpus.read_all(self._pid)
            else:
                reading = self._gpus.read(self._uuid, self._pid)
                readings = () if reading is None else (reading,)
            why_not = None if readings else self._gpus.why_not()
        except BINDING_ERRORS as error:
            why = f"The NVIDIA driver's answer cannot be read ({type(error).__name__}: {error})."
            return Sample(self._clock(), (), why)
        if not readings and why_not is None:
            why_not = "The NVIDIA driver no longer shows this card: see what `nvidia-smi` says."
        return Sample(self._clock(), readings, why_not)


_gpus = Gpus()


def read_all(pid: int | None = None) -> tuple[Reading, ...]:
    """`Gpus.read_all` on the connection that this process shares."""
    return _gpus.read_all(pid)


def why_not() -> str | None:
    """`Gpus.why_not` on the connection that this process shares."""
    return _gpus.why_not()
