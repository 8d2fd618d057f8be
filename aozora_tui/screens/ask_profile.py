"""Asks which profile or recipe to compare with."""

from __future__ import annotations

from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.widgets import Input, Static

from aozora_tui.keymap import bindings
from aozora_tui.screens.ask import panel_key
from aozora_tui.screens.panel import Panel
from aozora_tui.screens.rows import Column, Line, Rows
from aozora_tui.text import printable

ELSEWHERE = Path()  # stands for a file that is neither
COLUMNS = (Column("profile", 0), Column("", 7))
_MOVES = {"up": -1, "down": 1, "pageup": -6, "pagedown": 6}


class AskProfile(Panel[Path | None]):
    """Gives the file, ELSEWHERE, or None for esc. Whatever is typed looks for a name; no letter is a command."""

    BINDINGS = bindings("ask")
    AUTO_FOCUS = "#profile-name"
    DEFAULT_CSS = """
    AskProfile { align: center middle; background: transparent; }
    AskProfile Rows { background: $surface; height: 9; margin-bottom: 1; }
    AskProfile Input { background: $background; margin-bottom: 1; }
    """

    def __init__(self, own: Path, recipes: Path, *, but: Path) -> None:
        super().__init__()
        mine = [(path, "yours") for path in sorted(own.glob("*.toml")) if path != but]
        self._files = [*mine, *((path, "recipe") for path in sorted(recipes.glob("*.toml")) if path != but)]

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            yield Static(Content.styled("Compare with which profile?", "bold"), id="ask-title")
            box = Input(placeholder="a part of its name", compact=True, id="profile-name")
            box.cursor_blink = False
            yield box
            yield Rows(COLUMNS, empty_text="None has that in its name.", id="profiles-to-compare")
            accept, cancel = ("enter", "bold $accent"), (panel_key(self, "ask.cancel"), "bold $accent")
            yield Static(Content.assemble(accept, " compare   ", cancel, " cancel"), id="ask-keys")

    @property
    def rows(self) -> Rows:
        return self.query_one(Rows)

    def on_mount(self) -> None:
        self._show("")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._show(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_accept()

    def on_key(self, event: Key) -> None:
        if event.key in _MOVES:
            event.stop()
            self.rows.action_move(_MOVES[event.key])

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        event.stop()
        self.action_accept()

    def action_accept(self) -> None:
        if (key := self.rows.key) is not None:
            self.dismiss(Path(key) if key else ELSEWHERE)

    def action_cancel(self) -> None:
        self.dismiss(None)

    def _show(self, text: str) -> None:
        words = text.lower().split()
        found = [(path, kind) for path, kind in self._files if all(word in path.stem.lower() for word in words)]
        lines = [Line(str(path), ((printable(path.stem), "plain"), (kind, "dim"))) for path, kind in found]
        elsewhere = Line("", (("another file ...", "dim"), ("", "dim")))
        self.rows.set_lines([*lines, elsewhere])
