"""A shot as text that a person can review: the letters, then which look each piece of a line has, then the looks.

    3  a29 b          a line, counted from 0: 29 cells look like a, the rest like b
    4-7  a            the same for four lines
    b  bold #87d7ff/#262626 | bold 117/235 | bold      in 24 bit, in 256 colours, bare

A look's letter stays from one writing to the next. `*` is a person's picture, whose colours are not ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from string import ascii_letters, digits

from shots import Depth, Shot
from terminal_cells import Cell, Look, runs, text_of

DEPTHS: tuple[Depth, ...] = ("24 bit", "256", "bare")
BARE, WHERE, LOOKS = "-- bare", "-- where", f"-- {' | '.join(DEPTHS)}"
PICTURE = "*"


def written(shot: Shot, before: str = "") -> str:
    """`before`: what was written of it last."""
    text, barer = (_text(shot, depth) for depth in ("24 bit", "bare"))
    bare = [f"{y:>2}  {line}".rstrip() for y, line in enumerate(barer) if line != text[y]]
    grid = _grid(shot)
    letters = _letters(before)
    free = iter(char for char in ascii_letters + digits if char not in letters.values())
    for look in dict.fromkeys(look for row in grid for look in row):
        letters.setdefault(look, next(free) if look != PICTURE else PICTURE)
    used = sorted({letters[look]: look for row in grid for look in row if look != PICTURE}.items())
    where = list(_where([[letters[look] for look in row] for row in grid]))
    parts = [*text, *([BARE, *bare] if bare else []), WHERE, *where, LOOKS, *(f"{name}  {look}" for name, look in used)]
    return "\n".join(parts) + "\n"


def _text(shot: Shot, depth: Depth) -> list[str]:
    rows = [list(row) for row in shot.depths[depth]]
    for x, y in shot.picture:
        rows[y][x] = Cell(PICTURE, Look())
    return text_of(rows)


def _grid(shot: Shot) -> list[list[str]]:
    """For each cell its looks in all depths."""
    layers = [[list(_looks(row)) for row in shot.depths[depth]] for depth in DEPTHS]
    return [
        [
            PICTURE if (x, y) in shot.picture else " | ".join(looks)
            for x, looks in enumerate(zip(*(layer[y] for layer in layers), strict=True))
        ]
        for y in range(shot.size[1])
    ]


def _looks(row: Sequence[Cell]) -> Iterator[str]:
    for _, text, look in runs(row):
        yield from [str(look)] * len(text)


def _where(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    lines = [_line(row) for row in rows]
    y = 0
    for line, same in groupby(lines):
        count = len(list(same))
        yield f"{y}-{y + count - 1}  {line}" if count > 1 else f"{y}  {line}"
        y += count


def _line(row: Sequence[str]) -> str:
    pieces = [(letter, len(list(run))) for letter, run in groupby(row)]
    return " ".join([*(f"{letter}{count}" for letter, count in pieces[:-1]), pieces[-1][0]])


def _letters(before: str) -> dict[str, str]:
    _, _, looks = before.partition(f"{LOOKS}\n")
    return {look: letter for letter, _, look in (line.partition("  ") for line in looks.splitlines())}
