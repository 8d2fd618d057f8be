"""How much a step changes what it trains: RMS of the change over RMS of the weights, by group."""

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.optim.pieces import length, norm


class Ratios:
    """Adds up on the device, by tensor; one host read at the end."""

    def __init__(self) -> None:
        self._changes: dict[str, list[Tensor]] = {}
        self._weights: dict[str, list[Tensor]] = {}

    def add(self, name: str, change: Tensor, master: Tensor) -> None:
        """`change` is the norm of what a step added to `master`."""
        group = group_of(name)
        self._changes.setdefault(group, []).append(change)
        self._weights.setdefault(group, []).append(length(master))

    def read(self) -> Mapping[str, float]:
        """A host read."""
        if not self._changes:
            return {}
        pairs = [(norm(self._changes[group]), norm(self._weights[group])) for group in self._changes]
        found = torch.stack([torch.stack(pair) for pair in pairs]).tolist()
        by_group = zip(self._changes, found, strict=True)
        return {group: change / weight if weight else 0.0 for group, (change, weight) in by_group}


def group_of(name: str) -> str:
    """What a tensor is counted under."""
    if name.endswith("token_embedding.weight"):
        return "token_embedding"
    first = name.partition(".")[0]
    return first if first in ("text_encoder", "text_encoder_2") else "unet"
