"""What the page before a start has to say, gathered from files. For a thread."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aozora_tui import run_list, runs
from aozora_tui.dataset_draws import Drawing, plan_draws, read_vocabulary
from aozora_tui.dataset_survey import Survey, survey_of, unusable
from aozora_tui.pictures_look import is_unbuilt
from aozora_tui.profile_file import ProfileFile
from aozora_tui.screens.verdict import Verdict, judge
from engine.contract import places
from engine.contract.check import check_text
from engine.contract.problems import Problem, errors
from engine.contract.profile import resolved
from engine.contract.profile_values import Difference, differences, values_of, written_values
from engine.contract.tokenizer_files import TokenizerError

if TYPE_CHECKING:
    from aozora_tui.runs import RunSummary
    from engine.contract.nvml_reading import Reading
    from engine.contract.rundir import RunDir
    from engine.contract.sections import Profile

# What encoded pictures and captions depend on; a change of any may make others of them.
_ENCODED_BY = {"model.base", "model.vae", "model.tokenizer", "model.precision"}


@dataclass(frozen=True)
class LastRun:
    """The profile's newest run, and in what this one will differ from it: None if that run's profile cannot be
    read. `saved` is the step that it can be resumed at, None if it cannot, or has finished."""

    summary: RunSummary
    changes: tuple[Difference, ...] | None
    run: RunDir | None = None
    saved: int | None = None

    @property
    def encoded(self) -> bool:
        """Whether it has encoded what this one learns from, but for what was added or changed in the folders since."""
        if self.changes is None or not self.summary.step:
            return False
        changed = {change.field.path for change in self.changes}
        return not (changed & _ENCODED_BY or any(path.startswith("data.") for path in changed))


@dataclass(frozen=True)
class Look:
    """`free` bytes of the disk that the run writes to; `live` the names of runs that go on; `more` is what torch said
    besides. `survey` is of the pictures, None as long as nobody has looked, and `drawing` how they are drawn, as far as
    that is known, which is `exact` or not. `has_card`: this machine has one that can
    be asked."""

    profile: Profile | None
    verdict: Verdict
    last: LastRun | None = None
    free: int | None = None
    live: tuple[str, ...] = ()
    more: tuple[Problem, ...] = ()
    survey: Survey | None = None
    drawing: Drawing | None = None
    undrawable: str = ""
    exact: bool = False
    has_card: bool = False

    @property
    def problems(self) -> tuple[Problem, ...]:
        found = self.verdict.problems
        pictures = unusable(self.survey) if self.survey is not None else ()
        return (*found, *(problem for problem in (*pictures, *self.more) if problem not in found))

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
    return Look(profile, verdict, last, _free(), live, has_card=bool(readings))


def with_pictures(look: Look, path: Path, should_stop: Callable[[], bool]) -> Look:
    """With what a scan of the folders finds, as a run would do it: for thousands of pictures that takes its time.
    Raises Interrupted."""
    if look.profile is None or is_unbuilt(look.profile, path.parent):
        return look
    survey = survey_of(look.profile, path.parent, should_stop)
    try:
        drawing, exact = _drawing(look.profile, survey, path.parent, should_stop)
    except ValueError as error:
        return replace(look, survey=survey, undrawable=f"validation.pictures: {error}")
    return replace(look, survey=survey, drawing=drawing, exact=exact)


def _drawing(
    profile: Profile, survey: Survey, folder: Path, should_stop: Callable[[], bool]
) -> tuple[Drawing | None, bool]:
    """And whether it is exact: without the vocabulary nobody knows which captions share a micro-batch."""
    try:
        return plan_draws(profile, survey.placed, read_vocabulary(profile, folder), should_stop), True
    except TokenizerError:
        placed = survey.placed
        return (Drawing(profile, placed, [1] * len(placed)) if placed else None), False


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
    again = summary.state in ("stopped", "failed", "crashed") and not runs.why_not_resume(run)
    return LastRun(summary, changes, run, runs.newest_checkpoint(run) if again else None)


def _free() -> int | None:
    folder = places.runs_folder()
    existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), None)
    try:
        return shutil.disk_usage(existing).free if existing else None
    except OSError:
        return None
