"""A folder for what was deleted, so that it can be had back. No Textual."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aozora_tui import runs
from engine.contract import places, rundir
from engine.contract.atomic import write_text
from engine.contract.rundir import RunDir

_HERE = ".trash"  # beside what is deleted, where the trash folder is on another disk
_NAME = re.compile(r"\d{8}-\d{6}-.+", re.DOTALL)


@dataclass(frozen=True)
class Thrown:
    """Where it was, and where it is; `time` (Unix seconds) is when it was deleted."""

    original: Path
    kept: Path
    time: float = 0.0

    @property
    def name(self) -> str:
        """What it was called, a profile without its ending."""
        return self.original.name.removesuffix(".toml")

    @property
    def is_run(self) -> bool:
        return self.kept.is_dir() and not self.kept.is_symlink()


def folder() -> Path:
    return places.data_folder() / "trash"


def entries() -> list[Thrown]:
    """All that is in the trash, the newest first: of this session and of earlier ones, also where it lies beside its
    old place. Where nobody wrote down what that was, it is where such things are now. Raises OSError if a folder of it
    cannot be read."""
    known = _known()
    folders = {folder(), places.profiles_folder() / _HERE, places.runs_folder() / _HERE}
    folders |= {kept.parent for kept in known}
    found = [_entry(kept, known.get(kept)) for place in folders for kept in _inside(place)]
    return sorted(found, key=lambda thrown: (-thrown.time, thrown.kept))


def throw(path: Path, now: float) -> Thrown:
    """Move a file or folder to the trash, under a name that begins with the time (`now`, Unix seconds). Nothing is
    copied: from another disk it goes to a `.trash` beside it. Raises OSError."""
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{path.name}"
    try:
        thrown = Thrown(path, _move(path, folder(), name), now)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        thrown = Thrown(path, _move(path, path.parent / _HERE, name), now)
    _write_down(thrown)
    return thrown


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
        return f"{run.name} is {state}: stop it first, on its own screen"
    if state == "elsewhere":
        return f"{run.name} was started on another machine and may be live there: delete it there"
    return ""


def put_back(thrown: Thrown) -> None:
    """Raises FileExistsError if something has taken its place, OSError if it cannot be moved."""
    if os.path.lexists(thrown.original):
        raise FileExistsError(f"{thrown.original} exists again: {thrown.kept} is left where it is")
    thrown.original.parent.mkdir(parents=True, exist_ok=True)
    try:
        thrown.kept.rename(thrown.original)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise OSError(f"{thrown.original.parent} is on another disk: move {thrown.kept} there yourself") from None
    _forget(thrown)


def remove(thrown: Thrown) -> None:
    """Delete an entry for good. Raises ValueError, saying why, for a run in which an engine works, else OSError; what
    is left then is still an entry."""
    if thrown.is_run:
        if reason := why_not(RunDir(thrown.kept)):
            raise ValueError(reason)
        shutil.rmtree(thrown.kept)
    else:
        thrown.kept.unlink()
    _forget(thrown)


def size_of(path: Path, most: int = 20_000) -> int:
    """Bytes of a file or of all files in a folder; of the first `most` if there are more. 0 for what is gone."""
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(FileNotFoundError):
            return path.lstat().st_size
        return 0
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


# -- where things were -------------------------------------------------------------------------------------------------


def _notes() -> Path:
    """A small file for each entry. They are a help only: without its own an entry can be had back all the same."""
    return places.data_folder() / "trash-places"


def _note(kept: Path) -> Path:
    return _notes() / f"{hashlib.sha256(os.fsencode(kept)).hexdigest()[:24]}.json"


def _write_down(thrown: Thrown) -> None:
    """Nothing is said if that fails: a full disk is why people delete."""
    written = {"kept": str(thrown.kept), "original": str(thrown.original.absolute()), "time": thrown.time}
    with contextlib.suppress(OSError):
        write_text(_note(thrown.kept), json.dumps(written))


def _forget(thrown: Thrown) -> None:
    with contextlib.suppress(OSError):
        _note(thrown.kept).unlink(missing_ok=True)
        _notes().rmdir()  # while there is another, it stays


def _known() -> dict[Path, Thrown]:
    """What the notes say, by where the entry is; of what is gone they are removed. One that names any other place is
    none of ours: what is there is nobody's to delete."""
    found = {}
    for note in _notes().glob("*.json") if _notes().is_dir() else ():
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            read = json.loads(note.read_bytes())
            thrown = Thrown(Path(read["original"]), Path(read["kept"]), float(read["time"]))
            if note != _note(thrown.kept) or thrown.kept.parent not in (folder(), thrown.original.parent / _HERE):
                continue
            if os.path.lexists(thrown.kept):
                found[thrown.kept] = thrown
            else:
                _forget(thrown)
    return found


def _inside(place: Path) -> Iterator[Path]:
    """What lies there under a name that `throw` gives."""
    try:
        yield from (path for path in place.iterdir() if _NAME.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return


def _entry(kept: Path, known: Thrown | None) -> Thrown:
    if known is not None:
        return known
    stamp, name = kept.name[:15], kept.name[16:]
    if kept.is_file():
        name = re.sub(r"\.toml-\d+$", ".toml", name)  # a second one of the same second
    home = places.runs_folder() if kept.is_dir() else places.profiles_folder()
    original = kept.parent.parent / name if kept.parent.name == _HERE else home / name
    try:
        then = time.mktime(time.strptime(stamp, "%Y%m%d-%H%M%S"))
    except (ValueError, OverflowError):
        then = 0.0
    return Thrown(original, kept, then)
