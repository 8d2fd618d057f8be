"""What was deleted, also in earlier sessions: it can be put back, or deleted for good."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from aozora_tui import trash
from aozora_tui.keymap import bindings
from aozora_tui.screens.ask import Answer, Ask
from aozora_tui.screens.base import AozoraScreen, Kind
from aozora_tui.screens.rows import Column, Line, Rows
from aozora_tui.screens.words import FAINT, counted, cut_path
from aozora_tui.text import age, printable, size
from aozora_tui.trash import Thrown

COLUMNS = (Column("Name", 0), Column("Kind", 7), Column("Deleted", 8, right=True), Column("Size", 9, right=True))


class TrashScreen(AozoraScreen[tuple[Path, ...]]):
    """Gives what was put back, by its old places, the last one last."""

    DEFAULT_CSS = """
    TrashScreen #trash { height: 1fr; margin: 1 1 0 1; }
    TrashScreen #places { height: 2; padding: 0 1; }
    """
    scopes: ClassVar[tuple[str, ...]] = ("trash", "list")
    BINDINGS = bindings("trash")
    AUTO_FOCUS = "#trash"

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, Thrown] = {}
        self._weights: dict[str, int] = {}
        self._back: list[Path] = []
        self._looked = self._deleting = False

    def body(self) -> Iterable[Widget]:
        yield Rows(COLUMNS, empty_text="Looking", id="trash")
        yield Static(id="places", markup=False)

    def on_mount(self) -> None:
        self._show()
        self._look()

    @property
    def rows(self) -> Rows:
        return self.query_one("#trash", Rows)

    def resting(self) -> tuple[str, Kind]:
        if self._entries or not self._looked:
            return "", "plain"
        return f"Nothing is in the trash. {self.key_name('trash.back')} goes back.", "plain"

    def offers(self, action: str) -> bool:
        return bool(self._entries) or action not in ("put_back", "remove", "empty")

    # -- keys ----------------------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        self.dismiss(tuple(self._back))

    def action_put_back(self) -> None:
        thrown = self._entries.get(self.rows.key or "")
        if thrown is None or self._deleting:
            return
        try:
            trash.put_back(thrown)
        except FileExistsError:
            name = printable(thrown.original.name)
            self.say(f"Something called {name} exists there again: rename that first", "warning")
            return
        except OSError as error:
            self.say(str(error), "error")
            return
        self._back.append(thrown.original)
        self._without([thrown])
        self.say(f"{printable(thrown.name)} is back in {cut_path(thrown.original.parent, 50)}", "good")

    def action_remove(self) -> None:
        thrown = self._entries.get(self.rows.key or "")
        if thrown is not None:
            self._ask([thrown], f"Delete {printable(thrown.name)} for good?")

    def action_empty(self) -> None:
        if self._entries:
            self._ask(list(self._entries.values()), "Empty the trash?")

    def on_rows_moved(self) -> None:
        self._show_places()

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        event.stop()
        self.action_put_back()

    # -- deleting ------------------------------------------------------------------------------------------------------

    def _ask(self, some: Sequence[Thrown], title: str) -> None:
        if self._deleting:
            return
        weight = size(sum(self._weights.get(str(thrown.kept), 0) for thrown in some))
        lines = [f"{_counted(len(some))}, {weight}: nothing brings that back afterwards."]

        def answered(answer: str | None) -> None:
            if answer == "delete":
                self._deleting = True
                self.say(f"Deleting {_counted(len(some))}")
                self._remove(some)

        self.app.push_screen(Ask(title, lines, [Answer("y", "delete for good", "delete", harmful=True)]), answered)

    @work(thread=True, exclusive=True, group="remove", exit_on_error=False)
    def _remove(self, some: Sequence[Thrown]) -> None:
        gone, wrong = [], ""
        for thrown in some:
            try:
                trash.remove(thrown)
            except (OSError, ValueError) as error:
                wrong = f"{printable(thrown.name)} was not deleted: {error}"
            else:
                gone.append(thrown)
        self.app.call_from_thread(self._removed, gone, wrong)

    def _removed(self, gone: Sequence[Thrown], wrong: str) -> None:
        self._deleting = False
        if self.is_attached:
            weight = sum(self._weights.get(str(thrown.kept), 0) for thrown in gone)
            self._without(gone)
            self.say(wrong or f"Deleted {_counted(len(gone))}: {size(weight)}", "error" if wrong else "good")

    # -- looking -------------------------------------------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="look", exit_on_error=False)
    def _look(self) -> None:
        """What there is first; then what it weighs, which takes long where a run holds thousands of pictures."""
        worker = get_current_worker()
        found = trash.entries()
        self.app.call_from_thread(self._found, found)
        weights: dict[str, int] = {}
        for thrown in found:
            if worker.is_cancelled:
                return
            weights[str(thrown.kept)] = trash.size_of(thrown.kept)
        self.app.call_from_thread(self._weighed, weights)

    def _found(self, found: Sequence[Thrown]) -> None:
        self._entries = {str(thrown.kept): thrown for thrown in found}
        self._looked = True
        if self.is_attached:
            self.rows.empty_text = "Nothing."
            self.rows.refresh()
            self._show()

    def _weighed(self, weights: dict[str, int]) -> None:
        self._weights = weights
        if self.is_attached:
            self._show()

    def _without(self, some: Sequence[Thrown]) -> None:
        gone = {str(thrown.kept) for thrown in some}
        self._entries = {key: thrown for key, thrown in self._entries.items() if key not in gone}
        self._show()

    # -- showing -------------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        self.rows.set_lines([self._line(key, thrown) for key, thrown in self._entries.items()])
        weight = sum(self._weights.get(key, 0) for key in self._entries)
        facts = f"{_counted(len(self._entries))}, {size(weight)}" if self._entries and self._weights else ""
        self.set_title(("Trash ", "bold $accent"), f" {facts}")
        self._show_places()
        self.rest(over=False)
        self.update_keys()

    def _line(self, key: str, thrown: Thrown) -> Line:
        since = age(max(self.aozora.clock() - thrown.time, 0)) if thrown.time else ""
        weight = size(self._weights[key]) if key in self._weights else ""
        kind = "run" if thrown.is_run else "profile"
        return Line(key, ((printable(thrown.name), "plain"), (kind, "dim"), (since, "dim"), (weight, "plain")))

    def _show_places(self) -> None:
        thrown = self._entries.get(self.rows.key or "")
        if thrown is None:
            self.set_line("#places", Content())
            return
        room = max(self.size.width - 9, 8)
        was, kept = (printable(cut_path(path, room)) for path in (thrown.original, thrown.kept))
        self.set_line("#places", Content.assemble(("was in ", FAINT), was, "\n", ("is in  ", FAINT), kept))

    def on_resize(self) -> None:
        self._show_places()
        self.update_keys()


def _counted(number: int) -> str:
    return counted(number, "entry") if number == 1 else f"{number} entries"
