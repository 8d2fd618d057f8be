"""Finds lines that have only gone up or down on the screen: a terminal can move them by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aozora_tui.cell_codes import Cell

PIECE = 8  # columns that are compared at once
MOST_ALIKE = 3  # a piece that so many lines have at the same place tells nothing
LEAST_VOTES = 4
TRIED = 2


@dataclass(frozen=True)
class Shift:
    """The lines from `top` to before `end`, moved up by `by`, or down if it is negative."""

    top: int
    end: int
    by: int


def shifts(rows: Mapping[int, Sequence[Cell | None]], wanted: Mapping[int, Sequence[Cell | None]]) -> Iterator[Shift]:
    """Those that may spare bytes, the likeliest first. All lines of `rows` are known, and `wanted` has the same."""
    old, new = ({y: _pieces(row) for y, row in each.items()} for each in (rows, wanted))
    for by in _likely(old, new):
        span = _best_span(old, new, by)
        if span is not None:
            yield Shift(span[0] - max(-by, 0), span[1] + max(by, 0), by)


def _likely(old: Mapping[int, Sequence[str]], new: Mapping[int, Sequence[str]]) -> list[int]:
    where: dict[tuple[int, str], list[int]] = {}
    for y, pieces in old.items():
        for place in enumerate(pieces):
            where.setdefault(place, []).append(y)
    votes: Counter[int] = Counter()
    for y, pieces in new.items():
        if pieces == old[y]:
            continue
        for place in enumerate(pieces):
            if place[1].strip() and len(found := where.get(place, ())) <= MOST_ALIKE:
                votes.update(before - y for before in found)
    del votes[0]
    return [by for by, count in votes.most_common(TRIED) if count >= LEAST_VOTES]


def _best_span(old: Mapping[int, Sequence[str]], new: Mapping[int, Sequence[str]], by: int) -> tuple[int, int] | None:
    """The lines of `new` that gain most from what was `by` lines below them; none if nothing is to be gained."""
    best, best_gain, start, gain = None, 0, 0, 0
    for y in range(min(new), max(new) + 1):
        if y not in new or y + by not in old:
            start, gain = y + 1, 0
            continue
        gain += _alike(old[y + by], new[y]) - _alike(old[y], new[y])
        if gain <= 0:
            start, gain = y + 1, 0
        elif gain > best_gain:
            best, best_gain = (start, y + 1), gain
    return best


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(a == b for a, b in zip(one, other, strict=False))


def _pieces(row: Sequence[Cell | None]) -> list[str]:
    chars = [cell[0] if cell is not None else "" for cell in row]
    return ["".join(chars[at : at + PIECE]) for at in range(0, len(chars), PIECE)]
