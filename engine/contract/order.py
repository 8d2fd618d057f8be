"""Which sample is drawn when, as a function of the seed: without a state, so that a resumed run goes on as it would."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from engine.contract.seeding import derive, fraction

Group = tuple[Any, ...]  # equal or not, and in an order


@dataclass(frozen=True, slots=True)
class Slot:
    """A sample to be drawn: its absolute position in the run, and the index of its item."""

    position: int
    index: int


class Order:
    """The order of samples: an epoch draws each item `repeats` times, shuffled in its group, cut into micro-batches of
    one group each, which are shuffled in turn. A group is what fits into one tensor: a bucket and a length of caption.
    Nothing is dropped or doubled to fill up, so a group's last micro-batch may be smaller; its unused positions are
    passed over."""

    def __init__(self, groups: Sequence[Group], repeats: Sequence[int], *, seed: int, batch_size: int) -> None:
        if not groups:
            raise ValueError("there is no picture to train on: add some to data.folders")
        if batch_size < 1 or min(repeats) < 1:
            raise ValueError("batch size and repeats start at 1")
        drawn: dict[Group, list[int]] = {}
        for index, (group, times) in enumerate(zip(groups, repeats, strict=True)):
            drawn.setdefault(group, []).extend([index] * times)
        self._drawn = [drawn[group] for group in sorted(drawn)]
        self.seed = seed
        self.batch_size = batch_size
        self.samples_per_epoch = sum(map(len, self._drawn))
        self.batches_per_epoch = sum(-(-len(indices) // batch_size) for indices in self._drawn)
        # Two, because prefetching crosses from one epoch to the next while the loop is still in the old one.
        self._plan = lru_cache(maxsize=2)(self._make_plan)

    def batch_at(self, micro: int) -> tuple[Slot, ...]:
        """The samples of micro-batch `micro` >= 0, counted from the start of the run: one to `batch_size` of them."""
        if micro < 0:
            raise ValueError(f"micro-batches are counted from 0, not {micro}")
        epoch, place = divmod(micro, self.batches_per_epoch)
        indices = self._plan(epoch)[place]
        return tuple(Slot(micro * self.batch_size + slot, index) for slot, index in enumerate(indices))

    def draws(self, index: int, *, before: int) -> Iterator[tuple[int, Slot]]:
        """Each micro-batch below `before` that holds item `index`, with its slot there, in order."""
        for first in range(0, before, self.batches_per_epoch):
            for micro, indices in enumerate(self._plan(first // self.batches_per_epoch), start=first):
                if micro < before and index in indices:
                    yield from ((micro, slot) for slot in self.batch_at(micro) if slot.index == index)

    def _make_plan(self, epoch: int) -> list[tuple[int, ...]]:
        draw = random.Random(derive(self.seed, "order", epoch))
        plan: list[tuple[int, ...]] = []
        for indices in self._drawn:
            shuffled = _shuffled(len(indices), draw)
            starts = range(0, len(indices), self.batch_size)
            plan += [tuple(indices[at] for at in shuffled[start : start + self.batch_size]) for start in starts]
        return [plan[at] for at in _shuffled(len(plan), draw)]


def is_dropped(seed: int, position: int, probability: float) -> bool:
    """Whether the sample drawn at `position` is trained without its caption: context and pooled vector both."""
    return fraction(seed, "dropout", position) < probability


def _shuffled(count: int, draw: random.Random) -> list[int]:
    """A permutation of range(count). Sorted by random(), the one method whose results Python promises to keep."""
    keys = [draw.random() for _ in range(count)]
    return sorted(range(count), key=keys.__getitem__)
