"""What a run has told, taken in turn by turn, so that days of it freeze no screen. No Textual."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from aozora_tui.run_state import RunState
from engine.contract import events
from engine.contract.health import Watch
from engine.contract.rundir import RunDir

CHUNK = 1 << 18  # bytes whose events stay in a processor's cache: larger ones take longer and more room
TURN = 8 * CHUNK  # read before whoever is at the keyboard is heard again: some 30 ms
NEWS = 8 * TURN  # between two looks at how far it is

Later = Callable[..., object]


class Reading:
    """One run's events and what they come to. What there is to read is read at once, in turns; whether the run is well
    is judged after that, from the beginning on, so that the curves are there sooner; not at all without `judged`.
    `news` is called now and then while that goes on, and once it is over."""

    def __init__(self, run: RunDir, news: Callable[[], object] = lambda: None, *, judged: bool = True) -> None:
        self.state = RunState(watch=None)
        self.taken = 0  # events; whoever has shown so many has shown all
        self._news = news
        self._tail, self._judged, self._watch = events.Tail(run.events), events.Tail(run.events), Watch()
        self._unjudged = judged
        self._going_on = False
        self._told = 0

    @property
    def behind(self) -> bool:
        """Whether more was there at the last look than has been taken in and judged."""
        return self._tail.left > 0 or self._unjudged

    @property
    def share(self) -> float | None:
        """How much of what there is has been read, from 0 to 1; None once that is all."""
        tail = self._tail
        return tail.offset / (tail.offset + tail.left) if tail.left else None

    def read(self, later: Later) -> bool:
        """Take in a turn of what was appended, and have `later` (as Textual's `call_later`) called for more; whether
        anything arrived."""
        before = self.taken
        self._take_turn()
        if self.behind and not self._going_on:
            self._going_on = True
            later(self._go_on, later)
        return self.taken != before

    def _go_on(self, later: Later) -> None:
        self._going_on, unread = False, self._tail.left > 0
        self.read(later)
        all_read = unread and self._tail.left == 0
        if not self._going_on or all_read or self._tail.offset - self._told >= NEWS:
            self._told = self._tail.offset
            self._news()

    def _take_turn(self) -> None:
        for _ in range(TURN // CHUNK):
            block = self._tail.read(CHUNK)
            if block:
                self.taken += len(block)
                self.state.apply(block)
            elif self._tail.left == 0:
                break
        if self._tail.left == 0 and self._unjudged:
            self._judge()

    def _judge(self) -> None:
        for _ in range(TURN // CHUNK):
            for kind, alike in groupby(self._judged.read(CHUNK), type):
                if kind is events.Step:
                    self._watch.take_steps([event for event in alike if isinstance(event, events.Step)])
                else:
                    for event in alike:
                        self._watch.take(event)
            if self._judged.offset >= self._tail.offset:
                self.state.watch, self._unjudged = self._watch, False
                self.taken += 1  # there is something new to be shown
                return
