"""What the page before a start has to say, gathered from files. For a thread."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aozora_tui import run_list, runs
from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.verdict import Verdict, judge
from engine.contract import places
from engine.contract.check import check_text
from engine.contract.picture_file import EXTENSIONS
from engine.contract.problems import Problem, errors
from engine.contract.profile import resolved
from engine.contract.profile_values import Difference, differences, values_of, written_values

if TYPE_CHECKING:
    from aozora_tui.runs import RunSummary
    from engine.contract.nvml_reading import Reading
    from engine.contract.sections import Profile

_MOST_PICTURES = 200_000  # more are not counted
# What encoded pictures and captions depend on; a change of any may make others of them.
_ENCODED_BY = {"model.base", "model.vae", "model.tokenizer", "model.precision"}


@dataclass(frozen=True)
class LastRun:
    """The profile's newest run, and in what this one will differ from it: None if that run's profile cannot be read."""

    summary: RunSummary
    changes: tuple[Difference, ...] | None

    @property
    def encoded(self) -> bool:
        """Whether it has encoded what this one learns from, but for what was added or changed in the folders since."""
        if self.changes is None or not self.summary.step:
            return False
        changed = {change.field.path for change in self.changes}
        return not (changed & _ENCODED_BY or any(path.startswith("data.") for path in changed))


@dataclass(frozen=True)
class Look:
    """`pictures` and `epoch` (with their repeats) are those in the folders, None if there is no profile; `free` bytes
    of the disk that the run writes to; `live` the names of runs that go on; `more` is what torch said besides."""

    profile: Profile | None
    verdict: Verdict
    last: LastRun | None = None
    pictures: int | None = None
    epoch: int = 0
    free: int | None = None
    live: tuple[str, ...] = ()
    more: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        found = self.verdict.problems
        return (*found, *(problem for problem in self.more if problem not in found))

    @property
    def wrong(self) -> list[Problem]:
        """What forbids the start."""
        return errors(self.problems)


def gather(text: str, path: Path, readings: Sequence[Reading]) -> Look:
    """What is free is what is free now: that is what the start will find."""
    try:
        verdict = judge(text, path, readings)
    except ValueError:  # no TOML at all: there is nothing that could be put into fields
        verdict = Verdict(ProfileFile(path, "", None), check_text(text, path))
    profile = verdict.checked.profile
    live = tuple(run.name for run in runs.live(places.runs_folder()))
    last = _last_run(path, profile)
    if profile is None:
        return Look(None, verdict, last, live=live)
    counts = [(count_pictures(places.expand(each.path, path.parent)), each.repeats) for each in profile.data.folders]
    pictures, epoch = sum(count for count, _ in counts), sum(count * repeats for count, repeats in counts)
    return Look(profile, verdict, last, pictures, epoch, _free(), live)


def count_pictures(folder: Path) -> int:
    """By their names, hidden ones passed over; none is opened."""
    count = 0
    for _parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS for name in names)
        if count > _MOST_PICTURES:
            break
    return count


def _last_run(path: Path, profile: Profile | None) -> LastRun | None:
    run = run_list.last_of(places.runs_folder(), path)
    summary = runs.look_at(run) if run is not None else None
    if run is None or summary is None:
        return None
    try:
        before = written_values(run.profile.read_text(encoding="utf-8"))
        changes = None if profile is None else differences(before, values_of(resolved(profile, path.parent)))
    except (OSError, ValueError):
        changes = None
    return LastRun(summary, changes)


def _free() -> int | None:
    folder = places.runs_folder()
    existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), None)
    try:
        return shutil.disk_usage(existing).free if existing else None
    except OSError:
        return None
