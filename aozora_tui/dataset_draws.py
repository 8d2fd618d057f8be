"""How long captions are, and when each picture is drawn in a run that starts now: as the engine draws. No Textual."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from aozora_tui.dataset_survey import Placed
from engine.contract import places
from engine.contract.atomic import Interrupted
from engine.contract.buckets import Bucket
from engine.contract.caption_tokens import CHUNK, Counter, fingerprint, is_short, num_chunks
from engine.contract.held_out import held_out
from engine.contract.order import Order, is_dropped
from engine.contract.sections import Profile
from engine.contract.tokenizer_files import find_tokenizers
from engine.contract.tokenizer_tables import read_tables


class Vocabulary:
    """Of both encoders."""

    def __init__(self, counters: tuple[Counter, ...], fingerprint: str) -> None:
        self._counters, self.fingerprint = counters, fingerprint

    def tokens(self, caption: str) -> int:
        """As the encoder with more of them has it."""
        return max(counter.tokens(caption) for counter in self._counters)

    def chunks(self, caption: str) -> int:
        """Of the whole caption, uncut."""
        return 1 if is_short(caption) else num_chunks(self.tokens(caption))


def read_vocabulary(profile: Profile, folder: Path) -> Vocabulary:
    """The one that the engine would take without the network. Raises TokenizerError."""
    named = places.expand(profile.model.tokenizer, folder) if profile.model.tokenizer else None
    path, path_2 = find_tokenizers(named, places.expand(profile.model.base, folder))
    first = read_tables(path)
    second = first if path_2 == path else read_tables(path_2)
    counters = (Counter(first),) if first == second else (Counter(first), Counter(second))
    return Vocabulary(counters, fingerprint(first, second))


@dataclass(frozen=True, slots=True)
class Draw:
    """`step` from 1; `micro` from 1, in the step; `dropped`: without its caption."""

    step: int
    micro: int
    dropped: bool


class Drawing:
    """The order of a run that starts with these pictures, all of which can be decoded. `chunks` are of whole
    captions. Raises ValueError if as many are to be held out as there are."""

    def __init__(self, profile: Profile, placed: Sequence[Placed], chunks: Sequence[int]) -> None:
        train = profile.train
        self.chunks, self.most_chunks = tuple(chunks), profile.data.max_tokens // CHUNK
        self.cut = sum(length > self.most_chunks for length in chunks)
        self._accumulate, self._micros = train.accumulate, train.steps * train.accumulate
        self._seed, self._dropout = train.seed, profile.objective.conditional_dropout
        pictures = [each.picture for each in placed]
        looks = [(each.identity.size, each.width, each.height) for each in pictures]
        held = list(chain.from_iterable(held_out(looks, profile.validation.pictures)))
        self.held_out = len(held)
        drawn = sorted(set(range(len(placed))) - set(held))
        self._places = {index: place for place, index in enumerate(drawn)}
        groups = [(placed[index].bucket, min(chunks[index], self.most_chunks)) for index in drawn]
        repeats = [pictures[index].repeats for index in drawn]
        self.order = Order(groups, repeats, seed=train.seed, batch_size=train.batch_size)
        samples: Tally[tuple[Bucket, int]] = Tally()
        for group, times in zip(groups, repeats, strict=True):
            samples[group] += times
        # Micro-batches of an epoch that are not full.
        self.partial = sum(count % train.batch_size > 0 for count in samples.values())

    @property
    def samples(self) -> int:
        """How often a picture is drawn in the whole run: a bucket's last micro-batch may hold fewer than the others."""
        whole, rest = divmod(self._micros, self.order.batches_per_epoch)
        first = whole * self.order.batches_per_epoch
        return whole * self.order.samples_per_epoch + sum(
            len(self.order.batch_at(micro)) for micro in range(first, first + rest)
        )

    @property
    def epochs(self) -> float:
        """That the run takes."""
        return self._micros / self.order.batches_per_epoch

    def is_held_out(self, index: int) -> bool:
        return index not in self._places

    def draws(self, index: int, count: int) -> tuple[Draw, ...]:
        """The first of a picture, fewer if the run ends before, none if it is held out."""
        if index not in self._places:
            return ()
        coming = self.order.draws(self._places[index], before=self._micros)
        return tuple(
            Draw(
                micro // self._accumulate + 1,
                micro % self._accumulate + 1,
                is_dropped(self._seed, slot.position, self._dropout),
            )
            for micro, slot in islice(coming, count)
        )


def plan_draws(
    profile: Profile, placed: Sequence[Placed], vocabulary: Vocabulary, should_stop: Callable[[], bool]
) -> Drawing | None:
    """None without a picture. Raises Interrupted, and ValueError as `Drawing`."""
    chunks = []
    for each in placed:
        if should_stop():
            raise Interrupted("counting the captions' tokens was stopped")
        chunks.append(vocabulary.chunks(each.picture.caption))
    return Drawing(profile, placed, chunks) if placed else None
