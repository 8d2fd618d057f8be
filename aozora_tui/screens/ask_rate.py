"""Asks what the learning rate of a run is multiplied with from now on."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from aozora_tui.keymap import bindings
from aozora_tui.screens.ask import panel_key
from aozora_tui.screens.panel import Panel
from aozora_tui.screens.words import same
from aozora_tui.text import factor, read_factor
from aozora_tui.widgets.scale import short

ABOUT = "1: as scheduled; 0.5: half of it; 0: nothing is learnt. It holds until you change it, in a resumed run too."


class AskRate(Panel[float | None]):
    """Gives the factor, or None for esc. `planned` is the schedule's rate at the last step, 0 if there was none."""

    BINDINGS = bindings("ask")
    AUTO_FOCUS = "#rate"

    def __init__(self, name: str, *, now: float, planned: float) -> None:
        super().__init__()
        self.run_name, self.now, self.planned = name, now, planned

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            yield Static(Content.styled(f"Learning rate of {self.run_name}", "bold"), id="ask-title")
            box = Input(factor(self.now), compact=True, id="rate", select_on_focus=True)
            box.cursor_blink = False
            yield box
            yield Static(self._outcome(factor(self.now)), id="rate-outcome")
            yield Static(ABOUT, markup=False, classes="ask-line")
            accept, cancel = ("enter", "bold $accent"), (panel_key(self, "ask.cancel"), "bold $accent")
            yield Static(Content.assemble(accept, " from the next step on   ", cancel, " cancel"), id="ask-keys")

    def on_input_changed(self, event: Input.Changed) -> None:
        line, outcome = self.query_one("#rate-outcome", Static), self._outcome(event.value)
        if not same(line.content, outcome):
            line.update(outcome, layout=False)

    def on_input_submitted(self) -> None:
        self.action_accept()

    def action_accept(self) -> None:
        try:
            self.dismiss(read_factor(self.query_one("#rate", Input).value))
        except ValueError:
            self.query_one("#rate", Input).focus()  # what is wrong stands under it

    def action_cancel(self) -> None:
        self.dismiss(None)

    def _outcome(self, text: str) -> Content:
        try:
            chosen = read_factor(text)
        except ValueError as error:
            return Content.styled(f"! {error}", "$error")
        if not self.planned:
            return Content.styled("times what the schedule says", "$foreground 60%")
        rate = short(self.planned, 3)
        return Content.styled(f"x {rate} as scheduled = {short(chosen * self.planned, 3)}", "$foreground 60%")
