"""A folder for what was deleted, so that it can be had back. No Textual."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from aozora_tui import runs
from engine.contract import places, rundir
from engine.contract.rundir import RunDir

_HERE = ".trash"  # beside what is deleted, where the trash folder is on another disk


@dataclass(frozen=True)
class Thrown:
    """Where it was, and where it is."""

    original: Path
    kept: Path


def folder() -> Path:
    return places.data_folder() / "trash"


def throw(path: Path, now: float) -> Thrown:
    """Move a file or folder to the trash, under a name that begins with the time (`now`, Unix seconds). Nothing is
    copied: from another disk it goes to a `.trash` beside it. Raises OSError."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    try:
        return Thrown(path, _move(path, folder(), f"{stamp}-{path.name}"))
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    return Thrown(path, _move(path, path.parent / _HERE, f"{stamp}-{path.name}"))


def throw_run(run: RunDir, now: float) -> Thrown:
    """The same for a run's folder. Raises ValueError, saying why, if an engine works in it or may."""
    if reason := why_not(run):
        raise ValueError(reason)
    with contextlib.ExitStack() as held:
        if run.lock.is_file():  # nobody can start it again while it is moved
            try:
                held.callback(os.close, rundir.acquire(run))
            except rundir.LockedError as error:
                raise ValueError(str(error)) from None
        return throw(run.path, now)


def why_not(run: RunDir) -> str:
    """Why a run cannot be deleted; empty if it can. One that cannot be read has no engine that we could harm."""
    try:
        state = runs.state_now(run)
    except (OSError, ValueError):
        return ""
    if state in rundir.LIVE_STATES:
        return f"{run.name} is {state}: stop it first (enter opens it, s stops it)"
    if state == "elsewhere":
        return f"{run.name} was started on another machine and may be live there: delete it there"
    return ""


def put_back(thrown: Thrown) -> None:
    """Raises FileExistsError if something has taken its place, OSError if it cannot be moved."""
    if os.path.lexists(thrown.original):
        raise FileExistsError(f"{thrown.original} exists again: {thrown.kept} is left where it is")
    thrown.original.parent.mkdir(parents=True, exist_ok=True)
    thrown.kept.rename(thrown.original)


def size_of(path: Path, most: int = 20_000) -> int:
    """Bytes of a file or of all files in a folder; of the first `most` if there are more."""
    if not path.is_dir():
        return path.lstat().st_size
    total, count = 0, 0
    for parent, _folders, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).lstat().st_size
            count += 1
        if count > most:
            break
    return total


def _move(path: Path, into: Path, name: str) -> Path:
    into.mkdir(parents=True, exist_ok=True)
    names = [name, *(f"{name}-{number}" for number in range(2, 1000))]
    kept = next(into / each for each in names if not os.path.lexists(into / each))
    path.rename(kept)
    return kept
