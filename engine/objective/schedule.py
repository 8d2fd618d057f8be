"""The noise schedules as tensors. Their numbers come from the contract, where the app reads them too."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.contract import noise


class Table:
    """A number for each timestep. `values` (1000,) float64; float32 from the first use on a device on, and kept there,
    so that looking up copies nothing."""

    def __init__(self, values: Tensor | Sequence[float]) -> None:
        self.values = torch.as_tensor(values, dtype=torch.float64)
        self._on: dict[torch.device, Tensor] = {}

    def at(self, timesteps: Tensor) -> Tensor:
        """(B,) float32 at (B,) int64 timesteps, on their device."""
        device = timesteps.device
        if device not in self._on:
            self._on[device] = self.values.float().to(device)
        return self._on[device][timesteps]


@dataclass(frozen=True)
class Schedule:
    """x_t = alpha x_0 + sigma noise, index 0 the cleanest. `time` is what the network is told."""

    alpha: Table
    sigma: Table
    time: Table


def diffusion_schedule(*, zero_terminal_snr: bool) -> Schedule:
    """SDXL's own: alpha^2 + sigma^2 = 1, and the network is told the index."""
    alphas_cumprod = torch.tensor(noise.alphas_cumprod(zero_terminal_snr=zero_terminal_snr), dtype=torch.float64)
    return Schedule(
        alpha=Table(alphas_cumprod.sqrt()),
        sigma=Table((1 - alphas_cumprod).sqrt()),
        time=Table(range(noise.TIMESTEPS)),
    )


def flow_schedule() -> Schedule:
    """Rectified flow (Liu et al. 2022): x_t = (1 - t) x_0 + t noise, and the network is told 1000 t, the scale that
    the UNet's sinusoids were made for."""
    time = torch.tensor(noise.flow_time(), dtype=torch.float64)
    return Schedule(alpha=Table(1 - time), sigma=Table(time), time=Table(noise.TIMESTEPS * time))
