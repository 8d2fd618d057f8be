"""The line in which one types what to look for in a text."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static


class FindLine(Horizontal):
    """Takes no room until it is opened; what was typed last is there again."""

    DEFAULT_CSS = """
    FindLine { height: 1; display: none; }
    FindLine.-shown { display: block; }
    FindLine Static { width: auto; padding: 0 1; color: $accent; }
    FindLine Input { width: 1fr; background: $panel; }
    """

    class Asked(Message):
        """Enter was pressed."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    def compose(self) -> ComposeResult:
        yield Static("find", markup=False)
        box = Input(compact=True)
        box.cursor_blink = False
        yield box

    def open(self) -> None:
        """Show it, and type into it from now on."""
        self.add_class("-shown")
        box = self.query_one(Input)
        box.focus()
        box.cursor_position = len(box.value)

    def close(self) -> None:
        """Nothing is looked for any more."""
        self.remove_class("-shown")
        self.screen.set_focus(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if not event.value:
            self.close()
        self.post_message(self.Asked(event.value))
