"""A profile as plain TOML values by field, and how two of them differ: as they are edited, as they ran, as they resume.

A path here is a field's dotted name, `train.steps`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.contract import places
from engine.contract.fields import FormField, form_fields
from engine.contract.sections import Profile

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """Plain TOML values, the default where nothing is written; None for a required field that is not."""

    field: FormField
    before: Any
    after: Any


def default_of(field: FormField) -> Any:
    """The default as a plain TOML value, None if there is none."""
    return None if field.required else _plain(msgspec.to_builtins(field.default))


def written_values(text: str) -> dict[str, Any]:
    """What a profile's text writes for every field, None where it writes nothing. Raises ValueError for no TOML."""
    read = tomllib.loads(text)
    tables = {name: table for name, table in read.items() if isinstance(table, dict)}
    return {path: tables.get(field.section, {}).get(field.name) for path, field in form_fields().items()}


def values_of(profile: Profile) -> dict[str, Any]:
    """Of every field of a profile that could be read."""
    sections = msgspec.to_builtins(profile)
    return {path: _plain(sections[field.section][field.name]) for path, field in form_fields().items()}


def differences(before: Values, after: Values, folders: tuple[Path, Path] | None = None) -> tuple[Difference, ...]:
    """In the form's order. A default that is written down is no difference; nor, if the `folders` are told in which the
    relative paths of each begin, is a path that leads to the same place."""
    found = []
    for path, field in form_fields().items():
        old, new = shown(field, before.get(path)), shown(field, after.get(path))
        ours, theirs = folders or (None, None)
        if settled(field, old, ours) != settled(field, new, theirs):
            found.append(Difference(field, old, new))
    return tuple(found)


def settled(field: FormField, raw: Any, folder: Path | None) -> Any:
    """The same for two spellings of one setting; paths as they are if `folder`, in which they begin, is None."""
    if folder is None:
        return raw
    if field.kind in ("file", "folder") and isinstance(raw, str) and raw:
        return str(places.expand(raw, folder))
    if field.kind == "folders" and isinstance(raw, list):
        return [_settled_entry(entry, folder) for entry in raw]
    return raw


def _settled_entry(entry: Any, folder: Path) -> Any:
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        return entry
    return {"repeats": 1, **entry, "path": str(places.expand(entry["path"], folder))}


def _plain(raw: Any) -> Any:
    """As TOML's readers give it: it has no tuples."""
    return [_plain(entry) for entry in raw] if isinstance(raw, (list, tuple)) else raw


def shown(field: FormField, raw: Any) -> Any:
    """What holds where `raw` is written, None for nothing."""
    return default_of(field) if raw is None else raw
