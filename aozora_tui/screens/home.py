"""Profiles and runs: where the app begins."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

import msgspec
from textual import work
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui import runs
from aozora_tui.keymap import bindings
from aozora_tui.run_state import age
from aozora_tui.runs import RunSummary
from aozora_tui.screens.ask import Answer, Ask, problem_lines
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.rows import Column, Line, Rows
from aozora_tui.screens.words import counted, cut_path, is_live, plain, state_style, state_text
from engine.contract import places
from engine.contract.problems import errors
from engine.contract.profile import parse
from engine.contract.rundir import RunDir, all_runs

PROFILE_COLUMNS = (Column("profile", 0), Column("", 7), Column("learns", 12), Column("steps", 9, right=True))
RUN_COLUMNS = (
    Column("run", 0),
    Column("state", 11),
    Column("step", 13, right=True),
    Column("loss", 7, right=True),
    Column("age", 7, right=True),
)
DEMO = "demo.toml"


class HomeScreen(AozoraScreen[None]):
    """Two lists; keys act on the entry under the cursor of the list that has the focus."""

    scopes: ClassVar[tuple[str, ...]] = ("home", "list")
    BINDINGS = bindings("home")
    AUTO_FOCUS = "#profiles"

    def __init__(self) -> None:
        super().__init__()
        self._summaries: dict[str, RunSummary] = {}
        self._said_where = False

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
        if not self._said_where:
            self._said_where = True
            self._say_where()
            self._begin_at_live_run()

    def tick(self) -> None:
        """Look at the runs again: at new ones and live ones, the others do not change."""
        found = all_runs(places.runs_folder())
        known = self._summaries
        self._summaries = {}
        for run in found:
            before = known.get(run.name)
            try:
                done = before is not None and not is_live(before.state) and before.state != "elsewhere"
                self._summaries[run.name] = before if done and before else self._summary(run)
            except FileNotFoundError:
                continue
        self.runs_list.set_lines([self._run_line(summary) for summary in self._summaries.values()])
        live = sum(is_live(summary.state) for summary in self._summaries.values())
        heading = Content.assemble("Runs", (f"   {counted(live, 'run')} live" if live else "", "bold $accent"))
        self.set_line("#runs-heading", heading)

    def reload_profiles(self) -> None:
        own, shipped = places.profiles_folder(), self.aozora.recipes
        listed = [(path, False) for path in sorted(own.glob("*.toml"))]
        listed += [(path, True) for path in sorted(shipped.glob("*.toml"))]
        self.profiles.set_lines([_profile_line(path, recipe) for path, recipe in listed])
        self._share_out()

    def on_resize(self) -> None:
        self._share_out()

    def action_open(self) -> None:
        if self.runs_list.has_focus:
            if (run := self._selected_run()) is not None:
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
        from engine.contract.check import check_file

        checked = check_file(path)
        self.app.call_from_thread(self._checked, path, checked)

    def _checked(self, path: Path, checked: object) -> None:
        from engine.contract.check import Checked

        assert isinstance(checked, Checked)
        if checked.ok:
            launch(self, path)
            return
        found = errors(checked.problems)
        self.say(f"{path.name} cannot start yet", "warning")

        def answered(answer: str | None) -> None:
            if answer == "edit":
                self.open_profile(path, found[0].path)

        title = f"{path.stem} cannot start: {counted(len(found), 'problem')}"
        edit = Answer("e", "edit the profile", "edit")
        self.app.push_screen(Ask(title, problem_lines(checked.problems), [edit]), answered)

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        event.stop()
        self.action_open()

    def _share_out(self) -> None:
        """As many rows for the profiles as they need, two fifths of the screen at most; the rest is for the runs."""
        needed = len(self.profiles.lines) + 2
        self.query_one("#profiles-part").styles.height = max(min(needed, self.size.height * 2 // 5), 4)

    def _say_where(self) -> None:
        if not self._summaries:
            self.say("Press D to start the demo: it builds a small model and trains it to its end.", "good")
        else:
            self.say(f"Your profiles are in {cut_path(places.profiles_folder(), 56)}")

    def _begin_at_live_run(self) -> None:
        """Whoever comes back to a run that goes on has come for it: enter opens it."""
        live = next((name for name, summary in self._summaries.items() if is_live(summary.state)), None)
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

    def _selected_run(self) -> RunDir | None:
        key = self.runs_list.key
        return RunDir(Path(self._summaries[key].folder)) if key in self._summaries else None

    def _summary(self, run: RunDir) -> RunSummary:
        summary = runs.summary(run, now=self.aozora.clock())
        return msgspec.structs.replace(summary, state=runs.state_now(run))

    def _run_line(self, summary: RunSummary) -> Line:
        seen = self.aozora.clock() - summary.last_event if summary.last_event else summary.age
        style = state_style(summary.state)
        return Line(
            summary.name,
            (
                (summary.name, "live" if style == "live" else "plain"),
                (state_text(summary.state), style),
                (f"{summary.step:,}/{summary.steps:,}" if summary.steps else "", "plain"),
                (f"{summary.loss:.4f}" if summary.loss is not None else "", "plain"),
                (age(max(seen, 0)), "dim"),
            ),
        )


def launch(screen: AozoraScreen[None], path: Path, then: Callable[[], object] = lambda: None) -> None:
    """Start a run and show it; `then` first takes away what is in front."""
    try:
        run = runs.launch(path, engine_command=screen.aozora.engine_command)
    except (OSError, ValueError) as error:
        screen.say(str(error), "error")
        return
    screen.say(f"Started {run.name}", "good")
    then()
    screen.aozora.watch_run(run)


def _profile_line(path: Path, recipe: bool) -> Line:
    kind = ("recipe", "dim") if recipe else ("yours", "plain")
    try:
        profile, problems = parse(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError):
        return Line(str(path), ((path.stem, "plain"), kind, ("unreadable", "bad"), ("", "plain")))
    if profile is None:
        word = "no TOML" if problems and problems[0].path == path.name else counted(len(problems), "problem")
        return Line(str(path), ((path.stem, "plain"), kind, (f"! {word}", "bad"), ("", "plain")))
    learns = profile.objective.prediction_type
    return Line(str(path), ((path.stem, "plain"), kind, (learns, "dim"), (f"{profile.train.steps:,}", "dim")))
