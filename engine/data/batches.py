"""The tensors that a micro-batch is made of; `engine.contract.order` says which samples it holds.

Nothing here has a state: micro-batch m is the same whether a run came to it from the start or from a checkpoint.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from engine.contract.items import Captioned, Item
from engine.contract.order import Order, Slot, is_dropped
from engine.data.cache import Cache
from engine.data.prefetch import Prefetch

DrawNoise = Callable[[Sequence[int], Sequence[int]], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Contexts:
    """Captions that were encoded before: prompt_embeds (B, 77n, C) and pooled_prompt_embeds (B, P), in the dtype they
    were cached in."""

    prompt_embeds: torch.Tensor
    pooled_prompt_embeds: torch.Tensor


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Captions to be encoded in every step: `ids` and `ids_2` (B, n, 77) int64, one for each encoder; where `zeroed`
    (B,) bool, the condition is zeros instead."""

    ids: torch.Tensor
    ids_2: torch.Tensor
    zeroed: torch.Tensor


class Conditions(Protocol):
    """What becomes of captions, those of a micro-batch at once."""

    def of(self, items: Sequence[Captioned], dropped: Sequence[bool]) -> Contexts | TokenIds:
        """Where `dropped`, the null condition. Raises CacheError."""
        ...


class CachedConditions:
    """Out of the cache. `null` is what a dropped caption becomes: prompt_embeds (77, C) and pooled_prompt_embeds (P,),
    in the cache's dtype."""

    def __init__(self, cache: Cache, null: tuple[torch.Tensor, torch.Tensor]) -> None:
        self._cache = cache
        self._null = null

    def of(self, items: Sequence[Captioned], dropped: Sequence[bool]) -> Contexts:
        pairs = [self._null if gone else self._load(item) for item, gone in zip(items, dropped, strict=True)]
        return Contexts(
            torch.stack(equal_lengths([context for context, _ in pairs])), torch.stack([pooled for _, pooled in pairs])
        )

    def _load(self, item: Captioned) -> tuple[torch.Tensor, torch.Tensor]:
        condition = self._cache.load_text(item)
        if condition[0].dtype != self._null[0].dtype:
            raise ValueError(f"the null condition is {self._null[0].dtype}, the captions are {condition[0].dtype}")
        return condition


class LiveConditions:
    """For text encoders that learn. `tokenize(caption)` gives what each encoder reads, (n, 77) int64 both; a dropped
    caption is read as an empty one, and zeroed if the null condition is zeros (`zeros`)."""

    def __init__(self, tokenize: Callable[[str], tuple[torch.Tensor, torch.Tensor]], *, zeros: bool) -> None:
        self._tokenize = tokenize
        self._zeros = zeros

    def of(self, items: Sequence[Captioned], dropped: Sequence[bool]) -> TokenIds:
        pairs = [self._tokenize("" if gone else item.caption) for item, gone in zip(items, dropped, strict=True)]
        return TokenIds(
            ids=torch.stack(equal_lengths([ids for ids, _ in pairs])),
            ids_2=torch.stack(equal_lengths([ids_2 for _, ids_2 in pairs])),
            zeroed=torch.tensor(dropped) & self._zeros,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch on the host. latents (B, 4, h, w) and time_ids (B, 6) float32. B may be less than the batch
    size."""

    positions: tuple[int, ...]
    names: tuple[str, ...]
    latents: torch.Tensor
    condition: Contexts | TokenIds
    time_ids: torch.Tensor

    def page_locked(self) -> "Batch":
        """In memory from which a card copies by itself, so that nobody has to wait for the copy."""
        return replace(
            self,
            latents=self.latents.pin_memory(),
            condition=_locked(self.condition),
            time_ids=self.time_ids.pin_memory(),
        )


def _locked(condition: Contexts | TokenIds) -> Contexts | TokenIds:
    if isinstance(condition, Contexts):
        return Contexts(condition.prompt_embeds.pin_memory(), condition.pooled_prompt_embeds.pin_memory())
    return TokenIds(condition.ids.pin_memory(), condition.ids_2.pin_memory(), condition.zeroed.pin_memory())


class Batches:
    """Micro-batches out of the cache; the pictures themselves are not needed any more.

    `posterior_noise(positions, shape)` draws standard normal noise (B, *shape) with which latents are sampled from
    their posterior, the same for a position whenever it is asked; without it they are the posterior's mean.
    `page_locked` for a card.
    """

    def __init__(
        self,
        cache: Cache,
        items: Sequence[Item],
        order: Order,
        conditions: Conditions,
        *,
        seed: int,
        conditional_dropout: float,
        posterior_noise: DrawNoise | None = None,
        page_locked: bool = False,
    ) -> None:
        if not 0 <= conditional_dropout <= 1:
            raise ValueError(f"conditional_dropout is a share from 0 to 1, not {conditional_dropout}")
        self._cache = cache
        self._items = items
        self.order = order
        self._conditions = conditions
        self._seed = seed
        self._dropout = conditional_dropout
        self._posterior_noise = posterior_noise
        self._page_locked = page_locked

    def load(self, micro: int) -> Batch:
        """Raises CacheError, naming the picture and the remedy, when an entry is missing or damaged."""
        slots = self.order.batch_at(micro)
        items = [self._items[slot.index] for slot in slots]
        dropped = [is_dropped(self._seed, slot.position, self._dropout) for slot in slots]
        batch = Batch(
            positions=tuple(slot.position for slot in slots),
            names=tuple(item.name for item in items),
            latents=self._latents(slots, items),
            condition=self._conditions.of(items, dropped),
            time_ids=torch.tensor([item.time_ids for item in items], dtype=torch.float32),
        )
        return batch.page_locked() if self._page_locked else batch

    def prefetch(self, start: int, count: int | None = None, *, depth: int = 4) -> Prefetch[Batch]:
        """Micro-batches `start`, `start` + 1, ..., `count` of them or without end, loaded up to `depth` ahead."""
        return Prefetch(self.load, itertools.count(start) if count is None else range(start, start + count), depth)

    def _latents(self, slots: Sequence[Slot], items: Sequence[Item]) -> torch.Tensor:
        """(B, 4, h, w) float32."""
        if self._posterior_noise is None:
            return torch.stack([self._cache.load_latents(item) for item in items])
        means, stds = zip(*(self._cache.load_posterior(item) for item in items), strict=True)
        noise = self._posterior_noise([slot.position for slot in slots], means[0].shape)
        return torch.stack(means) + torch.stack(stds) * noise


def equal_lengths(contexts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Contexts (77n, C) of several n, each repeated whole until all are as long: attention weighs a context repeated k
    times like the context itself, which padding would not leave alone. So for ids (n, 77) that become contexts."""
    length = math.lcm(*(context.shape[0] for context in contexts))
    return [context.repeat(length // context.shape[0], 1) for context in contexts]
