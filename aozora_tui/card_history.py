"""What the cards did in the last minutes, as far as somebody looked, and which of them is gone. No Textual."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field

from aozora_tui.card_watch import Seen
from engine.contract.nvml_reading import Reading

MOST = 1200  # looks that are kept of a card; twice as many at times
SHOWN = ("utilisation", "memory_used", "power", "temperature")


def _columns() -> dict[str, array[float]]:
    return {name: array("d") for name in SHOWN}


@dataclass
class Card:
    """The newest reading of a card, and what it did at each look: seconds of the watch's clock, and by name what is
    `SHOWN`, NaN where the driver did not tell. `lost`: it has answered before, and no longer does."""

    reading: Reading
    lost: bool = False
    times: array[float] = field(default_factory=lambda: array("d"))
    values: dict[str, array[float]] = field(default_factory=_columns)

    def take(self, reading: Reading, at: float) -> None:
        self.reading, self.lost = reading, False
        self.times.append(at)
        for name, column in self.values.items():
            value = getattr(reading, name)
            column.append(math.nan if value is None else value)
        if len(self.times) > 2 * MOST:
            del self.times[:MOST]
            for column in self.values.values():
                del column[:MOST]


@dataclass
class CardHistory:
    """`cards` in the driver's order; one that is gone stays."""

    cards: list[Card] = field(default_factory=list)
    at: float | None = None

    def take(self, seen: Seen) -> bool:
        """Whether that is news."""
        if seen.at is None or seen.at == self.at:
            return False
        self.at = seen.at
        known = {_name(card.reading): card for card in self.cards}
        for card in self.cards:
            card.lost = True
        for reading in seen.readings:
            name = _name(reading)
            if name not in known:
                known[name] = Card(reading)
                self.cards.append(known[name])
            known[name].take(reading, seen.at)
        self.cards.sort(key=lambda each: each.reading.index)
        return True


def _name(reading: Reading) -> str:
    """Where one card is gone, those after it may be counted anew."""
    return reading.uuid or str(reading.index)
