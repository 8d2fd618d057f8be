"""The driver's readings as the check wants them."""

from collections.abc import Sequence

from aozora_tui.gpu import Reading
from engine.contract.outlook import Card


def cards(readings: Sequence[Reading]) -> tuple[Card, ...]:
    """Up to the first of which the driver does not say enough: a later one would be taken for it."""
    found: list[Card] = []
    for reading in readings:
        if reading.name is None or reading.memory_free is None:
            break
        found.append(Card(reading.name, reading.memory_free))
    return tuple(found)
