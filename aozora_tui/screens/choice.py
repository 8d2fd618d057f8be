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
from aozora_tui.screens.words import plain


class Choice(Widget, can_focus=True):
    """All the words at once, the chosen one in brackets; where they do not fit, those around the chosen one."""

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
        for text, word in laid_out(self.words, self.chosen, self.size.width):
            x += len(text)
            if event.x < x:
                if word != self.chosen:
                    self.choose(word)
                    self.post_message(self.Changed())
                return

    def render_line(self, y: int) -> Strip:
        parts = []
        for text, word in laid_out(self.words, self.chosen, self.size.width) if y == 0 else ():
            chosen = word == self.chosen and text.startswith("[")
            parts.append(Segment(text, self.get_component_rich_style(f"choice--{'chosen' if chosen else 'other'}")))
        return Strip(parts).adjust_cell_length(self.size.width, self.rich_style)

    def get_content_width(self, container: Size, viewport: Size) -> int:  # noqa: ARG002  (Textual's signature)
        return sum(len(word) + 2 for word in self.words)


def laid_out(words: Sequence[str], chosen: str, width: int) -> list[tuple[str, str]]:
    """The line in pieces: what is written, and the word that a click there chooses.

    The first words are left out as far as the chosen one needs the room, then the last ones; a sign at either end
    stands for them. Words stay whole, but for a chosen one that is wider than everything.
    """
    pieces = [f"[{word}]" if word == chosen else f" {word} " for word in words]
    at = words.index(chosen) if chosen in words else 0

    def room(first: int, end: int) -> int:
        return width - (first > 0) - sum(map(len, pieces[first:end])) - (end < len(words))

    first = next((index for index in range(at) if room(index, at + 1) >= 0), at)
    end = next((index for index in range(len(words), at + 1, -1) if room(first, index) >= 0), at + 1)
    shown = list(zip(pieces[first:end], words[first:end], strict=True))
    if (missing := -room(first, end)) > 0:
        shown = [(pieces[at][: max(len(pieces[at]) - missing, 0)], words[at])]
    before = [(plain("\u2039"), words[first - 1])] if first > 0 else []
    after = [(plain("\u203a"), words[end])] if end < len(words) else []
    return [*before, *shown, *after]
