"""Rows of styled cells: what a widget draws, compared cell by cell so that only what changed is sent.

A cell is a character one column wide and the name of its style: the part of a component class after `--`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.style import Style
    from textual.strip import Strip

Cell: TypeAlias = tuple[str, str]
Row: TypeAlias = tuple[Cell, ...]


def cells(parts: Iterable[tuple[str, str]], width: int) -> Row:
    """Parts of text, each with its style, as exactly `width` cells: cut, or filled with blanks, at the right."""
    row = [(char, style) for text, style in parts for char in text][:width]
    return (*row, *blank(width - len(row)))


def fitting(groups: Sequence[Sequence[Cell]], width: int) -> list[Cell]:
    """The leading groups of styled text that fit into `width` whole, two blanks apart, and `+2` for two left out.

    Whole, because half a number is a wrong number.
    """
    gap: Cell = ("  ", "")
    for count in range(len(groups), 0, -1):
        left_out = len(groups) - count
        shown = [*groups[:count], [(f"+{left_out}", "")]] if left_out else groups
        parts = [part for group in shown for part in (gap, *group)][1:]
        if len("".join(text for text, _ in parts).rstrip()) <= width:
            return parts
    return []


def blank(width: int) -> Row:
    """`width` empty cells; none if negative. A space is one byte on the wire, the empty braille cell three."""
    return ((" ", ""),) * width


def text_of(row: Row) -> str:
    """The characters alone."""
    return "".join(char for char, _ in row)


def changed(old: Row, new: Row) -> tuple[int, int] | None:
    """First column that differs and the one after the last; None for equal rows. Rows of two widths differ wholly."""
    if len(old) != len(new):
        return 0, len(new)
    differing = [x for x, (before, after) in enumerate(zip(old, new, strict=True)) if before != after]
    return (differing[0], differing[-1] + 1) if differing else None


def to_strip(row: Row, style_of: Callable[[str], Style]) -> Strip:
    """A strip with one segment per run of equal styles.

    Every segment costs up to 45 bytes of escape codes, so a blank takes the style of the cell before it. That is
    invisible as long as no style sets a background, underline or reverse of its own.
    """
    from rich.segment import Segment
    from textual.strip import Strip

    merged: list[Cell] = []
    current = next((style for char, style in row if char != " "), "")
    for char, style in row:
        current = current if char == " " else style
        merged.append((char, current))
    runs = groupby(merged, key=itemgetter(1))
    return Strip([Segment(text_of(tuple(run)), style_of(style)) for style, run in runs], len(row))
