"""A path's field: tab completes it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from textual.message import Message
from textual.widgets import Input

from engine.contract import places

MOST_LISTED = 5000  # of a folder; one with more is not completed in a key press


class PathInput(Input):
    """Tab adds what all that could be meant have in common; where that is nothing, it goes through them one by one.
    With nothing to complete, and through a path that was not touched and is there, it leaves the field, as everywhere.
    `folder` is where relative paths start."""

    class Listed(Message):
        """Several could be meant: their names, and which of them stands in the field now."""

        def __init__(self, names: Sequence[str], chosen: str | None) -> None:
            super().__init__()
            self.names, self.chosen = tuple(names), chosen

    def __init__(self, value: str, *, only_folders: bool, placeholder: str = "") -> None:
        super().__init__(value, compact=True, placeholder=placeholder, select_on_focus=False)
        self.folder = places.profiles_folder()
        self._only_folders = only_folders
        self._offered: tuple[str, ...] = ()  # what tab goes through
        self._offered_in = ""  # what stands in the field while it does
        self._came_with = value  # at the last focus

    def on_focus(self) -> None:
        self._came_with, self._offered = self.value, ()

    def complete(self) -> bool:
        """Whether there was something to complete."""
        if self.value == self._came_with and places.expand(self.value, self.folder).exists():
            return False
        if self.value and self.value == self._offered_in and self._offered:
            here = self._offered.index(self.value) if self.value in self._offered else -1
            self._offer(self._offered[(here + 1) % len(self._offered)])
            return True
        if not self.value or self.cursor_position < len(self.value):
            return False
        found = completions(self.value, self.folder, only_folders=self._only_folders)
        common = _common(found)
        if not found or (len(found) == 1 and common == self.value):
            return False
        if len(common) > len(self.value) or len(found) == 1:
            self._put(common)
            self._offered = ()
            if len(found) > 1:
                self.post_message(self.Listed([_name(text) for text in found], None))
            return True
        self._offered = tuple(found)
        self._offer(found[0])
        return True

    def _offer(self, text: str) -> None:
        self._offered_in = text
        self._put(text)
        self.post_message(self.Listed([_name(other) for other in self._offered], _name(text)))

    def _put(self, text: str) -> None:
        self.value = text
        self.cursor_position = len(text)


def completions(text: str, start: Path, *, only_folders: bool) -> list[str]:
    """The paths that begin with `text`, written as `text` is; folders end in a slash. Files whose name begins with a
    dot only if that is typed. Those that differ in the case of letters count where none begins with it exactly."""
    head, _, name = text.rpartition("/")
    head = f"{head}/" if "/" in text else ""
    if text in ("~", ".", ".."):
        return [f"{text}/"]
    entries = _entries(places.expand(head or ".", start), only_folders=only_folders)
    found = [entry for entry in entries if entry.startswith(name)]
    if not found:
        found = [entry for entry in entries if entry.lower().startswith(name.lower())]
    return [head + entry for entry in found if name.startswith(".") or not entry.startswith(".")]


def _entries(folder: Path, *, only_folders: bool) -> list[str]:
    """A folder's names in order; none if it cannot be read, or takes too long to."""
    found: list[str] = []
    try:
        with os.scandir(folder) as listed:
            for entry in listed:
                if len(found) >= MOST_LISTED:
                    return []
                if entry.is_dir():
                    found.append(f"{entry.name}/")
                elif not only_folders:
                    found.append(entry.name)
    except OSError:
        return []
    return sorted(found, key=lambda name: (name.lower(), name))


def _common(texts: Sequence[str]) -> str:
    """What all begin with."""
    if not texts:
        return ""
    first, last = min(texts), max(texts)
    return next((first[:index] for index, char in enumerate(first) if char != last[index : index + 1]), first)


def _name(text: str) -> str:
    """The last part, with its slash if it has one."""
    return text.rstrip("/").rpartition("/")[2] + ("/" if text.endswith("/") else "")
