"""What a profile differs in, from the defaults, from its file, from its latest run, from another profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from textual.content import Content
from textual.events import Key
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui.keymap import bindings
from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.data_page import ending, wrapped
from aozora_tui.screens.profile_sides import Side, Unlike, read_side, unlike
from aozora_tui.screens.profile_text import short
from aozora_tui.screens.rows import Column, Line, Rows
from aozora_tui.screens.words import FAINT, counted, cut
from engine.contract import places

COLUMNS = (Column("setting", 22), Column("this profile", 20), Column("", 0))
STYLES = "plain", "attention"
MARGINS = 10  # columns around and between the lists' own


class DifferScreen(AozoraScreen[str | None]):
    """Gives the field to go to, or None. What is taken from the other side is written into `file` at once, each as one
    change."""

    DEFAULT_CSS = """
    DifferScreen #sides { height: 1; padding: 0 1; margin-top: 1; }
    DifferScreen #unlike { height: 1fr; margin: 1 1 0 1; }
    DifferScreen #both { height: 4; padding: 0 1; }
    """
    scopes: ClassVar[tuple[str, ...]] = ("differ", "list")
    BINDINGS = bindings("differ")
    AUTO_FOCUS = "#unlike"

    def __init__(self, file: ProfileFile, found: Sequence[Side]) -> None:
        super().__init__()
        self.file = file
        self._sides = list(found)
        self._at = min(1 if file.modified else 2, len(self._sides) - 1)
        self._found: dict[str, Unlike] = {}

    def body(self) -> Iterable[Widget]:
        yield Static(id="sides", markup=False)
        yield Rows(COLUMNS, empty_text="No difference.", id="unlike")
        yield Static(id="both", markup=False)

    @property
    def rows(self) -> Rows:
        return self.query_one("#unlike", Rows)

    def on_mount(self) -> None:
        self._show()

    def on_rows_moved(self) -> None:
        self._show_both()

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        event.stop()
        self.action_go()

    def on_key(self, event: Key) -> None:
        if event.key in ("tab", "shift+tab"):  # there is nowhere else for the focus to go
            event.stop()
            self.action_against(1 if event.key == "tab" else -1)

    def action_go(self) -> None:
        if self.rows.key is not None:
            self.dismiss(self.rows.key)

    def action_back(self) -> None:
        self.dismiss(None)

    def action_against(self, by: int) -> None:
        self._at = (self._at + by) % len(self._sides)
        self._show()

    def action_take(self) -> None:
        """The other side's value."""
        found = self._found.get(self.rows.key or "")
        if found is None:
            return
        if found.written is None and found.field.required:
            self.say(f"{found.field.label} has no default, and nothing is written there", "warning")
            return
        self.file.end_of_change()
        self.file.set(found.field.path, found.written)
        self.file.end_of_change()
        self._show()
        self.say(f"{found.field.label}: taken from {self._sides[self._at].name}", "good")

    def action_undo(self) -> None:
        self._stepped(self.file.undo(), "Undone", "Nothing to undo")

    def action_redo(self) -> None:
        self._stepped(self.file.redo(), "Made again", "Nothing was undone since the last change")

    def _stepped(self, path: str | None, done: str, nothing: str) -> None:
        self._show()
        if path is not None and path in self._found:
            self.rows.select(path)
        self.say(nothing if path is None else f"{done}: {path}")

    def action_choose(self) -> None:
        """From the person's own profiles and the recipes; from the disk where it is none of them."""
        from aozora_tui.screens.ask_profile import ELSEWHERE, AskProfile

        def answered(path: Path | None) -> None:
            if path == ELSEWHERE:
                self._pick()
            elif path is not None:
                self._add(path)

        self.app.push_screen(AskProfile(places.profiles_folder(), self.aozora.recipes, but=self.file.path), answered)

    def _pick(self) -> None:
        from aozora_tui.screens.picker import Picker

        def answered(path: str | None) -> None:
            if path is not None:
                self._add(Path(path))

        folder = places.profiles_folder()
        others = str(next(iter(sorted(folder.glob("*.toml"))), folder / "a.toml"))
        self.app.push_screen(Picker("Compare with", others, self.file.path.parent, suffixes=(".toml",)), answered)

    def _add(self, path: Path) -> None:
        try:
            side = read_side(path, recipe=path.parent == self.aozora.recipes)
        except ValueError as error:
            self.say(str(error), "warning")
            return
        self._sides = [*(other for other in self._sides if other.name != side.name), side]
        self._at = len(self._sides) - 1
        self._show()

    def on_resize(self) -> None:
        self._show()

    def _show(self) -> None:
        side = self._sides[self._at]
        found = unlike(self.file, side)
        self._found = {entry.field.path: entry for entry in found}
        self.set_title((f"{self.file.path.stem}  ", "bold"), f"{counted(len(found), 'difference')} from {side.name}")
        names: list[tuple[str, str]] = []
        for index, other in enumerate(self._sides):
            here = index == self._at
            names.append((f"[{other.name}]" if here else f" {other.name} ", "bold" if here else FAINT))
        self.set_line("#sides", Content.assemble(*names))
        self.rows.columns = (COLUMNS[0], Column("this profile", self._half()), Column(side.name, 0))
        self.rows.set_lines([_line(entry, self._half()) for entry in found])
        self.rows.refresh_lines(0, 1)
        self._show_both()

    def _half(self) -> int:
        return max((self.size.width - COLUMNS[0].width - MARGINS) // 2, 10)

    def _show_both(self) -> None:
        found = self._found.get(self.rows.key or "")
        if found is None:
            said = f"Nothing differs. {self.key_name('differ.against')} compares with something else."
            self.set_line("#both", Content.styled(said, FAINT))
            return
        here, there = short(found.here) or "nothing", short(found.there) or "nothing"
        path, width = found.field.path, max(self.size.width - 2, 20)
        first, *more = wrapped(f"{path}  {found.field.help}", width)
        lines = [
            Content.assemble((path, "bold"), (first.removeprefix(path), FAINT)),
            *([Content.styled(cut(" ".join(more), width), FAINT)] if more else []),
            Content.assemble(("here   ", FAINT), cut(here, self.size.width - 9)),
            Content.assemble(("there  ", FAINT), cut(there, self.size.width - 9)),
        ]
        self.set_line("#both", Content("\n").join(lines))


def _line(found: Unlike, room: int) -> Line:
    """Of a path the end, where there is no room for all of it."""
    shown = [short(value).replace("\n", " ") for value in (found.here, found.there)]
    if found.field.kind in ("file", "folder"):
        shown = [ending(text, room) for text in shown]
    here, there = ((text, style) if text else ("-", "dim") for text, style in zip(shown, STYLES, strict=True))
    return Line(found.field.path, ((found.field.label, "plain"), here, there))
