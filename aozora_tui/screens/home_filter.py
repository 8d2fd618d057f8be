"""The line over the lists in which one types what they shall show."""

from __future__ import annotations

from textual.containers import Horizontal
from textual.events import Key
from textual.message import Message
from textual.widgets import Input, Static


class FilterLine(Horizontal):
    """An empty line until `begin`; one screen line high in any case, so that nothing moves."""

    DEFAULT_CSS = """
    FilterLine { height: 1; }
    FilterLine > * { display: none; }
    FilterLine.-shown > * { display: block; }
    FilterLine Static { width: auto; padding: 0 1; color: $accent; }
    FilterLine Input { width: 1fr; background: $panel; }
    """

    class Changed(Message):
        """Other words are looked for: all of them must be there, in small letters."""

        def __init__(self, words: tuple[str, ...]) -> None:
            super().__init__()
            self.words = words

    class Left(Message):
        """The person is done typing."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.words: tuple[str, ...] = ()
        self._box: Input | None = None

    def begin(self) -> None:
        """Show it, and type into it from now on."""
        if self._box is None:  # most never look for anything
            self._box = Input(compact=True)
            self._box.cursor_blink = False
            self.mount(Static("find", markup=False), self._box)
        self.add_class("-shown")
        self._box.focus()

    def clear(self) -> None:
        """Nothing is looked for any more."""
        if self._box is not None:
            self._box.value = ""
        self.remove_class("-shown")
        self._look_for("")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._look_for(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._leave()

    def on_key(self, event: Key) -> None:
        if event.key in ("down", "up"):
            event.stop()
            self._leave()

    def _leave(self) -> None:
        if not self.words:
            self.clear()
        self.post_message(self.Left())

    def _look_for(self, text: str) -> None:
        words = tuple(text.lower().split())
        if words != self.words:
            self.words = words
            self.post_message(self.Changed(words))
