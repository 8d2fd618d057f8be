"""What the data screen finds out in threads: none of it may keep the keys waiting, and leaving ends all of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from textual import work
from textual.message import Message
from textual.worker import get_current_worker

from aozora_tui.dataset_cache import CacheState, cache_state
from aozora_tui.dataset_draws import Drawing, Vocabulary, plan_draws, read_vocabulary
from aozora_tui.dataset_picture import thumbnail
from aozora_tui.dataset_survey import Batch, Placed, Scanning, Survey, roots_of
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.data_picture import DRAWS, Look
from engine.contract.atomic import Interrupted
from engine.contract.picture_file import damage, decoding_errors
from engine.contract.sections import Profile
from engine.contract.tokenizer_files import TokenizerError


class DataWork(AozoraScreen[None]):
    """`scan` numbers the scans: what an older one brings is not wanted any more."""

    class Came(Message):
        """Something was found out; `then` takes it in."""

        def __init__(self, scan: int, then: Callable[[], None]) -> None:
            super().__init__()
            self.scan, self.then = scan, then

    def __init__(self, profile: Profile, folder: Path) -> None:
        super().__init__()
        self.profile, self.folder = profile, folder
        self.survey = Survey(roots_of(profile, folder))
        self.vocabulary: Vocabulary | None = None
        self.drawing: Drawing | None = None
        self.scan = 0
        self.whole = False
        self.pictures_shown = os.environ.get("AOZORA_SLOW_LINK", "") in ("", "0")  # one is some kilobytes

    def found(self, batch: Batch) -> None:
        raise NotImplementedError

    def planned(self, vocabulary: Vocabulary | None, drawing: Drawing | None, unknown: str) -> None:
        """`unknown`: why there is no drawing."""
        raise NotImplementedError

    def looked(self, index: int, look: Look) -> None:
        raise NotImplementedError

    def judged(self, said: str, state: CacheState | None) -> None:
        """`said`: how far the look at the cache is, or why it failed."""
        raise NotImplementedError

    @work(thread=True, exclusive=True, group="scan", exit_on_error=False)
    def scan_folders(self, scan: int) -> None:
        def tell(batch: Batch) -> None:
            self.post_message(self.Came(scan, partial(self.found, batch)))

        try:
            Scanning(self.profile, self.survey.roots, tell).run(_stopped())
        except Interrupted:
            return

    @work(thread=True, exclusive=True, group="plan", exit_on_error=False)
    def plan_draws(self, placed: list[Placed], scan: int) -> None:
        vocabulary, drawing, unknown = self.vocabulary, None, ""
        try:
            vocabulary = vocabulary or read_vocabulary(self.profile, self.folder)
            drawing = plan_draws(self.profile, placed, vocabulary, _stopped())
        except TokenizerError as error:
            unknown = f"Not known here: {error}"
        except ValueError as error:
            unknown = f"Not known: validation.pictures: {error}"
        except Interrupted:
            return
        self.post_message(self.Came(scan, partial(self.planned, vocabulary, drawing, unknown)))

    @work(thread=True, exclusive=True, group="look", exit_on_error=False)
    def look_at(self, placed: Placed, index: int, room: tuple[int, int]) -> None:
        scan, vocabulary, drawing = self.scan, self.vocabulary, self.drawing
        small, failed = None, ""
        if self.pictures_shown:
            try:
                small = thumbnail(placed, self.profile.data.background, room, whole=self.whole)
            except decoding_errors() as error:
                failed = damage(error)
        if get_current_worker().is_cancelled:
            return
        tokens = vocabulary.tokens(placed.picture.caption) if vocabulary else None
        draws = drawing.draws(index, DRAWS) if drawing else None
        held = drawing is not None and drawing.is_held_out(index)
        self.post_message(self.Came(scan, partial(self.looked, index, Look(small, failed, tokens, draws, held))))

    @work(thread=True, exclusive=True, group="cache", exit_on_error=False)
    def judge_cache(self, placed: list[Placed], scan: int) -> None:
        last = ""

        def say(said: str, state: CacheState | None = None) -> None:
            nonlocal last
            if state is not None or said != last:
                self.post_message(self.Came(scan, partial(self.judged, said, state)))
            last = said

        try:
            vocabulary = self.vocabulary or _vocabulary(self.profile, self.folder)
            state = cache_state(self.profile, self.folder, placed, vocabulary, should_stop=_stopped(), progress=say)
        except Interrupted:
            return
        except (OSError, ValueError) as error:
            say(f"Which entries fit cannot be told: {error}")
        else:
            say("", state)


def _vocabulary(profile: Profile, folder: Path) -> Vocabulary | None:
    try:
        return read_vocabulary(profile, folder)
    except TokenizerError:
        return None


def _stopped() -> Callable[[], bool]:
    worker = get_current_worker()
    return lambda: worker.is_cancelled
