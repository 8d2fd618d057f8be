"""A profile as a person wrote it: edited key by key, with comments, order and quoting left alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError, TOMLKitError
from tomlkit.items import AoT, Array, InlineTable, Item, Table
from tomlkit.toml_document import TOMLDocument

from aozora_tui import text_file
from aozora_tui.text_file import Found, Stamp, plain, stamp_of
from aozora_tui.toml_edit import edit_list, fill_table, new_list, same, scalar, table_of
from engine.contract.profile_values import written_values
from engine.contract.schema import keep_beside

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
        self._disk = Found(text, stamp)
        self._document = _parse(path, self._disk.text)
        self._values: dict[str, Any] | None = None  # what the disk writes for each field, once that was asked for
        self._history: list[tuple[str, str]] = []  # what changed, and the text before it
        self._future: list[tuple[str, str]] = []  # what was undone, and the text before that
        self.mended = 0  # sections that were no tables, by an edit of one field: others may have a value since

    @classmethod
    def open(cls, path: Path) -> ProfileFile:
        """Raises ValueError with the reason when the file cannot be read or is not TOML."""
        try:
            found = text_file.read(path)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name} cannot be read ({error}): check the file") from None
        return cls(path, found.raw, found.stamp)

    @property
    def text(self) -> str:
        """What the file will hold, with plain line ends; saving writes those that the file has."""
        return self._document.as_string()

    @property
    def modified(self) -> bool:
        """Whether the disk has another text, or none any more."""
        return self.text != self.saved_text or self.gone

    def get(self, path: str) -> Any:
        """The plain value in the file, or None if the key is not there."""
        section, name = path.split(".")
        table = self._document.get(section)
        value = table.get(name) if isinstance(table, Mapping) else None
        return value.unwrap() if isinstance(value, Item) else value

    @property
    def saved_text(self) -> str:
        """What the disk held when it was last read or written here, with plain line ends."""
        return self._disk.text

    def saved(self, path: str) -> Any:
        """The value as it is on the disk, or None."""
        if self._values is None:
            self._values = written_values(self._disk.text)
        return self._values.get(path)

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
                self._put(section, name, value)

    def replace(self, text: str, changed: Sequence[str] = (REST,)) -> None:
        """Another text as one change, undone together; `changed` are the paths that it changes, for those who ask what
        was undone. Raises ValueError, with the line, if it is not TOML."""
        document = _parse(self.path, text := plain(text))
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

    def on_disk(self) -> Found:
        """What is on the disk now. Raises OSError, and ValueError if it is no TOML."""
        found = text_file.read(self.path)
        _parse(self.path, found.text)
        return found

    def rebase(self, found: Found, merged: str, changed: Sequence[str]) -> None:
        """From now on `found` is what is on the disk, and `merged` what it shall become."""
        self.replace(merged, changed)
        self._disk, self._values = found, None

    @property
    def stamp(self) -> Stamp | None:
        """Of the file on the disk as it is now, None if it is not there; while nobody can tell, as it was."""
        try:
            return stamp_of(self.path)
        except OSError:
            return self._disk.stamp

    @property
    def gone(self) -> bool:
        """Whether the file was there and is no more."""
        return self._disk.stamp is not None and self.stamp is None

    def changed_on_disk(self) -> bool:
        """Whether somebody else wrote the file, or took it away."""
        return self._disk.stamp not in (None, self.stamp)

    def save(self, *, overwrite: bool = False, read_only: bool = False) -> None:
        """Write the file whole or not at all. Raises ChangedOnDiskError rather than lose another writer's work, unless
        to `overwrite` it is asked for; ReadOnlyError likewise; and OSError if the disk refuses."""
        self._write(self.path, (lambda: None) if overwrite else self._require_unchanged, read_only=read_only)

    def save_as(self, path: Path) -> None:
        """Write to a new place, which is this file from now on. Raises FileExistsError rather than replace a file."""

        def require_free() -> None:
            if path.exists() or path.is_symlink():
                raise FileExistsError(f"{path} exists already: choose another name")

        self._write(path, require_free)
        self.path = path

    def _write(self, path: Path, before: Callable[[], None], *, read_only: bool = False) -> None:
        text = self.text
        before()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._disk = text_file.write(path, self._disk.spelt(text), before=before, read_only=read_only)
        self._values = None
        keep_beside(path, text)
        self.end_of_change()

    def _require_unchanged(self) -> None:
        """A file that was only touched holds what it held."""
        if not self.changed_on_disk() or self.gone:
            return
        try:
            if text_file.read(self.path).raw == self._disk.raw:
                return
        except (OSError, ValueError):
            pass
        raise ChangedOnDiskError(f"{self.path.name} was changed by another program since it was opened here")

    def _remember(self, group: str) -> None:
        """The oldest change is never forgotten, those next to it become one with it: it leads back to the file."""
        self._history.append((group, self.text))
        if len(self._history) > UNDO_DEPTH:
            self._history[:2] = [(REST, self._history[0][1])]

    def _step(self, back: list[tuple[str, str]], ahead: list[tuple[str, str]]) -> str | None:
        while back:
            group, text = back.pop()
            if text != self.text:
                ahead.append((group, self.text))
                self._document = _parse(self.path, text)
                self.end_of_change()
                return group.split()[0]
        return None

    def _put(self, section: str, name: str, value: Any) -> None:
        table: Any = self._document.get(section)
        if not isinstance(table, Mapping):
            if value is None:
                return
            table = self._new_section(section)
        if value is None:
            if name in table:
                table.remove(name) if isinstance(table, Table) else table.pop(name)
            return
        old = table.get(name)
        if isinstance(value, dict):
            self._put_table(section, name, value)
        elif isinstance(value, list) and isinstance(old, (AoT, Array)):
            edit_list(old, value)
        elif isinstance(value, list):
            table[name] = new_list(value)
        else:
            table[name] = scalar(value, old)

    def _put_table(self, section: str, name: str, value: Mapping[str, Any]) -> None:
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
        """What is written under that name and is no table becomes one."""
        fresh = tomlkit.table()
        if section in self._document:
            fresh = table_of(section, self._document[section])
            self.mended += 1
            self._document.remove(section)
        if self._document.body and not self.text.endswith("\n\n"):
            self._document.add(tomlkit.nl())
        self._document.add(section, fresh)
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
