"""A profile as a person wrote it: edited key by key, with comments, order and quoting left alone."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError, TOMLKitError
from tomlkit.items import AoT, Array, Item, String, StringType, Table
from tomlkit.toml_document import TOMLDocument

from engine.contract.atomic import write_text

Stamp = tuple[int, int, int]
UNDO_DEPTH = 200


class ChangedOnDiskError(ValueError):
    """Somebody else wrote the file since it was read here."""


class ProfileFile:
    """One TOML file and the edits made to it since it was opened.

    Paths are dotted names of a section and a key (`train.steps`). Values are plain: bool, int, float, str, list, and
    list of dicts for `[[data.folders]]`. What is no number may stand where a number belongs: what was typed is never
    lost, and the check says what is wrong with it.
    """

    def __init__(self, path: Path, text: str, stamp: Stamp | None) -> None:
        self.path = path
        self._stamp = stamp
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._saved = text.replace("\r\n", "\n")
        self._document = _parse(path, self._saved)
        self._history: list[tuple[str, str]] = []

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
        if all(_same(self.get(path), value) for path, value in values.items()):
            return
        group = " ".join(sorted(values))
        if self._history and self._history[-1][0] == group:
            # Letters typed in one field are one change, from where it began: a key that was empty for a moment has
            # its comment and its place again.
            self._document = _parse(self.path, self._history[-1][1])
        else:
            self._history.append((group, self.text))
            del self._history[:-UNDO_DEPTH]
        for path, value in values.items():
            if not _same(self.get(path), value):
                section, name = path.split(".")
                self._write(section, name, value)

    def undo(self) -> str | None:
        """Take the last change back; returns the path that changed (the first, if several), or None if none is left."""
        while self._history:
            group, text = self._history.pop()
            if text != self.text:
                self._document = _parse(self.path, text)
                return group.split()[0]
        return None

    def end_of_change(self) -> None:
        """The next edit is a change of its own even if it is in the same field."""
        if self._history:
            self._history[-1] = (self._history[-1][0] + " ", self._history[-1][1])

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
        self._saved, self._stamp = text, _stamp(self.path)
        self.end_of_change()

    def save_as(self, path: Path) -> None:
        """Write to a new place, which is this file from now on. Raises FileExistsError rather than replace a file."""
        if path.exists():
            raise FileExistsError(f"{path} exists already: choose another name")
        self.path, self._stamp = path, None
        self.save()

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
        if isinstance(value, list) and isinstance(old, (AoT, Array)):
            _edit_list(old, value)
        elif isinstance(value, list):
            table[name] = _new_list(value)
        else:
            table[name] = _scalar(value, old)

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


def _same(old: Any, new: Any) -> bool:
    """Equal in value and in kind: 1, 1.0 and true are three different settings."""
    return type(old) is type(new) and old == new


def _scalar(value: bool | int | float | str, old: Any) -> Item:
    if isinstance(value, str):
        literal = isinstance(old, String) and old._t is StringType.SLL and "'" not in value and value.isprintable()
        return tomlkit.string(value, literal=literal)
    if isinstance(value, float):
        return tomlkit.value(spelt(value))
    return tomlkit.item(value)


def spelt(value: float) -> str:
    """Python's shortest spelling without the padded exponent: 1e-6, not 1e-06."""
    return re.sub(r"e([+-])0*(\d)", lambda found: f"e{found[1].replace('+', '')}{found[2]}", repr(value))


def _new_list(value: Sequence[Any]) -> Array | AoT:
    if value and all(isinstance(entry, dict) for entry in value):
        tables = tomlkit.aot()
        for entry in value:
            tables.append(_table(entry))
        return tables
    array = tomlkit.array()
    for entry in value:
        array.append(entry)
    return array.multiline(len(value) > 1)


def _edit_list(old: AoT | Array, new: Sequence[Any]) -> None:
    """Make `old` equal `new` touching only the entries between their common beginning and their common end."""
    entries = old.unwrap()
    start = 0
    while start < min(len(entries), len(new)) and _same(entries[start], new[start]):
        start += 1
    end = 0
    while end < min(len(entries), len(new)) - start and _same(entries[-1 - end], new[-1 - end]):
        end += 1
    middle = new[start : len(new) - end]
    common = min(len(entries) - end - start, len(middle))
    make: Callable[[Any], Any] = _table if isinstance(old, AoT) else _entry
    for index in range(common):
        _replace(old, start + index, middle[index])
    for _ in range(len(entries) - end - start - common):
        del old[start + common]
    for index, value in enumerate(middle[common:], start + common):
        if isinstance(old, AoT) and index == len(old) and index and old[-1].as_string().endswith("\n\n"):
            value = _table(value)
            value.add(tomlkit.nl())  # what follows keeps the blank line before it
            old.append(value)
        else:
            old.insert(index, make(value))


def _replace(old: AoT | Array, index: int, value: Any) -> None:
    if not isinstance(value, dict):
        old[index] = value
        return
    entry = old[index]
    for name in [name for name in entry if name not in value]:
        del entry[name]
    for name, inner in value.items():
        if not _same(entry.get(name), inner):
            entry[name] = inner


def _entry(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    table = tomlkit.inline_table()
    table.update(value)
    return table


def _table(value: Mapping[str, Any]) -> Table:
    table = tomlkit.table()
    table.update(value)
    return table
