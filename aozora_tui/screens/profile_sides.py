"""What a profile can be compared with: the defaults, its file, the latest run of it, another profile."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aozora_tui import text_file
from aozora_tui.profile_file import ProfileFile
from aozora_tui.run_list import is_run_of
from engine.contract import places, rundir
from engine.contract.fields import FormField, form_fields, sections
from engine.contract.profile_values import default_of, differences, settled, shown, written_values
from engine.contract.rundir import RunDir


@dataclass(frozen=True)
class Side:
    """`name` is for people. `text` is TOML; its relative paths start at `folder`."""

    name: str
    text: str
    folder: Path


@dataclass(frozen=True)
class Unlike:
    """A field that differs: what the form shows here and what it would show there, and what the other side writes down,
    None where it leaves the default."""

    field: FormField
    here: Any
    there: Any
    written: Any


def unlike(file: ProfileFile, side: Side) -> list[Unlike]:
    """Where the profile as it is edited differs from the other side, in the form's order. A default that is written
    down is no difference, nor is a path that leads to the same place. Raises ValueError for a side that is not TOML."""
    mine, theirs = written_values(file.text), written_values(side.text)
    folders, found = (file.path.parent, side.folder), []
    for each in differences(mine, theirs, folders):
        field, here, there = each.field, each.before, each.after
        written = None if there == default_of(field) and file.saved(field.path) is None else theirs[field.path]
        found.append(Unlike(field, here, there, _carried(field, written, *folders)))
    return found


def sides(file: ProfileFile) -> list[Side]:
    """What there is to compare with. For a thread: it reads files."""
    found = [Side("the defaults", "", file.path.parent), Side("the saved file", file.saved_text, file.path.parent)]
    run = next((run for run in rundir.all_runs(places.runs_folder()) if is_run_of(run, file.path)), None)
    if run is not None and (text := _read(run.profile)) is not None:
        found.append(Side(f"the run {run.name}", text, run.path))
    return found


def read_side(path: Path, *, recipe: bool = False) -> Side:
    """Another profile. Raises ValueError, saying why, for what is none."""
    try:
        text = text_file.read(path).text
        written, tables = written_values(text), set(tomllib.loads(text))
    except (OSError, ValueError):
        raise ValueError(f"{path.name} cannot be read as TOML: nothing is compared with it") from None
    known = {section.name for section in sections()}
    if not any(value is not None for value in written.values()) or len(tables - known) > len(tables & known):
        raise ValueError(f"{path.name} is no profile: it has not the tables of one, as [model] and [train]")
    return Side(f"the {'recipe' if recipe else 'profile'} {path.stem}", text, path.parent)


def run_values(live: Iterable[RunDir], path: Path) -> Mapping[str, Any]:
    """What the newest of `live` that is a run of this profile has in each field, as the form would show it; nothing if
    there is none."""
    run = next((run for run in live if is_run_of(run, path)), None)
    text = _read(run.profile) if run is not None else None
    if text is None:
        return {}
    written = written_values(text)
    return {path: shown(field, written[path]) for path, field in form_fields().items()}


def alike(field: FormField, here: Any, there: Any, folder: Path) -> bool:
    """Whether the form's value is the one of a run, whose paths are absolute."""
    return bool(settled(field, here, folder) == settled(field, there, folder))


def _read(path: Path) -> str | None:
    try:
        text = text_file.read(path).text
        written_values(text)
    except (OSError, ValueError):
        return None
    return text


def _carried(field: FormField, raw: Any, here: Path, there: Path) -> Any:
    """A value of the other side as it must be written here: its relative paths start elsewhere."""
    moves = here != there and field.kind in ("file", "folder", "folders")
    return settled(field, raw, there) if moves else raw
