"""A card's memory in one line: ours, others', free."""

from __future__ import annotations

from typing import ClassVar

from aozora_tui.widgets.cells import Cell
from aozora_tui.widgets.gauge import ABSENT, SHORTEST_BAR, _Line

GIB = float(1 << 30)
SIGNS = ("█▒░", "#=-")


class MemoryBar(_Line):
    """`memory ████▒▒░░░ this run 7.1, others 3.9, free 1.0 of 12.0 GiB`. The parts are told apart without colour."""

    DEFAULT_CSS = """
    MemoryBar > .memory-bar--label { color: $foreground 70%; }
    MemoryBar > .memory-bar--ours { color: $primary; }
    MemoryBar > .memory-bar--others { color: $warning; }
    MemoryBar > .memory-bar--rest { color: $foreground 30%; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "memory-bar--label",
        "memory-bar--ours",
        "memory-bar--others",
        "memory-bar--rest",
    }
    PREFIX = "memory-bar"

    def __init__(self, label: str, *, ascii_only: bool = False, id: str | None = None) -> None:
        super().__init__(ascii_only=ascii_only, name=None, id=id, classes=None)
        self.label = label
        self._shares: tuple[int | None, int, int, int] | None = None
        self._ours = "runs"

    def set_shares(self, ours: int | None, others: int, free: int, total: int, *, name: str = "runs") -> None:
        """Bytes; `ours` is None where nobody knows whose the others are, and `name` what it is called."""
        self._shares, self._ours = (ours, others, free, total), name
        self._repaint()

    def clear(self) -> None:
        """There is no reading."""
        self._shares = None
        self._repaint()

    def parts(self, width: int) -> list[Cell]:
        label: Cell = (f"{self.label} ", "label")
        if self._shares is None:
            return [label, (ABSENT, "")]
        ours, others, free, total = self._shares
        tail = self._words(ours, others, free, total)
        room = width - len(self.label) - len(tail) - 3
        if room < SHORTEST_BAR:
            used = f"{((ours or 0) + others) / GIB:.1f}/{total / GIB:.1f} GiB"
            return [label, (used, "")]
        signs = SIGNS[self.ascii_only]
        first, second = _cells_of(ours or 0, total, room), _cells_of(others, total, room)
        second = min(second, room - first)
        rest = room - first - second
        return [
            label,
            (signs[0] * first, "ours"),
            (signs[1] * second, "others"),
            (f"{signs[2] * rest}  ", "rest"),
            (tail, ""),
        ]

    def _words(self, ours: int | None, others: int, free: int, total: int) -> str:
        end = f"free {free / GIB:.1f} of {total / GIB:.1f} GiB"
        if ours is None:
            return f"used {others / GIB:.1f}, {end}"
        return f"{self._ours} {ours / GIB:.1f}, others {others / GIB:.1f}, {end}"


def _cells_of(amount: int, total: int, room: int) -> int:
    """What is there at all shows."""
    return min(max(round(amount / total * room), 1 if amount > 0 else 0), room)
