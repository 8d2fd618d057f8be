"""A list to choose one entry from, with a filter over it and a word about the entry under the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from aozora_tui.keymap import bindings
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.rows import Column, Line, Rows


class Chooser(AozoraScreen[str | None]):
    """Gives the chosen entry's key, or None. In the list letters are keys, in the filter they are text; arrows move in
    both."""

    DEFAULT_CSS = """
    Chooser #filter { height: 1; margin: 1 1 0 1; background: $surface; }
    Chooser #filter:focus { background: $panel; }
    Chooser #choices { height: 1fr; margin: 0 1; }
    Chooser #about { height: 5; padding: 0 1; }
    """
    scopes: ClassVar[tuple[str, ...]] = ("picker",)
    BINDINGS = bindings("picker")
    AUTO_FOCUS = "#choices"
    columns: ClassVar[Sequence[Column]] = ()
    nothing: ClassVar[str] = "Nothing is called so."
    hint: ClassVar[str] = "/ filters by name"

    def body(self) -> Iterable[Widget]:
        box = Input(id="filter", compact=True, placeholder=self.hint, select_on_focus=False)
        box.cursor_blink = False
        yield box
        yield Rows(self.columns, empty_text=self.nothing, id="choices")
        yield Static(id="about", markup=False)

    @property
    def rows(self) -> Rows:
        return self.query_one("#choices", Rows)

    @property
    def filter_text(self) -> str:
        return self.query_one("#filter", Input).value

    def matching(self, text: str) -> Sequence[Line]:
        """The entries that `text` leaves."""
        raise NotImplementedError

    def about(self, key: str | None) -> Content:
        """What there is to say of an entry."""
        raise NotImplementedError

    def fill(self) -> None:
        self.rows.set_lines(self.matching(self.filter_text))
        self.show_about()

    def refill(self) -> None:
        """From the top."""
        self.rows.set_lines(())
        self.rows.cursor = 0
        self.fill()

    def show_about(self) -> None:
        self.set_line("#about", self.about(self.rows.key))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.refill()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_choose()

    def on_rows_moved(self) -> None:
        self.show_about()

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        event.stop()
        self.action_choose()

    def action_choose(self) -> None:
        if self.rows.key is not None:
            self.dismiss(self.rows.key)

    def action_filter(self) -> None:
        self.query_one("#filter").focus()

    def action_move(self, by: int) -> None:
        self.rows.action_move(by)

    def action_back(self) -> None:
        """What was filtered comes back first; then the list; then nothing is chosen."""
        box = self.query_one("#filter", Input)
        if box.value:
            box.value = ""
        elif box.has_focus and self.AUTO_FOCUS != "#filter":
            self.rows.focus()
        else:
            self.dismiss(None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002  (Textual's)
        if action in ("take", "out", "into"):
            return False
        return action != "filter" or not self.typing
