"""The words of the card screen: a line a card, what slows it down, its bus, who uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from textual.content import Content

from aozora_tui import card_words
from aozora_tui.card_history import Card
from aozora_tui.screens.words import cursor_sign, cut
from aozora_tui.text import folded, table
from engine.contract.nvml_reading import Process, Reading

LABEL = 12


def overview(cards: Sequence[Card], at: int, mine: Card | None, width: int, rows: int) -> list[Content]:
    """A line a card, `rows` of them at most, with the one under the cursor among them."""
    told = [_row(card, mine) for card in cards]
    told = told if mine is not None else [[*row[:-2], row[-1]] for row in told]
    lines = table(told) if told else []
    first = min(max(at - rows // 2, 0), max(len(lines) - rows, 0))
    found = []
    for index, line in list(enumerate(lines))[first : first + rows]:
        sign = cursor_sign() if index == at else " "
        found.append(Content.styled(cut(f"{sign} {line}", width), "bold" if index == at else ""))
    return found


def _row(card: Card, mine: Card | None) -> list[str]:
    mark = "this run" if card is mine else ""
    title = card_words.title(card.reading).replace("  NVIDIA ", "  ")
    if card.lost:
        return [title, "!", "no longer answers", "", "", mark, ""]
    *numbers, slow = card_words.brief(card.reading)
    return [title, *numbers, mark, slow]


def facts(reading: Reading, width: int) -> list[Content]:
    """What is no gauge: what slows it down, its bus, its parts."""
    slow = card_words.slowed(reading)
    heated = any(word in ("thermal", "hardware") for word in reading.throttled or ())
    busy = "" if reading.memory_utilisation is None else f"; its memory is busy {reading.memory_utilisation} %"
    state = "" if reading.performance_state is None else f"; state P{reading.performance_state}"
    told = [
        ("slowed down", f"{'! ' if heated else ''}{slow}{state}{busy}", "$warning" if heated else ""),
        ("PCIe", card_words.pcie(reading), ""),
    ]
    if reading.slices is not None:
        told.append(("divided", card_words.divided(reading.slices), ""))
    return [_labelled(label, text, width, style) for label, text, style in told]


def lost(width: int) -> list[Content]:
    return [Content.styled(line, "bold $error") for line in folded(f"!! {card_words.LOST}", width, indent="   ")]


def processes(reading: Reading, owned: Mapping[int, str], width: int, rows: int) -> list[Content]:
    """Who uses the card, runs first; as many as `rows` hold."""
    if rows < 1:
        return []
    if reading.processes is None:
        return [Content.styled(cut("processes   n/a", width), "$foreground 70%")]
    listed = card_words.ordered(reading, owned)
    if not listed:
        return [Content.styled(cut("processes   none", width), "$foreground 70%")]
    room = rows if len(listed) <= rows else rows - 1
    found = list(_process_lines(listed[:room], owned, width))
    if len(listed) > room:
        found.append(Content.styled(cut(f"{'':<{LABEL}}{len(listed) - room} more", width), "$foreground 70%"))
    return found


def _process_lines(listed: Sequence[Process], owned: Mapping[int, str], width: int) -> Iterable[Content]:
    told = [
        [
            *([owned.get(each.pid, "")] if owned else []),
            f"pid {each.pid}",
            f"{card_words.gib(each.bytes)} GiB" if each.bytes is not None else card_words.ABSENT,
            card_words.program(each),
        ]
        for each in listed
    ]
    for index, (each, line) in enumerate(zip(listed, table(told), strict=True)):
        label = f"{'processes' if index == 0 else '':<{LABEL}}"
        style = "$primary" if each.pid in owned else ""
        yield Content.assemble((label, "$foreground 70%"), (cut(line, width - LABEL), style))


def _labelled(label: str, text: str, width: int, style: str = "") -> Content:
    return Content.assemble((f"{label:<{LABEL}}", "$foreground 70%"), (cut(text, width - LABEL), style))
