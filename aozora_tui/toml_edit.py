"""Values in a TOML document, changed so that what a person wrote around them stays."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, InlineTable, Item, Key, SingleKey, String, StringType, Table, Trivia, Whitespace


def same(old: Any, new: Any) -> bool:
    """Equal in value and in kind: 1, 1.0 and true are three different settings."""
    if isinstance(old, dict) and isinstance(new, dict):
        return list(old) == list(new) and all(same(old[name], new[name]) for name in old)
    return type(old) is type(new) and bool(old == new)


def scalar(value: bool | int | float | str, old: Any) -> Item:
    """A text in the quotes that `old` has, as far as it can be written in those."""
    if isinstance(value, str):
        return _quoted(value, old) if isinstance(old, String) else tomlkit.string(value)
    if isinstance(value, float):
        return tomlkit.value(spelt(value))
    return tomlkit.item(value)


def _quoted(value: str, old: String) -> Item:
    if old._t is StringType.SLL and "'" not in value and value.isprintable():
        return tomlkit.string(value, literal=True)
    kinds = {StringType.MLL: (StringType.MLL, StringType.MLB), StringType.MLB: (StringType.MLB,)}
    for kind in kinds.get(old._t, ()):
        with contextlib.suppress(TOMLKitError, ValueError):
            fresh = String.from_raw(value, kind)
            # A line end right after the quotes is not of the text.
            below = old._original.startswith("\n") and not fresh._original.startswith("\n")
            fresh = String(kind, value, "\n" + fresh._original if below else fresh._original, Trivia())
            written = fresh.as_string()
            if value == tomllib.loads(f"x = {written}")["x"] == tomlkit.value(written).unwrap():
                return fresh
    return tomlkit.string(value)


def spelt(value: float) -> str:
    """Python's shortest spelling without the padded exponent: 1e-6, not 1e-06."""
    return re.sub(r"e([+-])0*(\d)", lambda found: f"e{found[1].replace('+', '')}{found[2]}", repr(value))


def fill_table(fresh: Any, old: Any, new: Mapping[str, Any]) -> Any:
    """Put the entries of `new` into `fresh`, an empty table, as `old`, a table or not, writes them: an entry that has
    another name or value now keeps its place and its comment."""
    body: list[tuple[Key | None, Item]] = list(old.value.body) if isinstance(old, (Table, InlineTable)) else []
    ends = [body.pop()] if body and isinstance(body[-1][1], Whitespace) else []
    before, names = [key.key for key, _ in body if key is not None], list(new)
    start, end = _common(before, names)
    renamed = dict(zip(before[start : len(before) - end], names[start : len(names) - end], strict=False))
    written: list[tuple[Key | None, Item]] = []
    place = {}  # of what is written, by name
    for key, item in body:
        name = "" if key is None else renamed.get(key.key, key.key)
        if key is None:
            written.append((None, item))
        elif name in new and name not in place:
            place[name] = len(written)
            entry = item if same(item.unwrap(), new[name]) else _like(item, new[name])
            written.append((key if name == key.key else SingleKey(name), entry))
    begin = 0 if place else len(written)
    for index, name in reversed(list(enumerate(names))):  # from the end, so that the places before it stay
        if name not in place:
            after = next((place[other] + 1 for other in reversed(names[:index]) if other in place), begin)
            written.insert(after, (SingleKey(name), _like(None, new[name])))
    for key, item in (*written, *ends):
        fresh.append(key, item)
    return fresh


def _common(old: Sequence[Any], new: Sequence[Any]) -> tuple[int, int]:
    """How many entries at the beginning and, of the others, at the end are the same."""
    start = 0
    while start < min(len(old), len(new)) and same(old[start], new[start]):
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and same(old[-1 - end], new[-1 - end]):
        end += 1
    return start, end


def _like(old: Item | None, value: Any) -> Item:
    """A value with the comment that stands behind `old`."""
    item = scalar(value, old) if isinstance(value, (bool, int, float, str)) else tomlkit.item(_entry(value))
    if old is not None:
        item.trivia.indent, item.trivia.trail = old.trivia.indent, old.trivia.trail
        item.trivia.comment_ws, item.trivia.comment = old.trivia.comment_ws, old.trivia.comment
    return item


def table_of(name: str, old: Any) -> Table:
    """What is written under `name` and is no table, as one: of a list of tables the first; all else is in its comments,
    as it was written."""
    entries = [entry for entry in old if isinstance(entry, (Table, InlineTable))] if isinstance(old, list) else []
    fresh, said = tomlkit.table(), []
    if not entries:
        said = f"{name} = {old.as_string()}{old.trivia.comment_ws}{old.trivia.comment}".splitlines()
    for entry in entries[:1]:
        if isinstance(entry, Table):
            fresh.trivia.comment_ws, fresh.trivia.comment = entry.trivia.comment_ws, entry.trivia.comment
            for key, item in entry.value.body:
                fresh.append(key, item)
        else:
            fresh.update(entry.unwrap())
    for entry in entries[1:]:
        said += entry.as_string().splitlines()
    for line in said:
        if line.strip():
            fresh.add(tomlkit.comment(line))
    return fresh


def new_list(value: Sequence[Any]) -> Array | AoT:
    if value and all(isinstance(entry, dict) for entry in value):
        tables = tomlkit.aot()
        for entry in value:
            tables.append(_table(entry))
        return tables
    array = tomlkit.array()
    for entry in value:
        array.append(entry)
    return array.multiline(len(value) > 1)


def edit_list(old: AoT | Array, new: Sequence[Any]) -> None:
    """Make `old` equal `new` touching only the entries between their common beginning and their common end."""
    entries = old.unwrap()
    start, end = _common(entries, new)
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
        old[index] = scalar(value, old[index]) if isinstance(value, (bool, int, float, str)) else value
        return
    entry = old[index]
    for name in [name for name in entry if name not in value]:
        del entry[name]
    for name, inner in value.items():
        if not same(before := entry.get(name), inner):
            entry[name] = scalar(inner, before) if isinstance(inner, (bool, int, float, str)) else inner


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
