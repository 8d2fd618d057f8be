"""The runs of a folder as a list shows them, each read again only when it has changed. No Textual."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aozora_tui import run_notes, runs
from aozora_tui.runs import RunSummary
from engine.contract import rundir
from engine.contract.rundir import RunDir

# Of these nothing changes without a file that does.
ENDED = frozenset({"stopped", "finished", "failed", "crashed"})
_SLICE = 100  # runs out of sight that are asked at each look whether a file of theirs has changed
_LOOKS = 10  # after so many the folder is listed again even if it seems unchanged
_NAME = re.compile(r"(.+)-\d{8}-\d{6}(?:-\d+)?")
_BASE = re.compile(rb'^base = (".*")\s*$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Looked:
    """`base`: the file name of the checkpoint it started from, "" if that is not known."""

    summary: RunSummary
    base: str
    signature: tuple[int, ...]


def look(run: RunDir, now: float) -> Looked | None:
    """Read one run; None if its folder is gone. About a millisecond on a local disk."""
    signature = _signature(run)
    summary = runs.look_at(run, now=now)
    return None if summary is None else Looked(summary, _base(run), signature)


def stem_of(name: str) -> str:
    """The profile's part of a run's name."""
    found = _NAME.fullmatch(name)
    return found[1] if found else ""


def stem_for(profile: Path) -> str:
    """The beginning of the names of a profile's runs, as `rundir.create` makes it."""
    return re.sub(r"[^\w.-]+", "-", profile.stem).strip("-.") or "run"


def is_run_of(run: RunDir, profile: Path) -> bool:
    """Whether it is called after the profile, and was not begun with a namesake that is elsewhere: what runs of older
    versions and those that are just beginning do not say."""
    if stem_of(run.name) != stem_for(profile):
        return False
    info = rundir.read_info(run)
    began = info.profile_path if info is not None else ""
    return not began or os.path.realpath(began) == os.path.realpath(profile)


def last_of(folder: Path, profile: Path) -> RunDir | None:
    """The newest run of a profile that got as far as writing down what it was told."""
    return next((run for run in rundir.all_runs(folder) if is_run_of(run, profile) and run.profile.is_file()), None)


class RunList:
    """Runs by the path of their folder, newest first. Reading one takes a millisecond and there may be thousands, so
    the caller says which are seen; the others are left to a thread (`unread`, `look`, `take`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: dict[str, RunDir] = {}
        self._looked: dict[str, Looked] = {}
        self._named: dict[str, list[str]] = {}  # the newest first, by the profile's part of the name
        self._began: dict[str, str] = {}  # with which file a run was begun, "" if it does not say
        self._stamp, self._looks = -1, 0

    def get(self, key: str) -> Looked | None:
        return self._looked.get(key)

    def summary(self, key: str) -> RunSummary | None:
        looked = self._looked.get(key)
        return looked.summary if looked else None

    def newest_of(self, profile: Path) -> str | None:
        """The newest run of a profile, as `is_run_of` tells it."""
        named = self._named.get(stem_for(profile), ())
        where = os.path.realpath(profile) if named else ""
        return next((key for key in named if self._began_with(key) in ("", where)), None)

    def unread(self) -> list[str]:
        return [key for key in self.runs if key not in self._looked]

    def live(self) -> list[str]:
        """Among those that were read."""
        return [key for key, looked in self._looked.items() if looked.summary.state in rundir.LIVE_STATES]

    @property
    def has_tags(self) -> bool:
        """Whether one of those that were read has any."""
        return any(looked.summary.tags for looked in self._looked.values())

    def tags(self) -> Sequence[str]:
        """Every tag of those that were read, the most used first."""
        return run_notes.most_used(looked.summary.tags for looked in self._looked.values())

    def refresh(self, seen: Collection[str], now: float) -> None:
        """List the folder if it has changed; then read those of `seen`, those that may live and a slice of the others,
        if they have changed. `now` in Unix seconds. Raises OSError if the folder cannot be listed."""
        fresh = self._list_again()
        may_live = [key for key in fresh if runs.may_live(self.runs[key])]
        keys = list(self.runs)
        turn = self._looks * _SLICE % max(len(keys), 1)
        known = [key for key in keys[turn : turn + _SLICE] if key in self._looked]
        moving = [key for key, looked in self._looked.items() if looked.summary.state not in ENDED]
        self.read([*seen, *may_live, *moving, *known], now)
        self._looks += 1

    def read(self, keys: Iterable[str], now: float) -> bool:
        """Read those that have changed, or may have without a sign of it. False if there was none."""
        wanted = [key for key in dict.fromkeys(keys) if key in self.runs and self._is_old(key)]
        for key in wanted:
            self.take(key, look(self.runs[key], now))
        return bool(wanted)

    def take(self, key: str, looked: Looked | None) -> None:
        """What was read of a run, here or in a thread; None if it is gone."""
        if looked is None:
            self.forget(key)
        elif key in self.runs:
            self._looked[key] = looked

    def expect_change(self) -> None:
        """List the folder at the next look: file systems' clocks are coarse."""
        self._stamp = -1

    def forget(self, key: str) -> None:
        """The run is no longer there."""
        self.runs.pop(key, None)
        self._looked.pop(key, None)
        self._index()

    def _is_old(self, key: str) -> bool:
        looked = self._looked.get(key)
        ended = looked is not None and looked.summary.state in ENDED
        return not ended or looked is None or looked.signature != _signature(self.runs[key])

    def _list_again(self) -> list[str]:
        """The runs that are new."""
        stamp = self.folder.stat().st_mtime_ns if self.folder.is_dir() else 0
        if stamp == self._stamp and self._looks % _LOOKS:
            return []
        before, self._stamp = self.runs, stamp
        self.runs = {str(run.path): run for run in rundir.all_runs(self.folder)}
        self._looked = {key: looked for key, looked in self._looked.items() if key in self.runs}
        self._index()
        return [key for key in self.runs if key not in before]

    def _began_with(self, key: str) -> str:
        """Looked up once, for it stays."""
        if (known := self._began.get(key)) is not None:
            return known
        info = rundir.read_info(self.runs[key])
        found = os.path.realpath(info.profile_path) if info is not None and info.profile_path else ""
        if info is not None:
            self._began[key] = found
        return found

    def _index(self) -> None:
        self._named = {}
        self._began = {key: path for key, path in self._began.items() if key in self.runs}
        for key, run in self.runs.items():
            self._named.setdefault(stem_of(run.name), []).append(key)


def _signature(run: RunDir) -> tuple[int, ...]:
    """Changes with the run, or with what a person notes on it."""
    return (*runs.signature(run), *run_notes.stamp(run))


def _base(run: RunDir) -> str:
    """From the profile as it ran: there it stands alone on a line, spelt as TOML's writers do."""
    try:
        found = _BASE.search(run.profile.read_bytes()) if run.profile.is_file() else None
        return Path(_string(found[1].decode())).name if found else ""
    except (OSError, ValueError):
        return ""


def _string(written: str) -> str:
    """What a TOML string means. Most are what they look like."""
    inside = written[1:-1]
    if '"' not in inside and "\\" not in inside:
        return inside
    import tomllib

    said: str = tomllib.loads(f"base = {written}")["base"]
    return said
