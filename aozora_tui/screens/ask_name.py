"""Asks for the name of a profile."""

from __future__ import annotations

from aozora_tui.profile_names import bare
from aozora_tui.screens.ask_line import AskLine


class AskName(AskLine):
    """Its ending need not be typed."""

    def meant(self, text: str) -> str:
        return bare(text)
