"""The noise schedule: one table, computed in float64, from which everything else is derived."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

TIMESTEPS = 1000
BETA_START = 0.00085
BETA_END = 0.012


@dataclass(frozen=True)
class NoiseSchedule:
    """x_t = alpha x_0 + sigma noise, with alpha^2 + sigma^2 = 1. Tables have shape (1000,) and float64, index 0 the
    cleanest; they are cast once, where they are used."""

    alphas_cumprod: Tensor

    @cached_property
    def alpha(self) -> Tensor:
        return self.alphas_cumprod.sqrt()

    @cached_property
    def sigma(self) -> Tensor:
        return (1 - self.alphas_cumprod).sqrt()

    @cached_property
    def snr(self) -> Tensor:
        """alpha^2 / sigma^2: 1175 at timestep 0, exactly 0 at the last one of a zero-terminal schedule."""
        return self.alphas_cumprod / (1 - self.alphas_cumprod)


def sdxl_schedule(*, zero_terminal_snr: bool) -> NoiseSchedule:
    """SDXL's scaled-linear betas; with `zero_terminal_snr` rescaled by algorithm 1 of Lin et al. 2023 (2305.08891)."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    alphas_cumprod = torch.cumprod(1 - betas, 0)
    return NoiseSchedule(_to_zero_terminal(alphas_cumprod) if zero_terminal_snr else alphas_cumprod)


def _to_zero_terminal(alphas_cumprod: Tensor) -> Tensor:
    root = alphas_cumprod.sqrt()
    first, last = root[0], root[-1]
    assert last > 0, "the schedule ends in pure noise already: it must not be rescaled twice"
    return ((root - last) * first / (first - last)) ** 2


@dataclass(frozen=True)
class FlowSchedule:
    """Rectified flow (Liu et al. 2022): x_t = (1 - t) x_0 + t noise. `time` has shape (1000,), float64: index i has the
    t (i + 1) / 1000, so that the last index is pure noise, as in the zero-terminal schedule."""

    @cached_property
    def time(self) -> Tensor:
        return torch.arange(1, TIMESTEPS + 1, dtype=torch.float64) / TIMESTEPS
