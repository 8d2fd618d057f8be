"""A file or a folder, found by moving through the disk; what a checkpoint is stands under the list as one moves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.content import Content
from textual.widgets import Input
from textual.worker import get_current_worker

from aozora_tui.screens.picker_base import Chooser
from aozora_tui.screens.picker_entries import THIS, Entry, about_file, is_diffusers, list_folder
from aozora_tui.screens.rows import Column, Line
from aozora_tui.screens.words import FAINT, cut_path
from aozora_tui.text import size
from engine.contract import places

CHECKPOINTS = (".safetensors",)
UP = "../"
_SAID = {THIS: "this folder", UP: "above"}
_last: dict[str, Path] = {}  # where one was last, by what was looked for


class Picker(Chooser):
    """Gives an absolute path. `value` is what the field has, its relative path starting at `start`. `suffixes` are
    those of files that may be taken; `folders`: a folder may be taken too."""

    DEFAULT_CSS = """
    Picker #about { height: 3; }
    Picker #filter, Picker #choices { max-width: 90; }
    """
    columns: ClassVar[Sequence[Column]] = (Column("name", 0), Column("size", 12, right=True))
    nothing: ClassVar[str] = "Nothing here."

    def __init__(
        self, title: str, value: str, start: Path, *, suffixes: tuple[str, ...] | None = None, folders: bool = False
    ) -> None:
        super().__init__()
        self._title, self._suffixes, self._folders = title, suffixes, folders
        self._kind = " ".join(suffixes or ("folders",))
        self._entries: list[Entry] = []
        self._about_of: dict[str, tuple[str, ...]] = {}  # what is known of an entry of this folder
        self.folder, self._first = _begin(value, start, self._kind)

    def on_mount(self) -> None:
        self._list(self.folder, self._first)

    def matching(self, text: str) -> Sequence[Line]:
        words = text.lower().split()
        found = [entry for entry in self._entries if all(word in entry.name.lower() for word in words)]
        always = [] if text else [*([Entry(THIS)] if self._takes(THIS) else []), Entry(UP)]
        return [_line(entry) for entry in (*always, *found)]

    def about(self, key: str | None) -> Content:
        if key is None:
            return Content()
        if key in self._about_of:
            return Content("\n".join(self._about_of[key]))
        if key == UP:
            said = "enter goes to the folder above"
        elif key == THIS:
            said = "enter takes this folder"
        elif key.endswith("/"):
            takes = f", {self.key_name('picker.take')} takes it" if self._takes(key) else ""
            said = f"enter goes into the folder{takes}"
        else:
            said = "Reading the header" if self._is_checkpoint(key) else "enter takes this file"
        return Content.styled(said, FAINT)

    def show_about(self) -> None:
        super().show_about()
        key = self.rows.key
        if key is not None and key != UP and key not in self._about_of and self._is_checkpoint(key):
            self._look_at(self.folder, key)

    def on_rows_moved(self) -> None:
        self.update_keys()

    def offers(self, action: str) -> bool:
        key = self.rows.key
        is_below = key is not None and key.endswith("/") and key not in (THIS, UP)
        return is_below and self._folders if action == "take" else super().offers(action)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def action_choose(self) -> None:
        key = self.rows.key
        if key is not None and key.endswith("/") and key != THIS:
            self._into(key)
        else:
            self.action_take()

    def action_take(self) -> None:
        key = self.rows.key
        if key is None or key == UP:
            return
        if not self._takes(key):
            self.say("A file is wanted here, not a folder", "warning")
            return
        _last[self._kind] = self.folder
        path = self.folder if key == THIS else self.folder / key
        self.dismiss(str(path))

    def action_out(self) -> None:
        self._into(UP)

    def action_into(self) -> None:
        key = self.rows.key
        if key is not None and key.endswith("/") and key != THIS:
            self._into(key)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("take", "out", "into"):
            return not self.typing
        return super().check_action(action, parameters)

    def _into(self, key: str) -> None:
        if key == UP:
            self._list(self.folder.parent, f"{self.folder.name}/")
        else:
            self._list(self.folder / key.rstrip("/"), "")

    # -- threads -------------------------------------------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="list", exit_on_error=False)
    def _list(self, folder: Path, at: str) -> None:
        try:
            found = list_folder(folder, self._suffixes)
        except OSError as error:
            text = f"{folder} cannot be read: {error.strerror or error}"
            self.app.call_from_thread(self.say, text, "warning")
            return
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._listed, folder, found, at)

    def _listed(self, folder: Path, found: list[Entry], at: str) -> None:
        if not self.is_attached:
            return
        self.folder, self._entries, self._about_of = folder, found, {}
        _last[self._kind] = folder
        self.set_title((f"{self._title}  ", "bold"), cut_path(folder, max(self.size.width - len(self._title) - 6, 8)))
        box = self.query_one("#filter", Input)
        with self.prevent(Input.Changed):
            box.value = ""
        self.refill()
        first = next((entry.name for entry in found if not entry.is_folder), "")
        wanted = at or first
        if any(line.key == wanted for line in self.rows.lines):
            self.rows.select(wanted)
        self.rows.focus()
        self.show_about()
        self.update_keys()

    @work(thread=True, exclusive=True, group="about", exit_on_error=False)
    def _look_at(self, folder: Path, key: str) -> None:
        path = folder if key == THIS else folder / key
        if key.endswith("/") and not is_diffusers(path):
            return
        said = about_file(path)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._looked_at, folder, key, said)

    def _looked_at(self, folder: Path, key: str, said: tuple[str, ...]) -> None:
        if folder == self.folder and self.is_attached:
            self._about_of[key] = said
            super().show_about()

    def _takes(self, key: str) -> bool:
        return self._folders or not key.endswith("/")

    def _is_checkpoint(self, key: str) -> bool:
        """Whether it might be one."""
        if self._suffixes is None:
            return False
        return key.endswith(CHECKPOINTS) or (key.endswith("/") and self._folders)


def _begin(value: str, start: Path, kind: str) -> tuple[Path, str]:
    """The folder to begin in, and the entry to begin at."""
    if value:
        path = places.expand(value, start)
        if ".." in path.parts:  # the folder above `a/..` is not a
            path = path.parent.resolve() / path.name if path.name != ".." else path.resolve()
        if path.is_dir() and kind == "folders":
            return path, ""
        if path.parent.is_dir():
            return path.parent, f"{path.name}/" if path.is_dir() else path.name
    for folder in (_last.get(kind), places.data_folder() / "models", places.data_folder(), Path.home()):
        if folder is not None and folder.is_dir():
            return folder, ""
    return Path("/"), ""


def _line(entry: Entry) -> Line:
    amount = _SAID.get(entry.name, "folder") if entry.is_folder else size(entry.bytes)
    return Line(entry.name, ((entry.name, "plain" if not entry.is_folder else "good"), (amount, "dim")))
