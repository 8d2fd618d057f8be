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
from aozora_tui.settings_changes import awaited, told, without_ctrl_c
from aozora_tui.settings_report import effective, in_words
from engine.contract.problems import errors

COLUMNS = (Column("Setting", 18), Column("Value", 0), Column("From", 16))


class SettingsScreen(AozoraScreen[None]):
    """A table to read; the file itself is changed in the person's editor, or in any other program meanwhile."""

    scopes: ClassVar[tuple[str, ...]] = ("settings", "list")
    BINDINGS = bindings("settings")
    AUTO_FOCUS = "#settings"
    _stamp: tuple[int, int] | None = None

    def body(self) -> Iterable[Widget]:
        yield VerticalScroll(id="wrong")
        yield Rows(COLUMNS, empty_text="", id="settings")

    def on_mount(self) -> None:
        self._read_again()

    def tick(self) -> None:
        """The file may change under the screen."""
        if self._stamp != self._stamp_now():
            self._read_again()

    def resting(self) -> tuple[str, Kind]:
        path = self.aozora.settings.file
        if path is None:
            return "", "plain"
        scroll = "Tab goes to the problems. " if self.aozora.settings.problems else ""
        if other := without_ctrl_c(self.aozora.settings):
            scroll += f"{other[:1].upper()}{other[1:]}. "
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
        self._read_again(nothing="Nothing was changed")

    def _read_again(self, *, nothing: str = "") -> None:
        """Say what is other than before, and whether something is wrong; `nothing` if neither is."""
        before = self.aozora.settings
        self._stamp = self._stamp_now()
        now = before.read_again()
        said = told(before, now)
        if said or now.problems != before.problems:
            self.aozora.use(now)
        self._show()
        wrong = len(errors(now.problems))
        if wrong and (said or nothing or now.problems != before.problems):
            many = "One setting is" if wrong == 1 else f"{wrong} settings are"
            self.say(f"{many} wrong and left out, as it says above{f'; {said}' if said else ''}", "warning")
        elif said or nothing:
            self.say(said or nothing, "good" if said else "plain")

    def _stamp_now(self) -> tuple[int, int] | None:
        path = self.aozora.settings.file
        try:
            found = path.stat() if path is not None else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size) if found is not None else None

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
            [_line(name, self._in_words(name, value), source) for name, value, source in self._rows()]
        )
        self.rest()
        self.update_keys()

    def _rows(self) -> list[tuple[str, Any, str]]:
        """What holds, or will."""
        settings = self.aozora.settings
        later = awaited(self.aozora.started_with, settings)
        found = []
        for name, value, source in effective(settings):
            if name in later:
                value = settings.values[name].value if name in settings.values else value
                source = "next start"
            found.append((name, value, source))
        return found

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
