"""Asks which recipe a new profile begins as."""

from __future__ import annotations

import contextlib
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from aozora_tui.keymap import bindings
from aozora_tui.screens.ask import panel_key
from aozora_tui.screens.home_profiles import purpose
from aozora_tui.screens.panel import Panel
from aozora_tui.screens.rows import Column, Line, Rows
from aozora_tui.screens.words import plain, same

_NAMES = 24  # columns


class AskRecipe(Panel[Path | None]):
    """Gives the recipe's file, or None for esc. The sentence that a recipe begins with stands beside its name, all
    that it says of itself below."""

    BINDINGS = bindings("ask")
    AUTO_FOCUS = "#recipes"
    DEFAULT_CSS = """
    AskRecipe #ask { width: 108; }
    AskRecipe Rows { background: $surface; margin-bottom: 1; }
    AskRecipe #purpose { height: 5; margin-bottom: 1; }
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._purposes: dict[str, tuple[str, str]] = {}
        for path in sorted(folder.glob("*.toml")):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                self._purposes[str(path)] = purpose(path.read_text(encoding="utf-8"))

    def compose(self) -> ComposeResult:
        longest = max((len(Path(key).stem) for key in self._purposes), default=0)
        with Vertical(id="ask"):
            yield Static(Content.styled("A new profile, from which recipe?", "bold"), id="ask-title")
            columns = (Column("recipe", min(longest, _NAMES)), Column("for", 0))
            rows = Rows(columns, empty_text="No recipe: install the program again.", id="recipes")
            rows.styles.height = min(len(self._purposes) + 1, 9)
            yield rows
            yield Static(markup=False, id="purpose")
            accept, cancel = ("enter", "bold $accent"), (panel_key(self, "ask.cancel"), "bold $accent")
            yield Static(Content.assemble(accept, " choose, then name it   ", cancel, " cancel"), id="ask-keys")

    def on_mount(self) -> None:
        lines = [Line(key, ((Path(key).stem, "plain"), (said[0], "dim"))) for key, said in self._purposes.items()]
        self.query_one(Rows).set_lines(lines)
        self._show()

    def on_rows_moved(self) -> None:
        self._show()

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        event.stop()
        self.action_accept()

    def action_accept(self) -> None:
        key = self.query_one(Rows).key
        self.dismiss(Path(key) if key else None)

    def action_cancel(self) -> None:
        self.dismiss(None)

    def _show(self) -> None:
        said = self._purposes.get(self.query_one(Rows).key or "", ("", ""))[1]
        line, text = self.query_one("#purpose", Static), Content(plain(said))
        if not same(line.content, text):
            line.update(text, layout=False)
