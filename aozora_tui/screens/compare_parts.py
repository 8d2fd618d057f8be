"""What the screen of compared runs says: the lines of its legend, and its table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aozora_tui.compared_finals import (
    Row,
    differing,
    final,
    name_of,
    no_setting_differs,
    other_losses,
    rows,
    shared,
    values_of,
)
from aozora_tui.compared_runs import ComparedRun
from aozora_tui.screens.data_page import Parts, ending, paragraph
from aozora_tui.screens.words import cut, middle
from aozora_tui.terminal import ascii_only
from aozora_tui.text import printable
from aozora_tui.widgets.cells import Cell
from aozora_tui.widgets.run_marks import LETTERS, RUN_STYLES, SIGNS
from aozora_tui.widgets.scale import short

VALUE, OFF, STATE, STEPS = 10, 9, 10, 16  # columns of the legend
LABEL = 20
NARROWEST, WIDEST = 16, 36  # a run's column of the table
GAP = 2


def mark(compared: ComparedRun) -> str:
    """The sign of a run, in one column."""
    return (LETTERS if ascii_only() else SIGNS)[compared.place]


@dataclass(frozen=True)
class Said:
    """What the legend says of a run: its `value` at the cursor, or the newest, and how far that is from `base`, the
    first run's at the same place; None where that is not to be said."""

    compared: ComparedRun
    name: str
    value: float | None
    base: float | None = None


def legend(said: Sequence[Said], width: int) -> list[list[Cell]]:
    """A line a run, its parts in columns; the last ones go where there is no room."""
    longest = max((len(each.name) for each in said), default=0)
    wanted = [VALUE, OFF if any(each.base is not None for each in said) else 0, STATE, STEPS]
    while sum(wanted) + min(longest, 16) + 4 > width and len(wanted) > 1:
        wanted.pop()
    room = max(min(longest, width - 5 - sum(wanted)), 4)
    return [_legend_line(each, room, wanted, width) for each in said]


def _legend_line(said: Said, room: int, columns: Sequence[int], width: int) -> list[Cell]:
    compared = said.compared
    head: list[Cell] = [
        (f" {mark(compared)} ", RUN_STYLES[compared.place]),
        (f"{middle(said.name, room):<{room}}  ", ""),
    ]
    if not compared.loaded:
        return [*head, ("reading", "dim")]
    value = "-" if said.value is None else short(said.value)
    parts: list[Cell] = [(f"{value:<{VALUE}}", ""), (f"{_off(said):<{columns[1] if len(columns) > 1 else 0}}", "dim")]
    if compared.trouble:
        left = width - 1 - sum(len(text) for text, _ in [*head, *parts[: len(columns)]])
        return [*head, *parts[: len(columns)], (cut(f"! {compared.trouble}", left), "")]
    state = compared.state
    steps = f"{state.step:,}/{state.steps:,}" if state.steps else "no step yet"
    parts += [(f"{compared.word:<{STATE}}", ""), (f"step {steps}" if state.steps else steps, "dim")]
    return [*head, *parts[: len(columns)]]


def _off(said: Said) -> str:
    """How far from the first run's value."""
    if said.value is None or not said.base:
        return ""
    share = 100 * (said.value / said.base - 1)
    return f"{share:+.1f} %" if abs(share) < 1000 else ""


def fitting(width: int, count: int) -> int:
    """How many runs' columns a table of `width` has room for."""
    return min(max((width - LABEL) // (NARROWEST + GAP), 1), count)


def table(compared: Sequence[ComparedRun], names: Sequence[str], first: int, width: int) -> list[Parts]:
    """How the runs ended, then what their profiles differ in; the columns of the runs from `first` on."""
    upto, settings = shared(compared), differing(compared)
    finals = [final(each, name, upto) for each, name in zip(compared, names, strict=True)]
    seen, room = slice(first, first + fitting(width, len(compared))), _room(width, len(compared))
    lines: list[Parts] = [_line(row, seen, room) for row in rows(finals, upto)]
    lines.append(())
    if len(compared) > 1:
        lines.append((("* the best of its line", "dim"),))
        lines += paragraph(f"! {said}", width, "attention", indent="  ") if (said := other_losses(settings)) else []
        lines.append(())
    heading = f"{len(settings)} settings differ" if len(settings) != 1 else "1 setting differs"
    none = no_setting_differs(compared)
    lines.append(((heading if settings else none[:1].upper() + none[1:], "head"),))
    for setting in settings:
        row = Row(label=name_of(setting, settings), cells=tuple(values_of(setting, compared)))
        lines.append(_line(row, seen, room))
    unread = [name for each, name in zip(compared, names, strict=True) if each.profile is None]
    if unread:
        lines += paragraph(f"? its profile cannot be read: {', '.join(unread)}", width, "attention", indent="  ")
    return lines


def heads(compared: Sequence[ComparedRun], names: Sequence[str], first: int, width: int) -> list[Cell]:
    """Whose the columns of the table are."""
    room, seen = _room(width, len(compared)), slice(first, first + fitting(width, len(compared)))
    parts: list[Cell] = [(" " * (LABEL + 1), "")]
    for each, name in zip(compared[seen], names[seen], strict=True):
        shown = f" {middle(name, room - 2):<{room - 2}}{' ' * GAP}"
        parts += [(mark(each), RUN_STYLES[each.place]), (shown, "head")]
    return parts


def _room(width: int, count: int) -> int:
    """Columns of a run."""
    return min((width - LABEL) // max(fitting(width, count), 1) - GAP, WIDEST)


def _line(row: Row, seen: slice, room: int) -> Parts:
    parts = [(f"{cut(row.label, LABEL - 1):<{LABEL}}", "dim")]
    for at, cell in list(enumerate(row.cells))[seen]:
        text = printable(cell)
        best = at in row.best
        shown = f"{cut(text, room - 2)} *" if best else ending(text, room) if "/" in text[:3] else cut(text, room)
        parts.append((f"{shown:<{room}}{' ' * GAP}", "good" if best else ""))
    return tuple(parts)
