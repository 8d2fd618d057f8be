"""How much a step changes what it trains: RMS of the change over RMS of the weights, by group."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Ratios:
    """Adds up on the device, by tensor; one host read at the end."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, change: Tensor, master: Tensor) -> None:
        """`change` is the sum of squares of what a step added to `master`."""
        weight = torch.linalg.vector_norm(master, dtype=torch.float32).square()
        pair = torch.stack([change.reshape(()).to(torch.float32), weight])
        group = group_of(name)
        self._sums[group] = self._sums[group] + pair if group in self._sums else pair

    def read(self) -> Mapping[str, float]:
        """A host read."""
        if not self._sums:
            return {}
        pairs = torch.stack(list(self._sums.values())).tolist()
        return {
            group: (change / weight) ** 0.5 if weight else 0.0
            for group, (change, weight) in zip(self._sums, pairs, strict=True)
        }


def group_of(name: str) -> str:
    """What a tensor is counted under."""
    if name.endswith("token_embedding.weight"):
        return "token_embedding"
    first = name.partition(".")[0]
    return first if first in ("text_encoder", "text_encoder_2") else "unet"
