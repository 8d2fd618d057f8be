"""One question over a screen, answered with one key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from aozora_tui.keymap import bindings
from aozora_tui.screens.words import plain
from engine.contract.problems import Problem


@dataclass(frozen=True)
class Answer:
    """`value` is what the asker gets; `key` chooses it, the first answer also enter."""

    key: str
    label: str
    value: str


class Ask(ModalScreen[str | None]):
    """Gives the value of the answer, or None for esc."""

    BINDINGS = bindings("ask")
    AUTO_FOCUS = "#ask-body"

    def __init__(self, title: str, body: Iterable[Content | str], answers: Sequence[Answer]) -> None:
        super().__init__()
        self.question, self.lines, self.answers = title, list(body), tuple(answers)

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            yield Static(Content.styled(self.question, "bold"), id="ask-title")
            with VerticalScroll(id="ask-body"):
                for line in self.lines:
                    yield Static(line if isinstance(line, Content) else plain(line), markup=False, classes="ask-line")
            yield Static(self._keys(), id="ask-keys")

    def _keys(self) -> Content:
        parts: list[str | tuple[str, str]] = []
        for index, answer in enumerate(self.answers):
            name = panel_key(self, "ask.accept") if index == 0 else answer.key
            parts += [(name, "bold $accent"), f" {answer.label}   "]
        cancel = (panel_key(self, "ask.cancel"), "bold $accent")
        return Content.assemble(*parts, cancel, " cancel" if self.answers else " close")

    def on_key(self, event: Key) -> None:
        chosen = next((answer for answer in self.answers if event.key == answer.key), None)
        if chosen is not None:
            event.stop()
            self.dismiss(chosen.value)

    def action_accept(self) -> None:
        self.dismiss(self.answers[0].value if self.answers else None)

    def action_cancel(self) -> None:
        self.dismiss(None)


def panel_key(panel: Screen[Any], id: str) -> str:
    """What to press for a command of the keymap, as a person reads it."""
    from aozora_tui.app import AozoraApp

    assert isinstance(panel.app, AozoraApp)
    return panel.app.settings.keys.name(id)


def problem_lines(problems: Iterable[Problem]) -> list[Content]:
    """Each problem with where it is and what to do, errors first."""
    ordered = sorted(problems, key=lambda problem: problem.severity)
    words = {"error": ("error ", "$error"), "warning": ("note  ", "$warning")}
    return [
        Content.assemble(
            words[problem.severity],
            (problem.path, "bold"),
            f"  {problem.text}. ",
            (problem.remedy, "$accent"),
        )
        for problem in ordered
    ]
