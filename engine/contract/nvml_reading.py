"""What is known of a card at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """Somebody who computes on the card. In a container `pid` is the host's, and the name is often unknown."""

    pid: int
    bytes: int | None
    name: str | None


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
    processes: tuple[Process, ...] | None  # who computes there
    utilisation: int | None  # percent of the last sample period in which a kernel ran
    memory_utilisation: int | None  # percent of it in which memory was read or written
    power: float | None  # W
    power_limit: float | None  # W, as enforced now
    temperature: int | None  # degrees Celsius
    slowdown_temperature: int | None  # at which the hardware slows itself down
    sm_clock: int | None  # MHz
    sm_clock_max: int | None
    memory_clock: int | None
    memory_clock_max: int | None
    throttled: tuple[str, ...] | None  # "thermal", "power", "hardware", "sync": what slows it down
    fan: int | None  # percent; None for cards without one
    performance_state: int | None  # 0 is the fastest, 15 the slowest
    pcie_generation: int | None  # a card at rest lowers it
    pcie_generation_max: int | None
    pcie_width: int | None  # lanes
    pcie_width_max: int | None
    pcie_received: int | None  # bytes a second, over 20 ms
    pcie_sent: int | None
