"""What is known of a card at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """Somebody who computes or draws on the card. In a container `pid` is the host's, and the name is often unknown."""

    pid: int
    bytes: int | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a card that is divided (MIG), which programs use as a card of its own."""

    index: int
    name: str | None
    uuid: str | None
    memory_used: int | None = None  # bytes
    memory_total: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One card at one moment. None: the driver does not say (unified-memory devices: no memory; laptops: no cap)."""

    index: int  # NVML's, not CUDA's: CUDA_VISIBLE_DEVICES renumbers, so match cards by uuid
    name: str | None = None
    uuid: str | None = None
    driver_version: str | None = None
    memory_used: int | None = None  # bytes
    memory_total: int | None = None
    memory_free: int | None = None
    run_memory: int | None = None  # bytes held by the process asked for; None too if the driver knows no such process
    processes: tuple[Process, ...] | None = None  # who computes there
    utilisation: int | None = None  # percent of the last sample period in which a kernel ran
    memory_utilisation: int | None = None  # percent of it in which memory was read or written
    power: float | None = None  # W
    power_limit: float | None = None  # W, as enforced now
    temperature: int | None = None  # degrees Celsius
    slowdown_temperature: int | None = None  # at which the hardware slows itself down
    sm_clock: int | None = None  # MHz
    sm_clock_max: int | None = None
    memory_clock: int | None = None
    memory_clock_max: int | None = None
    throttled: tuple[str, ...] | None = None  # "thermal", "power", "hardware", "sync": what slows it down
    fan: int | None = None  # percent; None for cards without one
    performance_state: int | None = None  # 0 is the fastest, 15 the slowest
    pcie_generation: int | None = None  # a card at rest lowers it
    pcie_generation_max: int | None = None
    pcie_width: int | None = None  # lanes
    pcie_width_max: int | None = None
    pcie_received: int | None = None  # bytes a second, over 20 ms
    pcie_sent: int | None = None
    slices: tuple[Slice, ...] | None = None  # None: the card is whole
