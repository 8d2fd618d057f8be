"""What a run would learn from: the folders' pictures with their buckets, as the scan brings them. No Textual."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine.contract import places
from engine.contract.atomic import never
from engine.contract.buckets import Bucket, Placement, make_buckets, place
from engine.contract.folder import Picture, Skipped, scan, shown
from engine.contract.items import why_unplaceable
from engine.contract.problems import Problem, Severity
from engine.contract.sections import Profile

GREATEST_LOSS = 0.15  # of a picture's area; the engine warns from here on
NAMED = 3  # of what cannot be used
EVERY = 0.25  # seconds between two batches of results


@dataclass(frozen=True, slots=True)
class Placed:
    """A picture that can be used. `name` is its path below `root`, the folder of the profile that it was found in."""

    picture: Picture
    placement: Placement
    name: str
    root: int

    @property
    def bucket(self) -> Bucket:
        return self.placement.bucket

    @property
    def cropped(self) -> bool:
        """By so much that the engine warns."""
        return self.placement.lost > GREATEST_LOSS


@dataclass(frozen=True, slots=True)
class Batch:
    """What has come since the last one; `problems` and `finished` come with the last of all."""

    placed: tuple[Placed, ...]
    skipped: tuple[Skipped, ...]
    done: int
    total: int
    problems: tuple[Problem, ...] = ()
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Root:
    """A folder of the profile: `text` as it is written there."""

    path: Path
    text: str
    repeats: int


@dataclass
class Survey:
    """All that has come so far."""

    roots: tuple[Root, ...]
    placed: list[Placed] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    problems: tuple[Problem, ...] = ()
    counts: Counter[int] = field(default_factory=Counter)
    buckets: Counter[Bucket] = field(default_factory=Counter)
    cropped: int = 0
    enlarged: int = 0
    uncaptioned: int = 0
    done: int = 0
    total: int = 0
    finished: bool = False

    def add(self, batch: Batch) -> None:
        self.placed += batch.placed
        self.skipped += batch.skipped
        self.counts.update(placed.root for placed in batch.placed)
        self.buckets.update(placed.bucket for placed in batch.placed)
        self.cropped += sum(placed.cropped for placed in batch.placed)
        self.enlarged += sum(placed.placement.upscaled for placed in batch.placed)
        self.uncaptioned += sum(not placed.picture.captioned for placed in batch.placed)
        self.done, self.total = batch.done, batch.total
        self.problems, self.finished = batch.problems, batch.finished

    @property
    def samples(self) -> int:
        """Of one epoch."""
        return sum(count * self.roots[root].repeats for root, count in self.counts.items())


def roots_of(profile: Profile, folder: Path) -> tuple[Root, ...]:
    """`folder` is where relative paths start."""
    return tuple(Root(places.expand(f.path, folder), f.path, f.repeats) for f in profile.data.folders)


def survey_of(profile: Profile, folder: Path, should_stop: Callable[[], bool] = never) -> Survey:
    """All of it at once, by the same scan. Relative paths start at `folder`. Raises Interrupted."""
    survey = Survey(roots_of(profile, folder))
    Scanning(profile, survey.roots, survey.add).run(should_stop)
    return survey


def unusable(survey: Survey, *, named: int = NAMED) -> tuple[Problem, ...]:
    """What every page says of the pictures that a run would pass over: how many, the first by name, and why. An error
    if none is left."""
    if not survey.skipped:
        return ()
    names = [f"{below_a_root(survey, each.path)} {each.reason}" for each in survey.skipped[:named]]
    more = f"; and {len(survey.skipped) - named:,} more" if len(survey.skipped) > named else ""
    total = len(survey.skipped) + len(survey.placed)
    many = f"{len(survey.skipped):,} of {total:,} pictures" if survey.placed else f"none of {total:,} pictures"
    cannot = "cannot be used" if survey.placed else "can be used"
    remedy = "A run passes over them: mend or remove them; the page of the pictures lists all."
    severity: Severity = "warning" if survey.placed else "error"
    return (Problem("data.folders", f"{many} {cannot}: {'; '.join(names)}{more}", remedy, severity),)


def below_a_root(survey: Survey, path: Path) -> str:
    """A path as it is called in the list."""
    found = [root.path for root in survey.roots if path.is_relative_to(root.path)]
    return shown(path.relative_to(max(found, key=lambda root: len(root.parts)))) if found else shown(path)


class Scanning:
    """Looks through the folders and tells what it finds every quarter of a second. `clock` gives seconds."""

    def __init__(
        self,
        profile: Profile,
        roots: tuple[Root, ...],
        tell: Callable[[Batch], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._clock = tell, clock
        self._roots = roots
        # The deepest first: a folder listed beside its parent keeps its own pictures.
        self._deepest = sorted(range(len(roots)), key=lambda index: -len(roots[index].path.parts))
        self._step, self._upscale = profile.data.bucket_step, profile.data.upscale
        self._buckets = make_buckets(profile.data.resolution, self._step)
        self._placed: list[Placed] = []
        self._skipped: list[Skipped] = []
        self._done = self._total = 0
        self._told = clock()

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Raises Interrupted."""
        folders = [(root.path, root.repeats) for root in self._roots]
        found = scan(folders, should_stop=should_stop, progress=self._progress, read=self._read)
        self._send(problems=found.problems, finished=True)

    def _progress(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        if self._clock() - self._told >= EVERY:
            self._send()

    def _read(self, outcome: Picture | Skipped) -> None:
        if isinstance(outcome, Skipped):
            self._skipped.append(outcome)
            return
        size = (outcome.width, outcome.height)
        placement = place(*size, self._buckets, step=self._step, upscale=self._upscale)
        if why := why_unplaceable(outcome, placement):
            self._skipped.append(Skipped(outcome.path, why))
            return
        root = next((index for index in self._deepest if outcome.path.is_relative_to(self._roots[index].path)), 0)
        name = shown(outcome.path.relative_to(self._roots[root].path))
        self._placed.append(Placed(outcome, placement, name, root))

    def _send(self, *, problems: tuple[Problem, ...] = (), finished: bool = False) -> None:
        batch = Batch(tuple(self._placed), tuple(self._skipped), self._done, self._total, problems, finished)
        self._placed, self._skipped, self._told = [], [], self._clock()
        self._tell(batch)
