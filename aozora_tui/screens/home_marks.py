"""Runs that are marked in the list, to be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aozora_tui.screens.home_files import HomeFiles
from aozora_tui.screens.rows import Line
from aozora_tui.screens.words import counted
from aozora_tui.widgets.run_marks import MOST_RUNS

SIGN = "* "


class HomeMarks(HomeFiles):
    """Marks stay until the runs are compared, or gone."""

    def __init__(self) -> None:
        super().__init__()
        self._marks: dict[str, None] = {}

    @property
    def marked(self) -> list[str]:
        """In the order of marking."""
        return [key for key in self._marks if key in self._runs.runs]

    def told_of_marks(self) -> str:
        """What can be done with them."""
        many = "1 run is" if len(self.marked) == 1 else f"{counted(len(self.marked), 'run')} are"
        more = " with the selected one" if self.runs_list.key not in self._marks else ""
        return (
            f"{many} marked: {self.key_name('home.compare')} compares {'it' if len(self.marked) == 1 else 'them'}{more}"
        )

    def with_marks(self, lines: Sequence[Line]) -> Sequence[Line]:
        if not self._marks:
            return lines
        return [_marked(line) if line.key in self._marks else line for line in lines]

    def action_mark(self) -> None:
        key = self._key_for_comparing()
        if key is None:
            return
        if key not in self._marks and len(self.marked) >= MOST_RUNS:
            self.say(f"{MOST_RUNS} runs are marked: more could not be told apart", "warning")
            return
        if key in self._marks:
            del self._marks[key]
        else:
            self._marks[key] = None
        self._show_runs()
        self.runs_list.action_move(1)
        self.rest()

    def action_compare(self) -> None:
        from aozora_tui.screens.compare import CompareScreen

        key = self._key_for_comparing()
        if key is None:
            return
        keys = list(dict.fromkeys([*self.marked, key]))[:MOST_RUNS]
        found = [self._runs.runs[each] for each in keys]
        self._marks.clear()
        self._show_runs()
        self.app.push_screen(CompareScreen(found))

    def _key_for_comparing(self) -> str | None:
        if self.runs_list.has_focus:
            return self.runs_list.key
        self.say(f"Runs can be compared: {self.key_name('home.switch')} goes to them", "warning")
        return None


def _marked(line: Line) -> Line:
    (name, style), *rest = line.cells
    return replace(line, cells=((SIGN + name, style), *rest))
