"""What was changed on the layers screen, to be taken back and made again."""

from __future__ import annotations

from aozora_tui.screens.layers_model import Chosen

Step = tuple[Chosen, str]


class History:
    """Each step is a state and the words for the change that led away from it, or back to it."""

    def __init__(self) -> None:
        self._past: list[Step] = []
        self._future: list[Step] = []

    def __bool__(self) -> bool:
        """Whether there is something to take back."""
        return bool(self._past)

    @property
    def undone(self) -> bool:
        """Whether there is something to make again."""
        return bool(self._future)

    def changed(self, before: Chosen, what: str) -> None:
        self._past.append((before, what))
        self._future.clear()

    def undo(self, now: Chosen) -> Step | None:
        """The state before the last change, and what that was; None if there is none."""
        return _step(self._past, self._future, now)

    def redo(self, now: Chosen) -> Step | None:
        """The same forwards."""
        return _step(self._future, self._past, now)


def _step(source: list[Step], target: list[Step], now: Chosen) -> Step | None:
    if not source:
        return None
    step = source.pop()
    target.append((now, step[1]))
    return step
