"""Every draw as a function of (seed, position): nothing about randomness has to be saved, and nothing can be lost.

`position` is the absolute index of a drawn sample since step 0. Draws are made on the CPU, so they are the same on any
device, in any batch size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.contract.seeding import derive


def noise_of(seed: int, positions: Sequence[int], shape: Sequence[int], *, stream: str = "noise") -> Tensor:
    """Standard normal noise, (B, *shape) float32, one independent draw a position."""
    return torch.stack([torch.randn(*shape, generator=generator(seed, stream, position)) for position in positions])


def timesteps_of(seed: int, positions: Sequence[int], low: int, high: int) -> Tensor:
    """Uniform integers, `low` and `high` inclusive, (B,) int64."""
    draws = [
        torch.randint(low, high + 1, (), generator=generator(seed, "timestep", position)) for position in positions
    ]
    return torch.stack(draws)


def generator(seed: int, stream: str, position: int) -> torch.Generator:
    """A fresh CPU generator for one draw."""
    return torch.Generator().manual_seed(derive(seed, stream, position))
