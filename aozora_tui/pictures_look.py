"""What is wrong with a profile's pictures, remembered for a while: the form asks after every edit. No Textual."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract import places
from engine.contract.check import is_demo

if TYPE_CHECKING:
    from engine.contract.problems import Problem
    from engine.contract.sections import Profile

LASTS = 60.0  # seconds


class PicturesLook:
    """`clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: tuple[object, float, tuple[Problem, ...]] | None = None

    def known(self, profile: Profile | None, folder: Path) -> tuple[Problem, ...] | None:
        """None if somebody must `look`; relative paths start at `folder`. Of no profile, and of the demo's pictures
        that are not made yet, there is nothing to say."""
        if profile is None or is_unbuilt(profile, folder):
            return ()
        if self._found is None or self._found[0] != _key(profile, folder) or self._clock() - self._found[1] > LASTS:
            return None
        return self._found[2]

    def forget(self) -> None:
        self._found = None

    def look(self, profile: Profile, folder: Path, should_stop: Callable[[], bool]) -> tuple[Problem, ...]:
        """Through all of the folders: for a thread. Raises Interrupted."""
        from aozora_tui.dataset_survey import survey_of, unusable

        found = unusable(survey_of(profile, folder, should_stop))
        self._found = (_key(profile, folder), self._clock(), found)
        return found


def is_unbuilt(profile: Profile, folder: Path) -> bool:
    """Whether the pictures are the demo's, which its first run makes."""
    return any(is_demo(path) and not path.exists() for path in _paths(profile, folder))


def _paths(profile: Profile, folder: Path) -> list[Path]:
    return [places.expand(each.path, folder) for each in profile.data.folders]


def _key(profile: Profile, folder: Path) -> object:
    """What decides which pictures can be used."""
    data = profile.data
    return _paths(profile, folder), data.resolution, data.bucket_step, data.upscale
