"""In which order runs are listed. No Textual."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from aozora_tui.runs import RunSummary, Standing

Order = Literal["newest", "oldest", "name", "state", "loss", "step", "size"]
# What each is called where the list says how it is sorted.
ORDERS: Mapping[Order, str] = {
    "newest": "newest first",
    "oldest": "oldest first",
    "name": "by name",
    "state": "by state",
    "loss": "lowest loss first",
    "step": "most steps first",
    "size": "largest first",
}
_STATES: tuple[Standing, ...] = (
    "running",
    "paused",
    "starting",
    "failed",
    "crashed",
    "unreadable",
    "elsewhere",
    "stopped",
    "finished",
)
_RANKS = {state: rank for rank, state in enumerate(_STATES)}
Run = TypeVar("Run")


def ordered(
    found: Iterable[Run],
    order: Order,
    *,
    name: Callable[[Run], str],
    summary: Callable[[Run], RunSummary | None],
    weight: Callable[[Run], int | None],
) -> list[Run]:
    """`found` is the newest first, and so are those between which `order` makes no difference; what is not known yet
    comes last. `weight` in bytes."""
    listed = list(found)
    if order == "newest":
        return listed
    if order == "oldest":
        return listed[::-1]
    if order == "name":
        return sorted(listed, key=lambda run: (name(run).casefold(), name(run)))
    if order == "size":
        return sorted(listed, key=lambda run: _heaviest(weight(run)))
    return sorted(listed, key=lambda run: _rank(summary(run), order))


def _heaviest(weight: int | None) -> tuple[bool, int]:
    return weight is None, -(weight or 0)


def _rank(summary: RunSummary | None, order: Order) -> float:
    if summary is None:
        return math.inf
    if order == "state":
        return _RANKS[summary.state]
    if order == "step":
        return -summary.step
    return summary.loss if summary.loss is not None and math.isfinite(summary.loss) else math.inf
