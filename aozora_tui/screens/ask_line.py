"""Asks for one line."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from aozora_tui.keymap import bindings
from aozora_tui.screens.ask import panel_key
from aozora_tui.screens.panel import Panel
from aozora_tui.screens.words import plain, same


class AskLine(Panel[str | None]):
    """Gives what was typed, or None for esc. `wrong` says what is wrong with that, in a few words, or ""; `about`
    stands below the field, `accept` beside the key that takes the line."""

    BINDINGS = bindings("ask")
    AUTO_FOCUS = "#line"
    DEFAULT_CSS = """
    #line { background: $panel; }
    #line-wrong { height: 1; margin-bottom: 1; }
    """

    def __init__(
        self,
        title: str,
        first: str,
        *,
        wrong: Callable[[str], str],
        about: str,
        accept: str,
        selected: bool = True,
    ) -> None:
        """`selected`: what is typed first replaces what is there; else it is put behind that."""
        super().__init__()
        self.question, self.first, self.wrong, self.about, self.accept = title, first, wrong, about, accept
        self.selected = selected

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            yield Static(Content.styled(self.question, "bold"), id="ask-title")
            box = Input(self.first, compact=True, id="line", select_on_focus=self.selected)
            box.cursor_blink = False
            yield box
            yield Static(self._outcome(self.first), id="line-wrong")
            yield Static(plain(self.about), markup=False, classes="ask-line")
            accept, cancel = ("enter", "bold $accent"), (panel_key(self, "ask.cancel"), "bold $accent")
            yield Static(Content.assemble(accept, f" {self.accept}   ", cancel, " cancel"), id="ask-keys")

    def meant(self, text: str) -> str:
        """By what was typed."""
        return text.strip()

    def on_input_changed(self, event: Input.Changed) -> None:
        line, outcome = self.query_one("#line-wrong", Static), self._outcome(event.value)
        if not same(line.content, outcome):
            line.update(outcome, layout=False)

    def on_input_submitted(self) -> None:
        self.action_accept()

    def action_accept(self) -> None:
        text = self.meant(self.query_one("#line", Input).value)
        if self.wrong(text):
            self.query_one("#line", Input).focus()  # what is wrong stands under it
        else:
            self.dismiss(text)

    def action_cancel(self) -> None:
        self.dismiss(None)

    def _outcome(self, text: str) -> Content:
        wrong = self.wrong(self.meant(text))
        return Content.styled(f"! {wrong}", "$error") if wrong else Content()
