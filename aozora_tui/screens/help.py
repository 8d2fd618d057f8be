"""Every key of a screen, from the keymap."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from aozora_tui.keymap import SCOPES, bindings

HEADINGS = {
    "app": "Everywhere",
    "home": "Profiles and runs",
    "list": "In a list",
    "profile": "Profile",
    "choice": "On a choice",
    "layers": "Layers",
    "tree": "In the tree",
    "run": "Run",
    "log": "Log",
}


class Help(ModalScreen[None]):
    """Scrolls; closed with esc."""

    BINDINGS = bindings("help")
    AUTO_FOCUS = "#ask-body"

    def __init__(self, scopes: Sequence[str]) -> None:
        super().__init__()
        self.scopes = tuple(scopes)

    def compose(self) -> ComposeResult:
        with Vertical(id="ask", classes="help"):
            yield Static(Content.styled("Keys", "bold"), id="ask-title")
            with VerticalScroll(id="ask-body"):
                for scope in self.scopes:
                    yield Static(Content.styled(HEADINGS[scope], "bold $accent"), classes="help-heading")
                    for key in SCOPES[scope]:
                        with Horizontal(classes="help-line"):
                            yield Static(Content.styled("  ".join(key.names), "bold"), classes="help-keys")
                            yield Static(key.help, classes="help-text", markup=False)
            yield Static(Content.assemble(("esc", "bold $accent"), " close"), id="ask-keys")

    def action_close(self) -> None:
        self.dismiss()
