"""A card's lanes played on a CPU at their most hostile: what is given to them is done as late as the marks allow, or at
moments that a generator picks."""

import random
from collections.abc import Callable
from typing import NamedTuple

import torch


class Upto(NamedTuple):
    lane: "LateLane"
    number: int


class Now:
    """The computation: at once."""

    def run(self, work: Callable[[], object]) -> None:
        work()

    def mark(self) -> None:
        return None

    def wait(self, mark: Upto | None) -> None:
        if mark is not None:
            mark.lane.reach(mark.number)

    def finish(self) -> None:
        pass


class LateLane:
    def __init__(self, stir: Callable[[], None]) -> None:
        self.given: list[Callable[[], object] | Upto] = []
        self.done = 0
        self._stir = stir

    def run(self, work: Callable[[], object]) -> None:
        self.given.append(work)
        self._stir()

    def mark(self) -> Upto:
        return Upto(self, len(self.given))

    def wait(self, mark: Upto | None) -> None:
        if mark is not None:
            self.given.append(mark)

    def finish(self) -> None:
        self.reach(len(self.given))

    def reach(self, number: int) -> None:
        while self.done < number:
            self._step()

    def can_go_on(self) -> bool:
        if self.done == len(self.given):
            return False
        coming = self.given[self.done]
        return not isinstance(coming, Upto) or coming.lane.done >= coming.number

    def _step(self) -> None:
        coming = self.given[self.done]
        if isinstance(coming, Upto):
            coming.lane.reach(coming.number)
        else:
            coming()
        self.done += 1


class LateLanes:
    """With a `seed`, some of what could be done is, whenever something is given; without, nothing is."""

    def __init__(self, device: torch.device, *, seed: int | None) -> None:
        self.lanes: list[LateLane] = []
        self._draw = None if seed is None else random.Random(seed)

    def computing(self) -> Now:
        return Now()

    def beside(self) -> LateLane:
        self.lanes.append(LateLane(self._stir))
        return self.lanes[-1]

    def _stir(self) -> None:
        if self._draw is None:
            return
        for _ in range(self._draw.randrange(8)):
            able = [lane for lane in self.lanes if lane.can_go_on()]
            if not able:
                return
            self._draw.choice(able)._step()
