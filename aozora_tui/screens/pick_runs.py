"""Which runs are compared: those of the usual folder by name, those elsewhere by the path of their folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui import runs
from aozora_tui.find_run import is_run
from aozora_tui.keymap import bindings
from aozora_tui.screens.path_input import PathInput, completions
from aozora_tui.screens.picker_base import Chooser
from aozora_tui.screens.rows import Column, Line, Rows
from aozora_tui.screens.words import FAINT, counted, cut, cut_path, state_text
from aozora_tui.text import age, printable
from aozora_tui.widgets.run_marks import MOST_RUNS
from aozora_tui.widgets.scale import short
from engine.contract import places, rundir
from engine.contract.rundir import RunDir

MOST_FOLDERS = 200  # that are listed while a path is typed
INTO = "into "  # before what a folder's line goes on with


class PickRuns(Chooser, inherit_bindings=False):
    """`chosen` holds the runs whenever it is closed."""

    DEFAULT_CSS = "PickRuns #about { height: 3; }"
    scopes: ClassVar[tuple[str, ...]] = ("pick", "list")
    BINDINGS = bindings("pick")
    columns: ClassVar[Sequence[Column]] = (Column("", 3), Column("run", 0), Column("", 10))
    nothing: ClassVar[str] = "No run is called so, and no folder."
    hint: ClassVar[str] = "/ finds by name; or the path of a run's folder elsewhere"

    def __init__(self, chosen: Sequence[RunDir]) -> None:
        super().__init__()
        self.chosen = list(chosen)
        self._every: list[RunDir] = []

    def body(self) -> Iterable[Widget]:
        box = PathInput("", only_folders=True, placeholder=self.hint)
        box.id, box.cursor_blink, box.folder = "filter", False, Path.cwd()
        yield box
        yield Rows(self.columns, empty_text=self.nothing, id="choices")
        yield Static(id="about", markup=False)

    def on_mount(self) -> None:
        try:
            listed = rundir.all_runs(places.runs_folder())
        except OSError as error:
            listed = []
            self.say(f"The folder of runs cannot be read: {error.strerror or error}", "warning")
        known = {run.path.resolve() for run in self.chosen}
        self._every = [*self.chosen, *(run for run in listed if run.path.resolve() not in known)]
        self.fill()
        self._show_title()

    def matching(self, text: str) -> Sequence[Line]:
        if "/" in text or text.startswith("~"):
            return self._elsewhere(text)
        words = text.lower().split()
        return [self._line(run) for run in self._every if all(word in run.name.lower() for word in words)]

    def about(self, key: str | None) -> Content:
        if key is None or key.startswith(INTO):
            return Content.styled("" if key is None else "enter goes into the folder", FAINT)
        found = runs.look_at(RunDir(Path(key)), now=self.aozora.clock())
        if found is None:
            return Content.styled("Its folder is gone.", FAINT)
        loss = "" if found.loss is None else f"  loss {short(found.loss)}"
        seen = age(found.age)
        when = "" if found.state == "unreadable" else f"  {seen if seen == 'now' else f'{seen} ago'}"
        said = f"{state_text(found.state)}  step {found.step:,}/{found.steps:,}{loss}{when}"
        width = max(self.size.width - 2, 20)
        return Content("\n").join(
            [
                Content(said),
                Content.styled(cut_path(Path(key), width), FAINT),
                Content.styled(cut(found.failure, width), FAINT),
            ]
        )

    # -- keys ----------------------------------------------------------------------------------------------------------

    def action_choose(self) -> None:
        key = self.rows.key
        if key is None:
            return
        if key.startswith(INTO):
            box = self.query_one("#filter", PathInput)
            box.value = key.removeprefix(INTO)
            box.cursor_position = len(box.value)
            return
        run = RunDir(Path(key))
        here = next((each for each in self.chosen if each.path.resolve() == run.path.resolve()), None)
        if here is not None:
            self.chosen.remove(here)
        elif len(self.chosen) < MOST_RUNS:
            self.chosen.append(run)
            if all(each.path.resolve() != run.path.resolve() for each in self._every):
                self._every.insert(0, run)
        else:
            self.say(f"{MOST_RUNS} are as many as can be told apart: take one away first", "warning")
            return
        self.fill()
        self._show_title()

    def action_complete(self) -> None:
        """In the list: to the filter."""
        box = self.query_one("#filter", PathInput)
        if not box.has_focus:
            box.focus()
        elif not box.complete():
            self.rows.focus()

    def _elsewhere(self, text: str) -> list[Line]:
        """The folder that is typed if it is a run, and those that it could become."""
        start, found = Path.cwd(), []
        whole = places.expand(text, start)
        if is_run(whole):
            found.append(self._line(RunDir(whole)))
        for written in completions(text, start, only_folders=True)[:MOST_FOLDERS]:
            folder = places.expand(written, start)
            if is_run(folder):
                found.append(self._line(RunDir(folder)))
            else:
                name = printable(folder.name)
                found.append(Line(INTO + written, (("", "plain"), (f"{name}/", "good"), ("folder", "dim"))))
        return list({line.key: line for line in found}.values())

    def _line(self, run: RunDir) -> Line:
        taken = any(each.path.resolve() == run.path.resolve() for each in self.chosen)
        own = run.path.parent == places.runs_folder()
        name = run.name if own else str(cut_path(run.path, max(self.size.width - 24, 20)))
        cells = (("[x]" if taken else "[ ]", "plain"), (name, "live" if taken else "plain"))
        return Line(str(run.path), (*cells, ("" if own else "elsewhere", "dim")))

    def _show_title(self) -> None:
        self.set_title(("Compare ", "bold"), counted(len(self.chosen), "run"))
