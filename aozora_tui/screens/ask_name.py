"""Asks for the name of a profile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from aozora_tui.keymap import bindings
from aozora_tui.screens.ask import panel_key
from aozora_tui.screens.words import plain, same

_LONGEST = 120  # bytes; the names of its runs add the time


class AskName(ModalScreen[str | None]):
    """Gives the name, or None for esc. `wrong` says what is wrong with a name, in a few words, or ""; `about` stands
    below the field, `accept` beside the key that takes the name."""

    BINDINGS = bindings("ask")
    AUTO_FOCUS = "#name"
    DEFAULT_CSS = """
    #name { background: $panel; }
    #name-wrong { height: 1; margin-bottom: 1; }
    """

    def __init__(self, title: str, name: str, *, wrong: Callable[[str], str], about: str, accept: str) -> None:
        super().__init__()
        self.question, self.first, self.wrong, self.about, self.accept = title, name, wrong, about, accept

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            yield Static(Content.styled(self.question, "bold"), id="ask-title")
            box = Input(self.first, compact=True, id="name", select_on_focus=True)
            box.cursor_blink = False
            yield box
            yield Static(self._outcome(self.first), id="name-wrong")
            yield Static(plain(self.about), markup=False, classes="ask-line")
            accept, cancel = ("enter", "bold $accent"), (panel_key(self, "ask.cancel"), "bold $accent")
            yield Static(Content.assemble(accept, f" {self.accept}   ", cancel, " cancel"), id="ask-keys")

    def on_input_changed(self, event: Input.Changed) -> None:
        line, outcome = self.query_one("#name-wrong", Static), self._outcome(event.value)
        if not same(line.content, outcome):
            line.update(outcome, layout=False)

    def on_input_submitted(self) -> None:
        self.action_accept()

    def action_accept(self) -> None:
        name = bare(self.query_one("#name", Input).value)
        if self.wrong(name):
            self.query_one("#name", Input).focus()  # what is wrong stands under it
        else:
            self.dismiss(name)

    def action_cancel(self) -> None:
        self.dismiss(None)

    def _outcome(self, text: str) -> Content:
        wrong = self.wrong(bare(text))
        return Content.styled(f"! {wrong}", "$error") if wrong else Content()


def bare(name: str) -> str:
    """What was typed, without the ending that every profile has."""
    return name.strip().removesuffix(".toml")


def wrong_with(name: str, folder: Path, *, now: str = "") -> str:
    """What forbids a profile of that name in `folder`, or "". `now` is the name it has already."""
    if not name:
        return "write a name"
    if name.startswith(".") or "/" in name or not name.isprintable():
        return "a name has no / and does not begin with a point"
    if len(name.encode()) > _LONGEST:
        return f"a name has {_LONGEST} bytes at the most"
    if name != now and (folder / f"{name}.toml").exists():
        return f"there is a profile called {name} already"
    return ""
