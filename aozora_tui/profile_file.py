"""A profile as a person wrote it: edited key by key, with comments, order and quoting left alone."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError, TOMLKitError
from tomlkit.items import AoT, Array, InlineTable, Item, Table
from tomlkit.toml_document import TOMLDocument

from aozora_tui.toml_edit import edit_list, fill_table, new_list, same, scalar
from engine.contract.atomic import write_text
from engine.contract.schema import keep_beside

Stamp = tuple[int, int, int]
UNDO_DEPTH = 1000
REST = "file"  # stands for what no field shows: comments, order, unknown keys


class ChangedOnDiskError(ValueError):
    """Somebody else wrote the file since it was read here."""


class ProfileFile:
    """One TOML file and the edits made to it since it was opened.

    Paths are dotted names of a section and a key (`train.steps`). Values are plain: bool, int, float, str, list, list
    of dicts for `[[data.folders]]`, and dict for `[optimizer.rates]`, which is not there when it is empty. What is no
    number may stand where a number belongs: what was typed is never lost, and the check says what is wrong with it.
    """

    def __init__(self, path: Path, text: str, stamp: Stamp | None) -> None:
        self.path = path
        self._stamp = stamp
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._saved = text.replace("\r\n", "\n")
        self._document = _parse(path, self._saved)
        self._history: list[tuple[str, str]] = []  # what changed, and the text before it
        self._future: list[tuple[str, str]] = []  # what was undone, and the text before that

    @classmethod
    def open(cls, path: Path) -> ProfileFile:
        """Raises ValueError with the reason when the file cannot be read or is not TOML."""
        try:
            stamp = _stamp(path)
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name} cannot be read ({error}): check the file") from None
        return cls(path, text, stamp)

    @property
    def text(self) -> str:
        """What the file will hold, with plain line ends; saving writes those that the file had."""
        return self._document.as_string()

    @property
    def modified(self) -> bool:
        return self.text != self._saved

    def get(self, path: str) -> Any:
        """The plain value in the file, or None if the key is not there."""
        section, name = path.split(".")
        table = self._document.get(section)
        value = table.get(name) if isinstance(table, Mapping) else None
        return value.unwrap() if isinstance(value, Item) else value

    @property
    def saved_text(self) -> str:
        """What the disk held when it was last read or written here, with plain line ends."""
        return self._saved

    def saved(self, path: str) -> Any:
        """The value as it is on the disk, or None."""
        section, name = path.split(".")
        table = tomllib.loads(self._saved).get(section)
        return table.get(name) if isinstance(table, dict) else None

    def set(self, path: str, value: Any) -> None:
        """Write one key; None takes it out, so that the default holds again."""
        self.update({path: value})

    def update(self, values: Mapping[str, Any]) -> None:
        """Several keys as one change, undone together. Keys that already have their value are not touched."""
        values = {path: None if value == {} else value for path, value in values.items()}
        if all(same(self.get(path), value) for path, value in values.items()):
            return
        group = " ".join(sorted(values))
        if self._history and self._history[-1][0] == group:
            # Letters typed in one field are one change, from where it began: a key that was empty for a moment has
            # its comment and its place again.
            self._document = _parse(self.path, self._history[-1][1])
        else:
            self._remember(group)
        self._future.clear()
        for path, value in values.items():
            if not same(self.get(path), value):
                section, name = path.split(".")
                self._write(section, name, value)

    def replace(self, text: str, changed: Sequence[str] = (REST,)) -> None:
        """Another text as one change, undone together; `changed` are the paths that it changes, for those who ask what
        was undone. Raises ValueError, with the line, if it is not TOML."""
        document = _parse(self.path, text := text.replace("\r\n", "\n"))
        if text != self.text:
            self.end_of_change()
            self._remember(" ".join(changed) or REST)
            self._future.clear()
            self._document = document
            self.end_of_change()

    def undo(self) -> str | None:
        """Take the last change back; returns the path that changed (the first, if several), or None if none is left."""
        return self._step(self._history, self._future)

    def redo(self) -> str | None:
        """Make the last change again that was taken back and that no edit has followed; returns as `undo` does."""
        return self._step(self._future, self._history)

    def end_of_change(self) -> None:
        """The next edit is a change of its own even if it is in the same field."""
        if self._history:
            self._history[-1] = (self._history[-1][0] + " ", self._history[-1][1])

    def on_disk(self) -> tuple[str, Stamp | None]:
        """The text that is on the disk now, with plain line ends. Raises OSError, and ValueError if it is no TOML."""
        stamp = _stamp(self.path)
        text = self.path.read_bytes().decode("utf-8").replace("\r\n", "\n")
        _parse(self.path, text)
        return text, stamp

    def rebase(self, text: str, stamp: Stamp | None, merged: str, changed: Sequence[str]) -> None:
        """From now on `text` is what is on the disk, as it was at `stamp`, and `merged` what it shall become."""
        self.replace(merged, changed)
        self._saved, self._stamp = text, stamp

    @property
    def stamp(self) -> Stamp | None:
        """Of the file on the disk as it is now: a change of it says that somebody wrote."""
        return _stamp(self.path)

    def changed_on_disk(self) -> bool:
        return self._stamp is not None and _stamp(self.path) != self._stamp

    def save(self, *, overwrite: bool = False) -> None:
        """Write the file whole or not at all. Raises ChangedOnDiskError rather than lose another writer's work, and
        OSError if the disk refuses."""
        if not overwrite and self.changed_on_disk():
            raise ChangedOnDiskError(f"{self.path.name} was changed by another program since it was opened here")
        text = self.text
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, text.replace("\n", self._newline))
        keep_beside(self.path, text)
        self._saved, self._stamp = text, _stamp(self.path)
        self.end_of_change()

    def save_as(self, path: Path) -> None:
        """Write to a new place, which is this file from now on. Raises FileExistsError rather than replace a file."""
        if path.exists():
            raise FileExistsError(f"{path} exists already: choose another name")
        self.path, self._stamp = path, None
        self.save()

    def _remember(self, group: str) -> None:
        self._history.append((group, self.text))
        del self._history[:-UNDO_DEPTH]

    def _step(self, back: list[tuple[str, str]], ahead: list[tuple[str, str]]) -> str | None:
        while back:
            group, text = back.pop()
            if text != self.text:
                ahead.append((group, self.text))
                self._document = _parse(self.path, text)
                self.end_of_change()
                return group.split()[0]
        return None

    def _write(self, section: str, name: str, value: Any) -> None:
        table = self._document.get(section)
        if table is None:
            if value is None:
                return
            table = self._new_section(section)
        if value is None:
            if name in table:
                table.remove(name) if isinstance(table, Table) else table.pop(name)
            return
        old = table.get(name)
        if isinstance(value, dict):
            self._write_table(section, name, value)
        elif isinstance(value, list) and isinstance(old, (AoT, Array)):
            edit_list(old, value)
        elif isinstance(value, list):
            table[name] = new_list(value)
        else:
            table[name] = scalar(value, old)

    def _write_table(self, section: str, name: str, value: Mapping[str, Any]) -> None:
        table: Any = self._document[section]
        old = table.get(name)
        if isinstance(table, InlineTable) or isinstance(old, InlineTable):
            table[name] = fill_table(tomlkit.inline_table(), old, value)
            return
        table[name] = fill_table(tomlkit.table(), old, value)
        # What follows keeps the blank line before it.
        if old is None and not self.text.endswith(own := table[name].as_string()) and not own.endswith("\n\n"):
            table[name].add(tomlkit.nl())

    def _new_section(self, section: str) -> Any:
        if self._document.body and not self.text.endswith("\n\n"):
            self._document.add(tomlkit.nl())
        self._document.add(section, tomlkit.table())
        return self._document[section]


def number(text: str) -> int | float | str:
    """What was typed into a number's field, spelt as TOML allows; the text itself if it is no number."""
    stripped = text.strip()
    for reading in (int, float):
        try:
            return reading(stripped)
        except ValueError:
            continue
    return stripped


def free_path(folder: Path, stem: str) -> Path:
    """`folder/stem.toml`, or `stem-2.toml` and so on while that name is taken."""
    bare = re.sub(r"-\d+$", "", stem)
    names = [stem, *(f"{bare}-{index}" for index in range(2, 1000))]
    return next(path for name in names if not (path := folder / f"{name}.toml").exists())


def _parse(path: Path, text: str) -> TOMLDocument:
    try:
        return tomlkit.parse(text)
    except ParseError as error:
        raise ValueError(f"{path.name} is not valid TOML: {error}; correct that line in an editor") from None
    except TOMLKitError as error:
        raise ValueError(f"{path.name} is not valid TOML: {error}; correct it in an editor") from None


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
