"""One question over a screen, answered with one key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.screen import Screen
from textual.widgets import Static

from aozora_tui.keymap import bindings
from aozora_tui.screens.panel import Panel
from aozora_tui.screens.words import plain
from engine.contract.problems import Problem

WIDTH = 76  # columns of the panel, where there is room; screens.tcss says so too


@dataclass(frozen=True)
class Answer:
    """`value` is what the asker gets; `key` chooses it, and so does enter the first answer, unless that is `harmful`:
    what it takes away cannot be had back."""

    key: str
    label: str
    value: str
    harmful: bool = False


class Ask(Panel[str | None]):
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

    def on_resize(self) -> None:
        """What there is no room for is scrolled; the question and its answers are always seen."""
        keys, width = self._keys(), self._width
        self.query_one("#ask-keys", Static).update(keys)
        around = 3 + len(Content(self.question).wrap(width)) + keys.plain.count("\n") + 1  # a frame, a blank line
        self.query_one("#ask-body").styles.max_height = max(self.app.size.height * 8 // 10 - around, 1)

    @property
    def _width(self) -> int:
        """Inside the frame."""
        return min(WIDTH, self.app.size.width * 94 // 100) - 4

    @property
    def _by_enter(self) -> Answer | None:
        return self.answers[0] if self.answers and not self.answers[0].harmful else None

    def _keys(self) -> Content:
        """Every answer whole, in as many lines as they need."""
        width = self._width
        lines: list[list[tuple[str, str]]] = [[]]
        names = [panel_key(self, "ask.accept") if each is self._by_enter else each.key for each in self.answers]
        parts = [(name, f" {each.label}") for name, each in zip(names, self.answers, strict=True)]
        for name, label in [*parts, (panel_key(self, "ask.cancel"), " cancel" if self.answers else " close")]:
            used = sum(len(text) for text, _ in lines[-1])
            if used and used + len(name) + len(label) > width:
                lines.append([])
            lines[-1] += [(name, "bold $accent"), (f"{label}   ", "")]
        return Content("\n").join([Content.assemble(*line).rstrip() for line in lines])

    def on_key(self, event: Key) -> None:
        chosen = next((answer for answer in self.answers if event.key == answer.key), None)
        if chosen is not None:
            event.stop()
            self.dismiss(chosen.value)

    def action_accept(self) -> None:
        if self._by_enter is not None or not self.answers:
            self.dismiss(self._by_enter.value if self._by_enter else None)

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
