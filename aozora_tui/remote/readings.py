"""The card of a run elsewhere: as the run itself tells of it twice a minute, for nobody here can ask its driver."""

from __future__ import annotations

from engine.contract.events import Machine, Started
from engine.contract.nvml_reading import Reading


def readings_of(machine: Machine | None, started: Started | None) -> tuple[Reading, ...]:
    """One reading, or none while nothing was told."""
    if machine is None or not machine.card:
        return ()
    known = machine.card_total > 0
    return (
        Reading(
            index=0,
            name=started.device if started else None,
            uuid=machine.card,
            driver_version=None,
            memory_used=machine.card_used if known else None,
            memory_total=machine.card_total if known else None,
            memory_free=machine.card_total - machine.card_used if known else None,
            run_memory=None,
            utilisation=machine.utilisation,
            power=machine.power,
            power_limit=machine.power_limit,
            temperature=machine.temperature,
        ),
    )
