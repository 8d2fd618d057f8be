"""What the NVIDIA driver says about each card, through NVML. What it cannot answer is None, never an exception."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SLOW_SECONDS = 5.0  # names, limits and temperature are asked for this seldom, and a failed start is retried
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


@dataclass(frozen=True, slots=True)
class Reading:
    """One card at one moment. None: the driver does not say (unified-memory devices: no memory; laptops: no cap)."""

    index: int  # NVML's, not CUDA's: CUDA_VISIBLE_DEVICES renumbers, so match cards by uuid
    name: str | None
    uuid: str | None
    driver_version: str | None
    memory_used: int | None  # bytes
    memory_total: int | None
    memory_free: int | None
    run_memory: int | None  # bytes held by the process asked for; None too if the driver knows no such process
    utilisation: int | None  # percent of the last sample period in which a kernel ran
    power: float | None  # W
    power_limit: float | None  # W, as enforced now
    temperature: int | None  # degrees Celsius


@dataclass(frozen=True, slots=True)
class _Slow:
    """The fields that hardly change, and when they were asked for."""

    at: float
    name: str | None
    uuid: str | None
    driver_version: str | None
    power_limit: float | None
    temperature: int | None


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
        self._slow: dict[int, _Slow] = {}

    def read_all(self, pid: int | None = None) -> tuple[Reading, ...]:
        """One reading a card, with the bytes that process `pid` holds on it if given; empty if `why_not` says why."""
        self._open()
        handles = ((index, self._ask("nvmlDeviceGetHandleByIndex", index)) for index in range(self._count()))
        return tuple(self._read(index, handle, pid) for index, handle in handles if handle is not None)

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
        """NVML's answer, None for any error of its own: not supported, no permission, card lost, library too old."""
        try:
            return getattr(self._nvml, question)(*arguments)
        except (self._nvml.NVMLError, self._nvml.NVMLLibraryMismatchError):
            return None

    def _count(self) -> int:
        return 0 if self._nvml is None else self._ask("nvmlDeviceGetCount") or 0

    def _read(self, index: int, handle: Any, pid: int | None) -> Reading:
        # The first version of the memory query: every driver has it, and its `free` is what can still be allocated.
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        utilisation = self._ask("nvmlDeviceGetUtilizationRates", handle)
        slow = self._slow_fields(index, handle)
        return Reading(
            index=index,
            name=slow.name,
            uuid=slow.uuid,
            driver_version=slow.driver_version,
            memory_used=None if memory is None else int(memory.used),
            memory_total=None if memory is None else int(memory.total),
            memory_free=None if memory is None else int(memory.free),
            run_memory=None if pid is None else self._memory_of(handle, pid),
            utilisation=None if utilisation is None else int(utilisation.gpu),
            power=_watts(self._ask("nvmlDeviceGetPowerUsage", handle)),
            power_limit=slow.power_limit,
            temperature=slow.temperature,
        )

    def _slow_fields(self, index: int, handle: Any) -> _Slow:
        now = self._clock()
        known = self._slow.get(index)
        if known is None or now - known.at >= SLOW_SECONDS:
            known = self._slow[index] = _Slow(
                at=now,
                name=_text(self._ask("nvmlDeviceGetName", handle)),
                uuid=_text(self._ask("nvmlDeviceGetUUID", handle)),
                driver_version=_text(self._ask("nvmlSystemGetDriverVersion")),
                power_limit=_watts(self._ask("nvmlDeviceGetEnforcedPowerLimit", handle)),
                temperature=self._ask("nvmlDeviceGetTemperature", handle, self._nvml.NVML_TEMPERATURE_GPU),
            )
        return known

    def _memory_of(self, handle: Any, pid: int) -> int | None:
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses", handle) or ()
        # In a container NVML names the host's process ids, so an unknown id means "cannot tell", not "nothing".
        held = [process.usedGpuMemory for process in processes if process.pid == pid]
        known = [amount for amount in held if amount is not None]
        return sum(known) if known else None


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _text(answer: str | bytes | None) -> str | None:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer


_gpus = Gpus()


def read_all(pid: int | None = None) -> tuple[Reading, ...]:
    """`Gpus.read_all` on the connection that this process shares."""
    return _gpus.read_all(pid)


def why_not() -> str | None:
    """`Gpus.why_not` on the connection that this process shares."""
    return _gpus.why_not()
