"""Every draw as a function of (seed, position): nothing about randomness has to be saved, and nothing can be lost.

`position` is the absolute index of a drawn sample since step 0. Draws are made on the CPU, so they are the same on any
device, in any batch size. They come from Philox (Salmon et al. 2011), a counter-based generator that takes the whole
hash as its key; torch's CPU generator keeps 32 bits of a seed, few enough for two of a long run's draws to coincide.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.contract.seeding import derive


def noise_of(seed: int, positions: Sequence[int], shape: Sequence[int], *, stream: str = "noise") -> Tensor:
    """Standard normal noise, (B, *shape) float32, one independent draw a position."""
    draws = [generator(seed, stream, position).standard_normal(tuple(shape), np.float32) for position in positions]
    return torch.from_numpy(np.stack(draws))


def timesteps_of(seed: int, positions: Sequence[int], low: int, high: int) -> Tensor:
    """Uniform integers, `low` and `high` inclusive, (B,) int64."""
    draws = [generator(seed, "timestep", position).integers(low, high, endpoint=True) for position in positions]
    return torch.tensor(draws, dtype=torch.int64)


def generator(seed: int, stream: str, position: int) -> np.random.Generator:
    """A fresh generator for one draw."""
    return np.random.Generator(np.random.Philox(key=derive(seed, stream, position)))
