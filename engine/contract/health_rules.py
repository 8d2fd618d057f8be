"""What a rule says of a run, and the words for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.contract.health_past import Past

Level = Literal["notice", "warning", "danger"]
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Evidence:
    """That a condition holds: `text` says by which numbers, `remedy` what to try; `since` is the step from which on, if
    it is another than this one."""

    text: str
    remedy: str
    level: Level = "warning"
    since: int | None = None


# Judges what is remembered. The second argument says whether the condition held until now: then it must be clearly over
# to end, so that what hovers at a limit is told once.
Rule = Callable[[Past, bool], Evidence | None]


def hours(seconds: float) -> str:
    """A duration in one unit: "40 min", "3.5 h", "2.1 days"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
