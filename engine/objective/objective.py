"""The objective of a run: from a clean batch to what the network sees and what its answer costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from engine.contract import loss_weight
from engine.contract.sections import Objective as Settings
from engine.contract.timesteps import cumulative, density
from engine.objective.loss import loss_of
from engine.objective.randomness import noise_of, timesteps_of
from engine.objective.schedule import Table
from engine.objective.target import path_of


@dataclass(frozen=True)
class Question:
    """One noised batch. `noisy_latents`, `target` (B, 4, h, w); `network_time`, `weights` (B,); all float32 and on the
    device. `timesteps` (B,) int64 stay on the host: reading them there waits for nothing."""

    noisy_latents: Tensor
    timesteps: Tensor
    network_time: Tensor
    target: Tensor
    weights: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]

    def losses(self, prediction: Tensor) -> Tensor:
        """Weighted loss of each sample, (B,) float32."""
        return self.weights * self.loss(prediction, self.target)


class Objective:
    """Stateless but for its tables: the same (seed, position) always gives the same question.

    `window` is the number of positions in a step, accumulation times batch size. Raises ValueError for settings that
    `contradictions` refuses.
    """

    def __init__(self, settings: Settings, seed: int, *, window: int) -> None:
        assert window > 0
        self.settings = settings
        self.seed = seed
        self.path = path_of(settings)
        self.weights = Table(loss_weight.weights(settings))
        self._cumulative = cumulative(density(settings))
        self._strata = window if settings.stratified else 1
        self._loss = partial(loss_of, kind=settings.loss, delta=settings.huber_delta)

    def ask(self, latents: Tensor, positions: Sequence[int]) -> Question:
        """Noise `latents` (B, 4, h, w), any device, as the samples at `positions`."""
        settings, device = self.settings, latents.device
        timesteps = timesteps_of(self.seed, positions, self._cumulative, strata=self._strata)
        at = _sent(timesteps, device)
        noise = self._noise("noise", positions, latents.shape[1:], device)
        if settings.noise_offset:
            # The noise of a channel as a whole, in the input and in the target.
            offset = self._noise("noise_offset", positions, (latents.shape[1], 1, 1), device)
            noise = noise + settings.noise_offset * offset
        strayed = noise
        if settings.ip_noise_gamma:
            # Input perturbation (Ning et al. 2023, 2301.11706): the input's noise strays, the target's stays clean.
            stray = self._noise("ip_noise", positions, latents.shape[1:], device)
            strayed = noise + settings.ip_noise_gamma * stray
        return Question(
            noisy_latents=self.path.add_noise(latents, strayed, at),
            timesteps=timesteps,
            network_time=self.path.network_time(at),
            target=self.path.target(latents, noise, at),
            weights=self.weights.at(at),
            loss=self._loss,
        )

    def _noise(self, stream: str, positions: Sequence[int], shape: Sequence[int], device: torch.device) -> Tensor:
        return _sent(noise_of(self.seed, positions, shape, stream=stream), device)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """On `device`. To a GPU out of pinned memory: other copies wait until the GPU has done all it was given before."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
