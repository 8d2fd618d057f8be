"""A card's readings in words, the same on the screen and on the command line. No Textual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from aozora_tui.text import printable
from engine.contract.nvml_reading import Process, Reading, Slice

ABSENT = "n/a"
GIB = float(1 << 30)
_THROTTLED = {
    "thermal": "heat",
    "power": "its power limit",
    "hardware": "a brake of the hardware",
    "sync": "a slower card that it runs in step with",
}
SILENT = "The NVIDIA driver has not answered for {}: see whether `nvidia-smi` hangs too."
LOST = "This card no longer answers: it fell off the bus, or was taken away. `dmesg | grep -i xid` says why; a reboot "
LOST += "brings it back."


@dataclass(frozen=True, slots=True)
class Split:
    """Whose a card's memory is, in bytes; `ours` is None if nobody knows."""

    ours: int | None
    others: int
    free: int
    total: int

    @property
    def used(self) -> int:
        return (self.ours or 0) + self.others


def split(reading: Reading, ours: int | None) -> Split | None:
    """None where the driver tells no memory."""
    used, total = reading.memory_used, reading.memory_total
    if used is None or not total:
        return None
    mine = None if ours is None else min(ours, used)
    free = reading.memory_free if reading.memory_free is not None else total - used
    return Split(mine, used - (mine or 0), free, total)


def held(reading: Reading, owned: Mapping[int, str], name: str = "") -> int | None:
    """Bytes of the processes that are `owned`, or of those called `name`; None if the driver tells none of them."""
    known = [
        each.bytes
        for each in reading.processes or ()
        if each.bytes is not None and each.pid in owned and name in ("", owned[each.pid])
    ]
    return sum(known) if known else None


def lines(reading: Reading, owned: Mapping[int, str]) -> list[tuple[str, str]]:
    """Everything that is known of a card, as (label, text)."""
    found = [
        ("memory", memory(reading, held(reading, owned))),
        ("utilisation", f"{percent(reading.utilisation)}, its memory {percent(reading.memory_utilisation)}"),
        ("power", of(reading.power, reading.power_limit, "W")),
        ("temperature", temperature(reading)),
        ("clocks", clocks(reading)),
        ("slowed down", slowed(reading)),
        ("fan", percent(reading.fan)),
        ("PCIe", pcie(reading)),
    ]
    if reading.slices is not None:
        found.append(("divided", divided(reading.slices)))
    return [*found, *(("process", process(each, owned)) for each in ordered(reading, owned))]


def memory(reading: Reading, ours: int | None) -> str:
    """`11.0 of 12.0 GiB in use: 7.1 by runs, 3.9 by others; 1.0 free`."""
    parts = split(reading, ours)
    if parts is None:
        return f"{ABSENT}: the driver does not tell; the card may share the host's memory"
    shares = "" if parts.ours is None else f": {gib(parts.ours)} by runs, {gib(parts.others)} by others"
    return f"{gib(parts.used)} of {gib(parts.total)} GiB in use{shares}; {gib(parts.free)} free"


def temperature(reading: Reading) -> str:
    """`71 C, slows itself down at 93`."""
    if reading.temperature is None:
        return ABSENT
    limit = reading.slowdown_temperature
    return f"{reading.temperature} C" + (f", slows itself down at {limit}" if limit is not None else "")


def clocks(reading: Reading) -> str:
    state = "" if reading.performance_state is None else f", state P{reading.performance_state}"
    sm, mem = (
        of(reading.sm_clock, reading.sm_clock_max, "MHz"),
        of(reading.memory_clock, reading.memory_clock_max, "MHz"),
    )
    return f"SM {sm}, memory {mem}{state}"


def slowed(reading: Reading) -> str:
    """`by heat and its power limit`, `no`."""
    if reading.throttled is None:
        return ABSENT
    words = [_THROTTLED.get(word, printable(word)) for word in reading.throttled]
    return f"by {' and '.join(words)}" if words else "no"


def pcie(reading: Reading) -> str:
    """`generation 3 x8 (of 4 x16), 2.0 MiB/s in, 3.0 KiB/s out`; a card at rest lowers its generation."""
    generation, width = reading.pcie_generation, reading.pcie_width
    if generation is None or width is None:
        return ABSENT
    best = reading.pcie_generation_max, reading.pcie_width_max
    most = f" (of {best[0]} x{best[1]})" if None not in best and best != (generation, width) else ""
    came, went = rate(reading.pcie_received), rate(reading.pcie_sent)
    moved = "" if came == went == ABSENT else f", {came} in, {went} out"
    return f"generation {generation} x{width}{most}{moved}"


def divided(slices: Sequence[Slice]) -> str:
    """The parts of a card that MIG has made."""
    if not slices:
        return "by MIG, without a part that could be used: `nvidia-smi mig -lgi` lists them"
    named = []
    for each in slices:
        name = printable(each.name or "").rpartition(" ")[2] or f"part {each.index}"
        known = each.memory_used is not None and each.memory_total is not None
        used = f" {gib(each.memory_used or 0)} of {gib(each.memory_total or 0)} GiB" if known else ""
        named.append(f"{name}{used}")
    return f"by MIG into {', '.join(named)}"


def ordered(reading: Reading, owned: Mapping[int, str]) -> list[Process]:
    """Runs first, then who holds most."""
    return sorted(reading.processes or (), key=lambda each: (each.pid not in owned, -(each.bytes or 0), each.pid))


def process(each: Process, owned: Mapping[int, str]) -> str:
    """`this run  pid 4242  7.1 GiB  python3`."""
    owner = f"{printable(owned[each.pid])}  " if each.pid in owned else ""
    amount = f"{gib(each.bytes)} GiB" if each.bytes is not None else ABSENT
    return f"{owner}pid {each.pid}  {amount}  {program(each)}"


def program(each: Process) -> str:
    """The name of its file; the driver gives its path, sometimes with arguments."""
    if not each.name:
        return "a process of another container or user"
    path = each.name.split(" ", 1)[0]
    return printable(PurePath(path).name or each.name)


def brief(reading: Reading) -> list[str]:
    """For a table of cards: use, memory, power, temperature, what slows it down."""
    parts = split(reading, None)
    slow = slowed(reading)
    return [
        percent(reading.utilisation),
        f"{gib(parts.used)}/{gib(parts.total)} GiB" if parts else ABSENT,
        of(reading.power, reading.power_limit, "W").replace(" of ", "/"),
        f"{reading.temperature} C" if reading.temperature is not None else ABSENT,
        "" if slow in ("no", ABSENT) else f"slow: {', '.join(printable(word) for word in reading.throttled or ())}",
    ]


def title(reading: Reading) -> str:
    """`GPU 0  NVIDIA GeForce RTX 4070`."""
    return f"GPU {reading.index}  {printable(reading.name or 'a card without a name')}"


def of(amount: float | None, most: float | None, unit: str) -> str:
    """`182 of 200 W`."""
    if amount is None:
        return ABSENT
    return f"{amount:.0f}{f' of {most:.0f}' if most is not None else ''} {unit}"


def percent(amount: int | None) -> str:
    return ABSENT if amount is None else f"{amount} %"


def rate(amount: int | None) -> str:
    """Bytes a second: `2.0 MiB/s`."""
    if amount is None:
        return ABSENT
    for limit, unit in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if amount >= limit:
            return f"{amount / limit:.1f} {unit}/s"
    return f"{amount / (1 << 10):.1f} KiB/s"


def gib(amount: int) -> str:
    return f"{amount / GIB:.1f}"
