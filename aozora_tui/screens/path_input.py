"""Paths that tab completes: as a field of their own, and as what any field makes of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textual.message import Message
from textual.widgets import Input

from engine.contract import places

MOST_LISTED = 5000  # of a folder; one with more is not completed in a key press


class Listed(Message):
    """Several paths could be meant: their names, and which of them stands in the field now."""

    def __init__(self, names: Sequence[str], chosen: str | None) -> None:
        super().__init__()
        self.names, self.chosen = tuple(names), chosen


@dataclass(frozen=True)
class Completed:
    """What takes the place of a path that was typed; `listed` if several could be meant."""

    text: str
    listed: Listed | None = None


class Completer:
    """Tab adds what all that could be meant have in common; where that is nothing, it goes through them one by one."""

    def __init__(self, *, only_folders: bool) -> None:
        self._only_folders = only_folders
        self._offered: tuple[str, ...] = ()  # what tab goes through
        self._offered_in = ""  # what stands in the field while it does

    def forget(self) -> None:
        """Nothing is offered any more."""
        self._offered = ()

    def next(self, text: str, start: Path, *, at_end: bool) -> Completed | None:
        """After one more tab on `text`, its relative paths starting at `start`; None if there is nothing to add.
        `at_end`: the cursor is behind it."""
        if text and text == self._offered_in and self._offered:
            here = self._offered.index(text) if text in self._offered else -1
            return self._offer(self._offered[(here + 1) % len(self._offered)])
        if not text or not at_end:
            return None
        found = completions(text, start, only_folders=self._only_folders)
        common = _common(found)
        if not found or (len(found) == 1 and common == text):
            return None
        if len(common) > len(text) or len(found) == 1:
            self._offered = ()
            return Completed(common, Listed([_name(other) for other in found], None) if len(found) > 1 else None)
        self._offered = tuple(found)
        return self._offer(found[0])

    def _offer(self, text: str) -> Completed:
        self._offered_in = text
        return Completed(text, Listed([_name(other) for other in self._offered], _name(text)))


class PathInput(Input):
    """With nothing to complete, and through a path that was not touched and is there, tab leaves the field, as
    everywhere. `folder` is where relative paths start."""

    def __init__(self, value: str, *, only_folders: bool, placeholder: str = "") -> None:
        super().__init__(value, compact=True, placeholder=placeholder, select_on_focus=False)
        self.folder = places.profiles_folder()
        self._completer = Completer(only_folders=only_folders)
        self._came_with = value  # at the last focus

    def on_focus(self) -> None:
        self._came_with = self.value
        self._completer.forget()

    def complete(self) -> bool:
        """Whether there was something to complete."""
        if self.value == self._came_with and places.expand(self.value, self.folder).exists():
            return False
        found = self._completer.next(self.value, self.folder, at_end=self.cursor_position >= len(self.value))
        if found is None:
            return False
        self.value = found.text
        self.cursor_position = len(found.text)
        if found.listed is not None:
            self.post_message(found.listed)
        return True


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
