"""What the cards do, as text or as one document. Needs neither torch nor Textual."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from aozora_tui import card_owners, card_words
from aozora_tui.card_watch import CardWatch, Seen
from aozora_tui.text import duration, printable, table


def ask(watch: CardWatch, patience: float) -> Seen:
    """A fresh answer, or why there is none."""
    watch.look()
    if not watch.wait(patience):
        return Seen(why_not=card_words.SILENT.format(duration(patience)))
    return watch.look()


def lines(seen: Seen) -> list[str]:
    """Everything about each card."""
    engines, found = card_owners.live_runs() if seen.readings else {}, []
    for reading in seen.readings:
        version = printable(reading.driver_version or "of an unknown version")
        found.append(f"{card_words.title(reading)}, driver {version}, {printable(reading.uuid or 'no uuid')}")
        owned = card_owners.owners((each.pid for each in reading.processes or ()), engines)
        found += [f"  {label:<12}{text}" for label, text in card_words.lines(reading, owned)]
    return found


def brief_lines(seen: Seen) -> Iterator[str]:
    """One line a card, with the time."""
    clock = time.strftime("%H:%M:%S")
    rows = [[clock, card_words.title(reading), *card_words.brief(reading)] for reading in seen.readings]
    return iter(table(rows) if rows else ())


def document(seen: Seen) -> dict[str, Any]:
    """`cards` as the driver tells of them, bytes, percent, watts, degrees Celsius and MHz; null is what it does not."""
    engines, cards = card_owners.live_runs() if seen.readings else {}, []
    for reading in seen.readings:
        card = dataclasses.asdict(reading)
        del card["run_memory"]  # of one process, and none is meant
        owned = card_owners.owners((each.pid for each in reading.processes or ()), engines)
        for each in card["processes"] or ():
            each["run"] = owned[each["pid"]].removeprefix("run ") if each["pid"] in owned else None
        cards.append(card)
    return {"time": time.time(), "cards": cards, "problem": seen.why_not}
