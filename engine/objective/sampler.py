"""Drawing pictures down the very path that is trained: deterministic DDIM (Song et al. 2021, 2010.02502)."""

from collections.abc import Callable

import torch
from torch import Tensor

from engine.contract.noise import TIMESTEPS
from engine.objective.target import Path


def sampler_timesteps(steps: int) -> list[int]:
    """Evenly spaced from the noisiest timestep, 999, down, without 0: "SGM uniform" in ComfyUI's words."""
    return [round((TIMESTEPS - 1) * (1 - index / steps)) for index in range(steps)]


def sample(path: Path, noise: Tensor, timesteps: list[int], answer: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """From `noise` (B, 4, h, w) to latents. `answer(noisy_latents, timesteps)` is the network's prediction, guidance
    included; each step splits it into latents and noise and mixes them again at the next timestep."""
    latents = noise
    for now, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        at = torch.full((len(noise),), now, dtype=torch.int64, device=noise.device)
        clean, implied_noise = path.parts(latents, answer(latents, at), at)
        if following is None:
            return clean
        latents = path.add_noise(clean, implied_noise, torch.full_like(at, following))
    return latents
