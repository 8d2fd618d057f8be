"""Profiles and runs: where the app begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.app import SystemCommand

from aozora_tui import runs
from aozora_tui.keymap import SCOPES, bindings
from aozora_tui.keys.key import Key
from aozora_tui.run_order import ORDERS
from aozora_tui.screens import steer
from aozora_tui.screens.base import Kind
from aozora_tui.screens.home_lists import DEMO
from aozora_tui.screens.home_notes import HomeNotes
from aozora_tui.screens.rows import Rows
from aozora_tui.screens.words import cut_path, is_live
from engine.contract import places
from engine.contract.problems import ProfileError
from engine.contract.rundir import RunDir

if TYPE_CHECKING:
    from engine.contract.check import Checked

_ON_PROFILES = frozenset({"start", "edit", "rename", "editor"})
_ON_RUNS = frozenset({"mark", "compare", "sort", "tag", "note"})
_NOT_TYPING = frozenset(key.action for key in SCOPES["home"]) - {"clear", "switch"}
TO_BEGIN = "Press {} to start the demo: it builds a small model and trains it to its end."


class HomeScreen(HomeNotes):
    """Keys act on the entry under the cursor of the list that has the focus."""

    BINDINGS = bindings("home")

    def resting(self) -> tuple[str, Kind]:
        """What is wrong with the selected run, or what the selected profile is; else where to begin."""
        if self.filter.words and not self.profiles.lines and not self.runs_list.lines:
            shown = self.key_name("home.clear")
            return (
                f"Nothing has that in its name, its base, its tags or its note: {shown} shows everything again.",
                "warning",
            )
        if self.marked:
            return self.told_of_marks(), "plain"
        selected = self._selected() if self.runs_list.has_focus else None
        if selected is not None and (told := self.told_of(selected))[0]:
            return told
        if not self._runs.runs:
            return TO_BEGIN.format(self.key_name("home.demo")), "good"
        path = self.profiles.key if self.profiles.has_focus else None
        if path is not None and self.is_recipe(Path(path)):
            return f"A recipe, read-only: {self.key_name('home.new')} makes a profile of your own from it.", "plain"
        return f"Your profiles are in {cut_path(places.profiles_folder(), 56)}", "plain"

    def active_keys(self) -> list[Key]:
        """Where nothing was done yet the demo comes first; of a run only its profile is copied, which is seldom."""
        ranks = {"home.demo": -1} if self.first_start else {}
        if self._on_runs:
            ranks["home.duplicate"] = 13
        return [dataclasses.replace(key, rank=ranks.get(key.id, key.rank)) for key in super().active_keys()]

    def offers(self, action: str) -> bool:
        if self.typing:
            return action not in _NOT_TYPING
        if action == "clear":
            return bool(self.filter.words)
        if action == "put_back":
            return bool(self._thrown)
        if action in _ON_RUNS:
            return self._on_runs
        return action not in _ON_PROFILES or not self._on_runs

    def more_commands(self) -> Iterable[SystemCommand]:
        run = self._selected_run()
        if run is not None and not is_live(runs.standing(run)) and self._can_resume(run):
            help = "Start it again from its newest checkpoint."
            yield SystemCommand(f"Resume {run.name}", help, partial(steer.restart, self, run))
        for order, words in ORDERS.items():
            yield SystemCommand(f"Sort runs: {words}", "List the runs in that order.", partial(self.sort_by, order))

    def action_open(self) -> None:
        if self.runs_list.has_focus:
            if (selected := self._selected()) is not None and selected.state == "unreadable":
                self.rest()
            elif (run := self._selected_run()) is not None:
                self.aozora.watch_run(run)
        else:
            self.action_edit()

    def action_edit(self) -> None:
        if (path := self._selected_profile()) is not None:
            self.open_profile(path)

    def action_start(self) -> None:
        if (path := self._selected_profile()) is not None:
            self.look_before_start(path)

    def action_demo(self) -> None:
        path = self.aozora.recipes / DEMO
        if path.is_file():
            self.start(path)
        else:
            self.say(f"{path} is missing: install the program again", "error")

    def action_editor(self) -> None:
        """The file as text, in the person's own editor; the app waits behind it."""
        from aozora_tui.editor import edit_behind

        path = self._selected_profile()
        if path is None:
            return
        if self.is_recipe(path):
            self.say(f"A recipe is read-only: press {self.key_name('home.duplicate')} to copy it first", "warning")
            return
        try:
            edit_behind(self.app, path)
        except ValueError as error:
            self.say(str(error), "warning")
            return
        self.reload_profiles()

    def action_cards(self) -> None:
        from aozora_tui.screens.card import CardScreen

        self.app.push_screen(CardScreen())

    def action_filter(self) -> None:
        self.filter.begin()

    def action_clear(self) -> None:
        if self.typing or self.filter.words:
            self.on_filter_line_left()
            self.filter.clear()

    def action_switch(self) -> None:
        if self.typing:
            self.on_filter_line_left()
        else:
            (self.profiles if self.runs_list.has_focus else self.runs_list).focus()

    def look_before_start(self, path: Path) -> None:
        """The page that says what a run will take; launch it from there."""
        from aozora_tui.screens.start import StartScreen
        from engine.contract.profile import read_text

        try:
            text = read_text(path)
        except ProfileError as error:
            self.say(str(error.problems[0]), "error")
            return

        page = StartScreen(path, text, mend=partial(self.open_profile, path))

        def answered(start: bool | None) -> None:
            if not start:
                return
            if not path.is_file() or read_text(path) != page.text:
                again = self.key_name("home.start")
                self.say(f"{path.name} was changed since it was checked: {again} looks at it again", "warning")
            else:
                steer.launch(self, path)

        self.app.push_screen(page, answered)

    def start(self, path: Path) -> None:
        """Launch if nothing forbids it; else show what does."""
        self.say(f"Checking {path.name}")
        self._check_and_start(path)

    @work(thread=True, exclusive=True, group="start", exit_on_error=False)
    def _check_and_start(self, path: Path) -> None:
        checked = steer.check_for_start(self, path)
        if checked is not None:
            self.app.call_from_thread(self._checked, path, checked)

    def _checked(self, path: Path, checked: Checked) -> None:
        if checked.ok:
            steer.launch(self, path)
        else:
            self.look_before_start(path)

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        event.stop()
        self.action_open()

    @staticmethod
    def _can_resume(run: RunDir) -> bool:
        try:
            return not runs.why_not_resume(run)
        except (OSError, ValueError):
            return False
