"""Every draw as a function of (seed, position): nothing about randomness has to be saved, and nothing can be lost.

`position` is the absolute index of a drawn sample since step 0. Draws are made on the CPU, so they are the same on any
device, in any batch size. They come from Philox (Salmon et al. 2011), a counter-based generator that takes the whole
hash as its key; torch's CPU generator keeps 32 bits of a seed, few enough for two of a long run's draws to coincide.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from engine.contract.seeding import derive
from engine.contract.timesteps import timestep_at

BELOW_ONE = math.nextafter(1.0, 0.0)


def noise_of(seed: int, positions: Sequence[int], shape: Sequence[int], *, stream: str = "noise") -> Tensor:
    """Standard normal noise, (B, *shape) float32, one independent draw a position."""
    draws = [generator(seed, stream, position).standard_normal(tuple(shape), np.float32) for position in positions]
    return torch.from_numpy(np.stack(draws))


def timesteps_of(seed: int, positions: Sequence[int], cumulative: Sequence[float], *, strata: int = 1) -> Tensor:
    """(B,) int64, drawn by the inverse of `cumulative`, the (1000,) table of `contract.timesteps`.

    The density is cut into `strata` shares of equal probability, and each run of `strata` positions, counted from 0,
    draws once from every share, in an order of its own. A window that leaves positions unused leaves shares unused.
    """
    shares = [_share(seed, position, strata) for position in positions]
    return torch.tensor([timestep_at(cumulative, share) for share in shares], dtype=torch.int64)


def generator(seed: int, stream: str, position: int) -> np.random.Generator:
    """A fresh generator for one draw."""
    return np.random.Generator(np.random.Philox(key=derive(seed, stream, position)))


def _share(seed: int, position: int, strata: int) -> float:
    """A number in [0, 1), uniform over the position's stratum."""
    window, place = divmod(position, strata)
    return _within(_strata_order(seed, window, strata)[place], strata, generator(seed, "timestep", position).random())


def _within(stratum: int, strata: int, fraction: float) -> float:
    # The sum may round up to the next whole number, and there is nothing above the last stratum.
    return min((stratum + fraction) / strata, BELOW_ONE)


@lru_cache(maxsize=4)
def _strata_order(seed: int, window: int, strata: int) -> tuple[int, ...]:
    """A permutation of range(strata)."""
    keys = generator(seed, "strata", window).random(strata)
    return tuple(np.argsort(keys, kind="stable").tolist())
