"""What the run will take of the card, drawn to scale: each part by a glyph and a colour of its own."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from aozora_tui.screens.words import plain
from aozora_tui.terminal import ascii_only
from engine.contract.budget import Forecast

GIB = 1 << 30
OTHER = "other is what driver and torch take of the card for themselves"
LEAST_BAR = 20
MOST_BAR = 60


@dataclass(frozen=True)
class Part:
    """One kind of memory: told apart by its glyph, named by its word; the colour comes last."""

    word: str
    short: str
    glyph: str
    letter: str
    style: str


PARTS = (
    Part("weights", "weights", "█", "W", "$primary"),
    Part("gradients", "grad", "▓", "G", "$success"),
    Part("optimizer", "optim", "▒", "O", "$warning"),
    Part("activations", "activ", "▚", "A", "$accent"),
    Part("other", "other", "▪", "o", "$secondary"),
)
FREE = Part("free", "free", "·", ".", "$foreground 60%")
TAKEN = Part("in use by others", "in use", "\u2573", "x", "$error")
OVER = Part("too much", "over", "!", "!", "bold $error")


@dataclass(frozen=True)
class Card:
    """Bytes of the card that the profile names: all that a run may use of it, and what is free of that now."""

    total: int
    free: int


def parts_of(cost: Forecast) -> tuple[int, ...]:
    """Bytes, in the order of PARTS; they sum to `cost.device`."""
    return (cost.weights, cost.gradients, cost.optimizer, cost.activations, cost.overhead)


def forecast_bar(cost: Forecast, card: Card | None, width: int) -> Content:
    """One line of at most `width` cells: the bar, then what its glyphs mean and how much that is. The bar is as long as
    the card is large; without one, as what the run needs."""
    for level in range(4):
        words = _legend(cost, card, level)
        room = min(width - words.cell_length - 3, MOST_BAR)
        if room >= LEAST_BAR or level == 3:
            break
    if room < LEAST_BAR:
        room, words = max(min(width - 2, MOST_BAR), 1), Content()
    bar = Content.assemble("[", *_bar(cost, card, room), "]")
    return Content.assemble(bar, " ", words) if words else bar


def cells(sizes: tuple[int, ...], total: int, width: int) -> list[int]:
    """How many of `width` cells each size has, of `total`: whoever needs anything has a cell, and the sum is that of
    all sizes, rounded, as far as it fits."""
    if total <= 0:
        return [0] * len(sizes)
    ends, sum_of, found = 0.0, 0, []
    for size in sizes:
        ends += size * width / total
        least = 1 if size > 0 else 0
        here = max(round(ends) - sum_of, least)
        found.append(here)
        sum_of += here
    while sum(found) > width and max(found) > 1:
        found[found.index(max(found))] -= 1
    return found


def _bar(cost: Forecast, card: Card | None, width: int) -> list[tuple[str, str]]:
    needed = parts_of(cost)
    if card is None:
        counts = cells(needed, sum(needed), width)
        return [(_glyph(part) * count, part.style) for part, count in zip(PARTS, counts, strict=True)]
    whole = max(card.total, cost.device)
    others = max(card.total - card.free, 0)
    over = max(cost.device - card.total, 0)
    rest = max(card.total - cost.device - others, 0)
    taken = max(card.total - cost.device - rest, 0)
    if over:
        return _over(needed, card.total, whole, width)
    drawn = (*zip((*PARTS, FREE, TAKEN), cells((*needed, rest, taken), whole, width), strict=True),)
    return [(_glyph(part) * count, part.style) for part, count in drawn]


def _over(needed: tuple[int, ...], total: int, whole: int, width: int) -> list[tuple[str, str]]:
    """More than the card has: what is beyond its end is drawn as too much, whatever it is."""
    counts = cells(needed, whole, width)
    pieces = [(_glyph(part), part.style) for part, count in zip(PARTS, counts, strict=True) for _ in range(count)]
    end = min(round(width * total / whole), width - 1)
    return [*pieces[:end], *[(OVER.letter, OVER.style)] * (len(pieces) - end)]


def _legend(cost: Forecast, card: Card | None, level: int) -> Content:
    """The parts that there are, with their GiB; from `level` 1 on with short words, then without what is free, then
    without the GiB."""
    pieces: list[str | tuple[str, str]] = []
    for part, size in zip(PARTS, parts_of(cost), strict=True):
        if size > 0:
            amount = f" {size / GIB:.1f}" if level < 3 else ""
            pieces += [(_glyph(part), part.style), f" {part.word if level < 1 else part.short}{amount}  "]
    if card is not None and card.free < card.total and level < 2:
        pieces += [(f"{_glyph(FREE)} ", FREE.style), f"{card.free / GIB:.1f} GiB free now"]
    elif pieces and level < 3:
        pieces[-1] = f"{str(pieces[-1]).rstrip()} GiB"
    return Content.assemble(*pieces).rstrip()


def _glyph(part: Part) -> str:
    return part.letter if ascii_only() else plain(part.glyph)
