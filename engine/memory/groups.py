"""Micro-batches of one shape made into one batch: fewer, larger pieces of work for the same sums."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch

from engine.memory.plan import Embedded, MicroBatch, Tokens


@dataclass(frozen=True)
class Group:
    """`members` are the numbers of its micro-batches in the window, `sizes` the samples of each, in the order in which
    they stand in `micro`."""

    members: tuple[int, ...]
    sizes: tuple[int, ...]
    micro: MicroBatch


def grouped(window: Sequence[MicroBatch], most: int) -> list[Group]:
    """Up to `most` of one shape and caption length together, in the order in which they appear: a function of the
    window alone, or a sum would depend on the card's load. What is left over comes in powers of two, so that few shapes
    come again and again. In order of their first members; with 1, the window's."""
    alike: dict[object, list[int]] = {}
    for number, micro in enumerate(window):
        alike.setdefault(_shape(micro), []).append(number)
    together: list[list[int]] = []
    for members in alike.values():
        ends = [0, *accumulate(_counts(len(members), most))]
        together += [members[begin:end] for begin, end in pairwise(ends)]
    together.sort()
    return [_group(members, [window[number] for number in members]) for members in together]


def _counts(number: int, most: int) -> list[int]:
    """Of so many alike, how many come together."""
    left = number % most
    return [most] * (number // most) + [1 << bit for bit in reversed(range(left.bit_length())) if left >> bit & 1]


def _shape(micro: MicroBatch) -> object:
    condition = micro.condition
    length = condition.prompt_embeds.shape[1] if isinstance(condition, Embedded) else condition.ids.shape[1]
    return type(condition), micro.noisy_latents.shape[1:], length


def _group(members: Sequence[int], micros: Sequence[MicroBatch]) -> Group:
    sizes = tuple(len(micro.noisy_latents) for micro in micros)
    if len(micros) == 1:
        return Group(tuple(members), sizes, micros[0])
    joined = MicroBatch(
        noisy_latents=torch.cat([micro.noisy_latents for micro in micros]),
        network_time=torch.cat([micro.network_time for micro in micros]),
        condition=_joined([micro.condition for micro in micros]),
        time_ids=torch.cat([micro.time_ids for micro in micros]),
    )
    return Group(tuple(members), sizes, joined)


def _joined(conditions: Sequence[Embedded | Tokens]) -> Embedded | Tokens:
    embedded = [each for each in conditions if isinstance(each, Embedded)]
    if embedded:
        return Embedded(
            torch.cat([each.prompt_embeds for each in embedded]),
            torch.cat([each.pooled_prompt_embeds for each in embedded]),
        )
    tokens = [each for each in conditions if isinstance(each, Tokens)]
    return Tokens(
        torch.cat([each.ids for each in tokens]),
        torch.cat([each.ids_2 for each in tokens]),
        torch.cat([each.zeroed for each in tokens]),
    )
