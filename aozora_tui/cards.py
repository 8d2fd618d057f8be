"""The driver's readings as the check wants them, and what is said of a card that is too small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.nvml_reading import Reading
from engine.contract.outlook import Card, Outlook

if TYPE_CHECKING:
    from engine.contract.budget import Forecast
    from engine.contract.check import Checked
    from engine.contract.sections import Memory, Profile

PLANS = ("plain", "fast", "resident", "stage-major")


def cards(readings: Sequence[Reading], *, emptied: bool = False) -> tuple[Card, ...]:
    """Up to the first of which the driver does not say enough: a later one would be taken for it. From there on they
    only count. `emptied`: as they are when nothing runs."""
    found: list[Card] = []
    for reading in readings:
        free = reading.memory_total if emptied else reading.memory_free
        if reading.name is None or free is None:
            break
        found.append(Card(reading.name, free))
    unknown = [Card("", None)] * (len(readings) - len(found)) if found else []
    return (*found, *unknown)


def at_the_start(readings: Sequence[Reading], *, limited: bool, busy: bool) -> tuple[Card, ...]:
    """The cards as a run will find them: beside a run of ours (`busy`), whose part is free again when it ends, and
    under a limit, which knows no moment, they count as empty."""
    return cards(readings, emptied=limited or busy)


def usable(memory: Memory, emptied: Sequence[Card]) -> int | None:
    """Bytes that a run may use of the card that the profile names: memory.limit, or all of it. None if that is not
    known, and on the processor."""
    if memory.device == "cpu":
        return None
    number = int(memory.device.partition(":")[2][:9] or 0)
    free = emptied[number].free if number < len(emptied) else None
    known = [] if free is None else [free]
    if memory.limit:
        known.append(round(memory.limit * (1 << 30)))
    return min(known, default=None)


def none_fits(ahead: Outlook) -> bool:
    return ahead.plan == "none fits"


def with_leanest(checked: Checked, start: Path, found: Sequence[Card]) -> Checked:
    """Where no plan fits, with the forecast of the one that needs least of the card. Relative names start at `start`,
    `found` are the cards that it was checked with."""
    if checked.profile is None or checked.outlook is None or not none_fits(checked.outlook):
        return checked
    costs = [_cheapest(checked.profile, plan, start, found) for plan in PLANS]
    least = min((cost for cost in costs if cost), key=lambda cost: cost.device, default=checked.outlook.cost)
    return replace(checked, outlook=replace(checked.outlook, cost=least))


def _cheapest(profile: Profile, plan: str, start: Path, found: Sequence[Card]) -> Forecast | None:
    """Of a plan that is named and does not fit, the check forecasts the cheapest form."""
    import msgspec

    from engine.contract.check import check_machine

    memory = msgspec.structs.replace(profile.memory, plan=plan, keep=0, group=0)
    named = msgspec.structs.replace(profile, memory=memory)
    outlook = check_machine(named, start, new_run=False, cards=found).outlook
    return outlook.cost if outlook else None
