"""What is set, where it comes from, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui import editor, settings_file
from aozora_tui.keymap import bindings
from aozora_tui.screens.ask import problem_lines
from aozora_tui.screens.base import AozoraScreen, Kind
from aozora_tui.screens.rows import GAP, Column, Line, Rows
from aozora_tui.screens.words import counted, cut_path, plain
from aozora_tui.settings_report import effective, in_words
from engine.contract.problems import errors

COLUMNS = (Column("Setting", 18), Column("Value", 0), Column("From", 16))


class SettingsScreen(AozoraScreen[None]):
    """A table to read; the file itself is changed in the person's editor."""

    scopes: ClassVar[tuple[str, ...]] = ("settings", "list")
    BINDINGS = bindings("settings")
    AUTO_FOCUS = "#settings"

    def body(self) -> Iterable[Widget]:
        yield VerticalScroll(id="wrong")
        yield Rows(COLUMNS, empty_text="", id="settings")

    def on_mount(self) -> None:
        self._show()

    def resting(self) -> tuple[str, Kind]:
        path = self.aozora.settings.file
        if path is None:
            return "", "plain"
        scroll = "Tab goes to the problems. " if self.aozora.settings.problems else ""
        return f"{scroll}{'File:' if path.exists() else 'There is no file yet:'} {cut_path(path, 44)}", "plain"

    def action_back(self) -> None:
        self.dismiss()

    def action_edit(self) -> None:
        """The app waits behind the editor."""
        try:
            editor.edit_behind(self.app, settings_file.made(self.aozora.settings))
        except (OSError, ValueError) as error:
            self.say(str(error), "warning")
            return
        self.aozora.use(self.aozora.settings.read_again())
        self._show()
        self.say("Read again: keys and theme hold from now on, the rest from the next start.", "good")

    def on_resize(self) -> None:
        self._show()

    def _show(self) -> None:
        settings = self.aozora.settings
        wrong = len(errors(settings.problems))
        self.set_title(("Settings  ", "bold"), (counted(wrong, "problem") if wrong else "", "$error"))
        box = self.query_one("#wrong")
        box.remove_children()
        box.mount(*(Static(line, markup=False, classes="ask-line") for line in problem_lines(settings.problems)))
        box.display = bool(settings.problems)
        self.query_one("#settings", Rows).set_lines(
            [_line(name, self._in_words(name, value), source) for name, value, source in effective(settings)]
        )
        self.rest()
        self.update_keys()

    def _in_words(self, name: str, value: Any) -> str:
        """Of a folder the end, where there is no room for all of it."""
        if not name.startswith("folders."):
            return plain(in_words(name, value))
        room = self.size.width - 2 - sum(column.width + GAP for column in COLUMNS) - 2
        return cut_path(Path(str(value)), max(room, 10))


def _line(name: str, value: str, source: str) -> Line:
    """What is not the default stands out."""
    style = "dim" if source == "default" else "plain"
    return Line(name, ((name.removeprefix("keys."), style), (value, style), (source, style)))
