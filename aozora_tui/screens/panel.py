"""What every question has in common."""

from __future__ import annotations

from typing import Generic, TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen

Answer = TypeVar("Answer")


class Panel(ModalScreen[Answer], Generic[Answer]):
    """Takes one answer: keys that were typed ahead of the screen must not answer for what lies under it."""

    _answered = False

    def dismiss(self, result: Answer | None = None) -> AwaitComplete:
        if self._answered:
            return AwaitComplete()
        self._answered = True
        return super().dismiss(result)
