"""Folders of pictures as lines of text, `2 x /folder`: the path under the cursor is completed, or comes from a list."""

from __future__ import annotations

import re
from pathlib import Path

from textual.events import Focus

from aozora_tui.screens.lines import LINE_END, Lines
from aozora_tui.screens.path_input import Completer
from engine.contract import places

_REPEATS = re.compile(r"\s*(?:\d+\s*x\s+)?")


class FolderLines(Lines):
    """Tab completes the line that the cursor is at the end of; with nothing to complete, and through a folder that
    was not touched and is there, it leaves the field. `folder` is where relative paths start."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.folder = places.profiles_folder()
        self._completer = Completer(only_folders=True)
        self._came_with: frozenset[str] = frozenset()  # the lines at the last focus

    def on_focus(self, _event: Focus) -> None:
        self._came_with = frozenset(self.text.split("\n"))
        self._completer.forget()

    @property
    def path(self) -> str:
        """The path in the cursor's line; empty if there is none."""
        return _parted(self._line)[1]

    def complete(self) -> bool:
        """Whether there was something to complete."""
        before, path = _parted(self._line)
        if not path or (self._line in self._came_with and places.expand(path, self.folder).is_dir()):
            return False
        at_end = self.cursor_location[1] >= len(self._line.rstrip())
        found = self._completer.next(path, self.folder, at_end=at_end)
        if found is None:
            return False
        self._put(before + found.text.replace("\n", LINE_END))
        if found.listed is not None:
            self.post_message(found.listed)
        return True

    def put_path(self, path: Path) -> None:
        """Put another folder into the cursor's line, as if it had been typed; how often it counts stays."""
        self._put(_parted(self._line)[0] + str(path).replace("\n", LINE_END))

    @property
    def _line(self) -> str:
        return self.document.get_line(self.cursor_location[0])

    def _put(self, line: str) -> None:
        row = self.cursor_location[0]
        self.replace(line, (row, 0), (row, len(self._line)), maintain_selection_offset=False)
        self.move_cursor((row, len(line)))


def _parted(line: str) -> tuple[str, str]:
    """What stands before the path, and the path."""
    match = _REPEATS.match(line)
    end = match.end() if match else 0
    return line[:end], line[end:].rstrip().replace(LINE_END, "\n")
