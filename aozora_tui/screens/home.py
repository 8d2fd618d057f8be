"""Profiles and runs: where the app begins."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import SystemCommand
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui import runs
from aozora_tui.keymap import bindings
from aozora_tui.runs import RunSummary
from aozora_tui.screens import steer
from aozora_tui.screens.ask import Answer, Ask, problem_lines
from aozora_tui.screens.base import AozoraScreen, Kind
from aozora_tui.screens.home_lines import PROFILE_COLUMNS, RUN_COLUMNS, profile_line, run_line
from aozora_tui.screens.rows import Rows
from aozora_tui.screens.words import counted, cut_path, is_live, plain
from engine.contract import places
from engine.contract.problems import errors
from engine.contract.rundir import RunDir, all_runs

if TYPE_CHECKING:
    from engine.contract.check import Checked

DEMO = "demo.toml"
ON_PROFILES = {"start", "edit", "duplicate", "editor"}
# Of these nothing changes without a file that does.
ENDED = {"stopped", "finished", "failed", "crashed"}


class HomeScreen(AozoraScreen[None]):
    """Two lists; keys act on the entry under the cursor of the list that has the focus."""

    scopes: ClassVar[tuple[str, ...]] = ("home", "list")
    BINDINGS = bindings("home")
    AUTO_FOCUS = "#profiles"

    def __init__(self) -> None:
        super().__init__()
        self._summaries: dict[str, RunSummary] = {}  # by the folder's path
        self._signatures: dict[str, tuple[int, ...]] = {}
        self._begun = False

    def body(self) -> Iterable[Widget]:
        with Container(id="home"):
            with Vertical(id="profiles-part"):
                yield Static("Profiles", classes="heading", markup=False)
                yield Rows(PROFILE_COLUMNS, empty_text="No profile yet.", id="profiles")
            with Vertical(id="runs-part"):
                yield Static("Runs", classes="heading", id="runs-heading", markup=False)
                yield Rows(RUN_COLUMNS, empty_text=self._no_runs(), id="runs")

    @property
    def profiles(self) -> Rows:
        return self.query_one("#profiles", Rows)

    @property
    def runs_list(self) -> Rows:
        return self.query_one("#runs", Rows)

    def on_mount(self) -> None:
        self.set_title((" Aozora ", "bold $accent"), " SDXL fine-tuning")

    def on_screen_resume(self) -> None:
        self.reload_profiles()
        self.tick()
        self.update_keys()
        if not self._begun:
            self._begun = True
            self._begin_at_live_run()

    def tick(self) -> None:
        """Look at the runs again: at live ones, and at those of which a file has changed."""
        try:
            found = all_runs(places.runs_folder())
        except OSError as error:
            self.say(f"The folder of runs cannot be read: {error}", "error")
            return
        known, signatures = self._summaries, self._signatures
        self._summaries, self._signatures = {}, {}
        for run in found:
            before, key = known.get(str(run.path)), runs.signature(run)
            done = before is not None and before.state in ENDED and signatures.get(str(run.path)) == key
            summary = before if done else runs.look_at(run, now=self.aozora.clock())
            if summary is not None:
                self._summaries[str(run.path)], self._signatures[str(run.path)] = summary, key
        self.runs_list.set_lines([run_line(*entry, self.aozora.clock()) for entry in self._summaries.items()])
        live = sum(is_live(summary.state) for summary in self._summaries.values())
        heading = Content.assemble("Runs", (f"   {counted(live, 'run')} live" if live else "", "bold $accent"))
        self.set_line("#runs-heading", heading)
        self.rest(over=False)

    def resting(self) -> tuple[str, Kind]:
        """What is wrong with the selected run, if it cannot be read; else where to begin."""
        selected = self._selected() if self.runs_list.has_focus else None
        if selected is not None and selected.state == "unreadable":
            return f"{selected.failure}. {selected.remedy}", "warning"
        if not self._summaries:
            return "Press D to start the demo: it builds a small model and trains it to its end.", "good"
        return f"Your profiles are in {cut_path(places.profiles_folder(), 56)}", "plain"

    def offers(self, action: str) -> bool:
        return action not in ON_PROFILES or not self.runs_list.has_focus

    def more_commands(self) -> Iterable[SystemCommand]:
        run = self._selected_run()
        if run is not None and not is_live(runs.standing(run)) and self._can_resume(run):
            help = "Start it again from its newest checkpoint."
            yield SystemCommand(f"Resume {run.name}", help, partial(steer.restart, self, run))

    def reload_profiles(self) -> None:
        own, shipped = places.profiles_folder(), self.aozora.recipes
        listed = [(path, False) for path in sorted(own.glob("*.toml"))]
        listed += [(path, True) for path in sorted(shipped.glob("*.toml"))]
        self.profiles.set_lines([profile_line(path, recipe) for path, recipe in listed])
        self._share_out()

    def on_resize(self) -> None:
        self._share_out()

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
            self.start(path)

    def action_demo(self) -> None:
        path = self.aozora.recipes / DEMO
        if path.is_file():
            self.start(path)
        else:
            self.say(f"{path} is missing: install the program again", "error")

    def action_duplicate(self) -> None:
        from aozora_tui.profile_file import ProfileFile, free_path

        if (path := self._selected_profile()) is None:
            return
        try:
            copy = ProfileFile.open(path)
            copy.save_as(free_path(places.profiles_folder(), path.stem))
        except (OSError, ValueError) as error:
            self.say(str(error), "error")
            return
        self.reload_profiles()
        self.profiles.select(str(copy.path))
        self.say(f"Copied to {cut_path(copy.path, 66)}", "good")

    def action_editor(self) -> None:
        """The file as text, in the person's own editor; the app waits behind it."""
        path = self._selected_profile()
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        if path is None or not editor:
            self.say("Set EDITOR to the editor you like, for example `export EDITOR=nano`", "warning")
            return
        if path.parent == self.aozora.recipes:
            self.say("A recipe is read-only: press d to copy it first", "warning")
            return
        with self.app.suspend():
            subprocess.run([*shlex.split(editor), str(path)], check=False)
        self.reload_profiles()

    def open_profile(self, path: Path, field: str | None = None) -> None:
        """The form, at a field if one is named."""
        from aozora_tui.profile_file import ProfileFile
        from aozora_tui.screens.profile import ProfileScreen

        try:
            file = ProfileFile.open(path)
        except ValueError as error:
            self.say(str(error), "error")
            return
        recipe = path.parent == self.aozora.recipes
        self.app.push_screen(ProfileScreen(file, recipe=recipe, field=field))

    def start(self, path: Path) -> None:
        """Check, and launch if nothing forbids it; else show what does."""
        self.say(f"Checking {path.name}")
        self._check_and_start(path)

    @work(thread=True, exclusive=True, group="start", exit_on_error=False)
    def _check_and_start(self, path: Path) -> None:
        checked = steer.check_for_start(self, path)
        if checked is not None:
            self.app.call_from_thread(self._checked, path, checked)

    def _checked(self, path: Path, checked: Checked) -> None:
        from aozora_tui.verify import could_not_ask

        if checked.ok:
            steer.launch(self, path, in_doubt=could_not_ask(checked))
            return
        found = errors(checked.problems)
        self.say(f"{path.name} cannot start yet", "warning")

        def answered(answer: str | None) -> None:
            if answer == "edit":
                self.open_profile(path, found[0].path)

        title = f"{path.stem} cannot start: {counted(len(found), 'problem')}"
        edit = Answer("e", "edit the profile", "edit")
        self.app.push_screen(Ask(title, problem_lines(checked.problems), [edit]), answered)

    def on_rows_moved(self) -> None:
        self.rest(over=False)

    def on_descendant_focus(self) -> None:
        self.rest(over=False)

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        event.stop()
        self.action_open()

    def _share_out(self) -> None:
        """As many rows for the profiles as they need, two fifths of the screen at most; the rest is for the runs."""
        needed = len(self.profiles.lines) + 2
        self.query_one("#profiles-part").styles.height = max(min(needed, self.size.height * 2 // 5), 4)

    def _begin_at_live_run(self) -> None:
        """Whoever comes back to a run that goes on has come for it: enter opens it."""
        live = next((path for path, summary in self._summaries.items() if is_live(summary.state)), None)
        if live is not None:
            self.runs_list.select(live)
            self.runs_list.focus()

    def _no_runs(self) -> str:
        return plain("No run yet. Press D to start the demo, or s on a profile.")

    def _selected_profile(self) -> Path | None:
        if self.runs_list.has_focus:
            self.say("Select a profile first: tab goes to the other list", "warning")
            return None
        return Path(self.profiles.key) if self.profiles.key else None

    def _selected(self) -> RunSummary | None:
        return self._summaries.get(self.runs_list.key or "")

    @staticmethod
    def _can_resume(run: RunDir) -> bool:
        try:
            return not runs.why_not_resume(run)
        except (OSError, ValueError):
            return False

    def _selected_run(self) -> RunDir | None:
        key = self.runs_list.key
        return RunDir(Path(key)) if key is not None and key in self._summaries else None
