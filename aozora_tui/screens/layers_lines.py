"""How the layers screen writes what it shows: cells of the tree's columns, and the lines below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aozora_tui.screens.words import cursor_sign, cut
from aozora_tui.terminal import ascii_only
from aozora_tui.text import factor, printable
from aozora_tui.widgets.cells import Cell
from engine.contract.layers import human

if TYPE_CHECKING:
    from aozora_tui.screens.layers_cost import Cost
    from aozora_tui.screens.layers_model import Counted, Node
    from aozora_tui.screens.layers_tree import Seen

SIZE_WIDTH = 8
HEADINGS: tuple[list[Cell], ...] = (
    [("    layer", "dim")],
    [(f"{'size':>{SIZE_WIDTH}}{'trained':>9}", "dim")],
    [("   rate", "dim")],
)
_BOXES = {"[x]": "whole", "[-]": "part"}


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    changed: bool = False
    label: bool = False


def percent(part: int, whole: int) -> str:
    """`37.2 %`; never 0 or 100 of what is not quite."""
    share = 100 * part / max(whole, 1)
    if part in (0, whole):
        return f"{share:.0f} %"
    return "< 0.1 %" if share < 0.05 else f"{min(share, 99.9):.1f} %"


def named(node: Node) -> str:
    """In a sentence: labels alone are the same in many blocks."""
    path = node.layer.path
    return f"{node.label} ({printable(path)})" if path and not (node.encoder and node.parent < 0) else node.label


def name_cells(node: Node, counted: Counted, seen: Seen, width: int) -> list[Cell]:
    mark = cursor_sign(here=seen.cursor == "cursor") if seen.cursor else " "
    sign = {None: "  ", True: "- ", False: "+ "}[seen.opened]
    before, box = f"{mark} {'  ' * node.depth}{sign}", f"{counted.box} "
    label = cut(printable(node.label), width - len(before) - len(box))
    if seen.cursor:
        return [(f"{before + box + label:<{width}}", seen.cursor)]
    style = "found" if seen.found else "plain" if counted.learning else "dim"
    return [(before, "dim"), (box, _BOXES.get(counted.box, "dim")), (label, style)]


def number_cells(node: Node, counted: Counted) -> list[Cell]:
    """The size, how much of it is trained, and the share; the last two where that is neither all nor nothing."""
    size, whole = human(node.layer.parameters), node.layer.parameters
    if not counted.learning:
        return [(f"{size:>{SIZE_WIDTH}}{'never' if not counted.able else '-':>9}", "dim")]
    return [(f"{size:>{SIZE_WIDTH}}{human(counted.parameters):>9}{percent(counted.parameters, whole):>8}", "plain")]


def without_size(row: list[Cell]) -> list[Cell]:
    """Where there is little room."""
    (text, style), *rest = row
    return [(text[SIZE_WIDTH:], style), *rest]


def rate_cells(factors: Sequence[float], counted: Counted, width: int, *, bar: bool) -> list[Cell]:
    """The factor on the learning rate, if it is not 1."""
    said = "" if factors in ((), (1.0,)) or not counted.able else "mixed" if len(factors) > 1 else _times(factors[0])
    thumb = "#" if ascii_only() else "▐"
    style = "rate" if counted.learning else "dim"
    return [(f"   {said:<{max(width - 4, 0)}}"[: width - 1], style), (thumb if bar else " ", "bar")]


def bar(top: int, page: int, lines: int) -> range:
    """The rows of the window that its thumb takes; none if all is seen."""
    if lines <= page:
        return range(0)
    height = max(round(page * page / lines), 1)
    start = round((page - height) * top / (lines - page))
    return range(start, start + height)


def about(node: Node, counted: Counted, composed: Sequence[tuple[str, float]], width: int) -> list[Cell]:
    """The pattern that means the layer under the cursor, its tensors, and of which factors its rate is made."""
    tensors = f"{counted.learning:,} of {node.stop - node.start:,} tensors learn"
    if not counted.able:
        tensors = "never learns: nothing that is trained reads it, or its own setting freezes it"
    rates = "  ".join(f"{printable(pattern)} x {factor(each)}" for pattern, each in composed)
    first = printable(node.encoder if node.encoder and node.parent < 0 else node.pattern)
    rest = "   ".join(part for part in (tensors, rates) if part)
    return [(cut(first, width), "strong"), (cut(f"   {rest}", max(width - len(first), 0)), "dim")]


def here_cells(cost: Cost, node: Node) -> list[Cell]:
    """What training the layer under the cursor takes."""
    name = "text adds" if node.encoder else "layer adds"
    if cost.cpu:
        return [(f"{name} ", "dim"), (f"host {_gib(cost.card + cost.host, 2)} GiB", "plain")]
    return [(f"{name} ", "dim"), (f"card {_gib(cost.card, 2)}  host {_gib(cost.host, 2)} GiB", "plain")]


def whole_cells(cost: Cost, width: int) -> list[Cell]:
    """What everything that is chosen takes; the plan where there is room for it."""
    total, over = cost.ahead.cost, cost.usable is not None and cost.ahead.cost.device > cost.usable
    if cost.cpu:
        return [("all  ", "dim"), (f"host {_gib(total.device + total.host)} GiB", "plain")]
    of = f"/{_gib(cost.usable)}" if cost.usable is not None else ""
    said: list[Cell] = [("all  ", "dim"), (f"card {_gib(total.device)}{of}{' !' if over else ''}", _alarm(over))]
    said.append((f"  host {_gib(total.host)} GiB", "plain"))
    plan: Cell = (f"  {'plan ' * (width > 60)}{cost.plan}", _alarm(cost.plan == "no plan fits"))
    fits = sum(len(text) for text, _ in (*said, plan)) <= width
    return [*said, plan] if fits and cost.usable is not None else said


def _alarm(wrong: bool) -> str:
    return "warning" if wrong else "plain"


def written_rows(
    written: Mapping[str, Any], changed: Mapping[str, Any], *, width: int, height: int
) -> list[list[Cell]]:
    """What will be in the profile, in at most `height` rows; the last one says how many patterns more there are.
    Settings that change have a star."""
    words: list[_Word] = []
    for path, parts in _said(written, changed):
        words.append(_Word(f"*{path}" if path in changed else f" {path}", path in changed, label=True))
        words += [_Word(cut(part, width - 6)) for part in parts]
    if len(rows := _wrapped(words, width, apart=True)) <= height:
        return rows
    kept = min(len(words), height * width // 3)  # no word is shorter
    while True:
        left_out = sum(not word.label for word in words[kept:])
        more = [_Word(f"and {left_out:,} more", changed=True)] if left_out else []
        rows = _wrapped([*words[:kept], *more], width, apart=False)
        if len(rows) <= height or not kept:
            return rows
        kept -= 1


def _wrapped(words: Sequence[_Word], width: int, *, apart: bool) -> list[list[Cell]]:
    """`apart`: each label begins a row."""
    rows: list[list[Cell]] = [[]]
    used = 0
    for index, word in enumerate(words):
        gap = 0 if not rows[-1] else 3 if word.label else 2
        follower = words[index + 1] if word.label and index + 1 < len(words) else None
        # A label does not stand at the end of a row alone.
        full = used + gap + len(word.text) + (2 + len(follower.text) if follower else 0) > width
        if rows[-1] and (full or (apart and word.label)):
            rows.append([])
            used, gap = 0, 0 if word.label else 3
        style = "warning" if word.changed else "dim" if word.label else "plain"
        rows[-1].append((" " * gap + word.text, style))
        used += gap + len(word.text)
    return rows


def _said(written: Mapping[str, Any], changed: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """The settings worth a word: those that say something, and those that change."""
    said: list[tuple[str, list[str]]] = []
    for path, value in written.items():
        if path == "layers.train":
            said.append((path, [printable(pattern) for pattern in value] or ["nothing"]))
        elif path not in changed and (value in ([], {}, "none") or isinstance(value, float)):
            continue
        elif isinstance(value, dict):
            parts = [f"{printable(pattern)} {factor(each)}" for pattern, each in value.items()]
            said.append((path, parts or ["none"]))
        elif isinstance(value, list):
            said.append((path, [printable(pattern) for pattern in value] or ["nothing"]))
        else:
            said.append((path, [factor(value) if isinstance(value, float) else str(value)]))
    return said


def _times(number: float) -> str:
    return f"x {factor(number)}" if len(factor(number)) < 8 else f"x {number:.2g}"


def _gib(count: float, digits: int = 1) -> str:
    return f"{max(count, 0) / (1 << 30):.{digits}f}"
