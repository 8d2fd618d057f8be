"""What a profile can be compared with: the defaults, its file, the latest run of it, another profile."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aozora_tui.profile_file import ProfileFile
from aozora_tui.profile_merge import written_values
from aozora_tui.screens.field_words import default_of
from engine.contract import places, rundir
from engine.contract.fields import FormField, form_fields
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
    found = []
    for path, field in form_fields().items():
        here, there = _shown(field, mine[path]), _shown(field, theirs[path])
        if _settled(field, here, file.path.parent) != _settled(field, there, side.folder):
            written = None if there == default_of(field) and file.saved(path) is None else theirs[path]
            found.append(Unlike(field, here, there, _carried(field, written, file.path.parent, side.folder)))
    return found


def sides(file: ProfileFile) -> list[Side]:
    """What there is to compare with. For a thread: it reads files."""
    found = [Side("the defaults", "", file.path.parent), Side("the saved file", file.saved_text, file.path.parent)]
    run = next((run for run in rundir.all_runs(places.runs_folder()) if _is_of(run, file.path)), None)
    if run is not None and (text := _read(run.profile)) is not None:
        found.append(Side(f"the run {run.name}", text, run.path))
    return found


def read_side(path: Path) -> Side | None:
    """Another profile; None if it cannot be read."""
    text = _read(path)
    return None if text is None else Side(f"the profile {path.stem}", text, path.parent)


def run_values(live: Iterable[RunDir], path: Path) -> Mapping[str, Any]:
    """What the newest of `live` that is a run of this profile has in each field, as the form would show it; nothing if
    there is none."""
    run = next((run for run in live if _is_of(run, path)), None)
    text = _read(run.profile) if run is not None else None
    if text is None:
        return {}
    return {name: _shown(form_fields()[name], raw) for name, raw in written_values(text).items()}


def alike(field: FormField, here: Any, there: Any, folder: Path) -> bool:
    """Whether the form's value is the one of a run, whose paths are absolute."""
    return bool(_settled(field, here, folder) == _settled(field, there, folder))


def _is_of(run: RunDir, path: Path) -> bool:
    """By its name, which begins with the profile's and goes on with the time."""
    stem = re.sub(r"[^\w.-]+", "-", path.stem).strip("-.") or "run"
    return re.sub(r"-\d{8}-\d{6}(-\d+)?$", "", run.name) == stem


def _read(path: Path) -> str | None:
    try:
        text = path.read_bytes().decode("utf-8")
        written_values(text)
    except (OSError, ValueError):
        return None
    return text.replace("\r\n", "\n")


def _shown(field: FormField, raw: Any) -> Any:
    return default_of(field) if raw is None else raw


def _settled(field: FormField, raw: Any, folder: Path) -> Any:
    """The same for two spellings of one setting."""
    if field.kind in ("file", "folder") and isinstance(raw, str) and raw:
        return str(places.expand(raw, folder))
    if field.kind == "folders" and isinstance(raw, list):
        return [_settled_entry(entry, folder) for entry in raw]
    return list(raw) if isinstance(raw, tuple) else raw


def _settled_entry(entry: Any, folder: Path) -> Any:
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        return entry
    return {"repeats": 1, **entry, "path": str(places.expand(entry["path"], folder))}


def _carried(field: FormField, raw: Any, here: Path, there: Path) -> Any:
    """A value of the other side as it must be written here: its relative paths start elsewhere."""
    moves = here != there and field.kind in ("file", "folder", "folders")
    return _settled(field, raw, there) if moves else raw
