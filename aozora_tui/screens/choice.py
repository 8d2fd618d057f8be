"""A field with a few words to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.events import Click
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from aozora_tui.keymap import bindings


class Choice(Widget, can_focus=True):
    """All the words at once, the chosen one in brackets."""

    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; }
    Choice > .choice--chosen { color: $foreground; text-style: bold; }
    Choice > .choice--other { color: $foreground 60%; }
    Choice:focus { background: $block-cursor-background; color: $block-cursor-foreground; }
    Choice:focus > .choice--chosen { color: $block-cursor-foreground; text-style: bold; }
    Choice:focus > .choice--other { color: $block-cursor-foreground 70%; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"choice--chosen", "choice--other"}
    BINDINGS = bindings("choice")
    ALLOW_SELECT = False

    class Changed(Message):
        """Another word is chosen."""

    def __init__(self, words: Sequence[str], chosen: str) -> None:
        super().__init__()
        self.words, self.chosen = tuple(words), chosen

    def choose(self, word: str) -> None:
        if word != self.chosen:
            self.chosen = word
            self.refresh()

    def action_change(self, by: int) -> None:
        here = self.words.index(self.chosen) if self.chosen in self.words else -by
        self.choose(self.words[(here + by) % len(self.words)])
        self.post_message(self.Changed())

    def on_click(self, event: Click) -> None:
        x = 0
        for word in self.words:
            x += len(word) + 2
            if event.x < x:
                self.choose(word)
                self.post_message(self.Changed())
                return

    def render_line(self, y: int) -> Strip:
        parts = []
        for word in self.words if y == 0 else ():
            at = word == self.chosen
            style = self.get_component_rich_style(f"choice--{'chosen' if at else 'other'}")
            parts.append(Segment(f"[{word}]" if at else f" {word} ", style))
        return Strip(parts).adjust_cell_length(self.size.width, self.rich_style)

    def get_content_width(self, container: Size, viewport: Size) -> int:  # noqa: ARG002  (Textual's signature)
        return sum(len(word) + 2 for word in self.words)
