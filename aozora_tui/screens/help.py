"""Every key of a screen, from the keymap."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from aozora_tui.keymap import bindings
from aozora_tui.own_keys import Keys
from aozora_tui.screens.panel import Panel

HEADINGS = {
    "app": "Everywhere",
    "home": "Profiles and runs",
    "start": "Before a start",
    "list": "In a list",
    "profile": "Profile",
    "choice": "On a choice",
    "differ": "Comparing",
    "picker": "Choosing",
    "layers": "Layers",
    "tree": "In the tree",
    "curves": "Curves",
    "data": "Pictures and captions",
    "run": "Run",
    "charts": "Charts",
    "compare": "Comparing runs",
    "pick": "Choosing runs",
    "samples": "The previews of a run",
    "numbers": "Numbers",
    "card": "Card",
    "settings": "Settings",
    "trash": "Trash",
    "log": "Log",
    "health": "Findings and warnings",
}


class Help(Panel[None]):
    """Scrolls; closed with esc."""

    BINDINGS = bindings("help")
    AUTO_FOCUS = "#ask-body"

    def __init__(self, scopes: Sequence[str], keys: Keys) -> None:
        super().__init__()
        self.scopes, self.keys = tuple(scopes), keys

    def compose(self) -> ComposeResult:
        with Vertical(id="ask", classes="help"):
            yield Static(Content.styled("Keys", "bold"), id="ask-title")
            with VerticalScroll(id="ask-body"):
                for scope in self.scopes:
                    heading = HEADINGS.get(scope, scope.capitalize())
                    yield Static(Content.styled(heading, "bold $accent"), classes="help-heading")
                    for key in self.keys.scope(scope):
                        with Horizontal(classes="help-line"):
                            yield Static(Content.styled("  ".join(key.names), "bold"), classes="help-keys")
                            yield Static(key.help, classes="help-text", markup=False)
            yield Static(Content.assemble((self.keys.name("help.close"), "bold $accent"), " close"), id="ask-keys")

    def action_close(self) -> None:
        self.dismiss()

    def action_scroll(self, by: int) -> None:
        self._body.scroll_relative(y=by, animate=False)

    def action_page(self, by: int) -> None:
        self._body.scroll_relative(y=by * max(self._body.size.height - 1, 1), animate=False)

    def action_end(self, which: int) -> None:
        self._body.scroll_to(y=which * self._body.max_scroll_y, animate=False)

    @property
    def _body(self) -> VerticalScroll:
        return self.query_one("#ask-body", VerticalScroll)
