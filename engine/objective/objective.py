"""The objective of a run: from a clean batch to what the network sees and what its answer costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from engine.contract.sections import Objective as Settings
from engine.objective.randomness import noise_of, timesteps_of
from engine.objective.schedule import FlowSchedule, NoiseSchedule, sdxl_schedule
from engine.objective.target import DiffusionPath, FlowPath, Path
from engine.objective.weight import squared_error, weights

NOISIER_HALF = (500, 999)
ALL_TIMESTEPS = (0, 999)


@dataclass(frozen=True)
class Question:
    """One noised batch. `noisy_latents`, `target` (B, 4, h, w) float32; `timesteps`, `network_time`, `weights` (B,)."""

    noisy_latents: Tensor
    timesteps: Tensor
    network_time: Tensor
    target: Tensor
    weights: Tensor

    def losses(self, prediction: Tensor) -> Tensor:
        """Weighted squared error of each sample, (B,) float32."""
        return self.weights * squared_error(prediction, self.target)


class Objective:
    """Stateless but for its tables: the same (seed, position) always gives the same question."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.schedule: NoiseSchedule | FlowSchedule
        self.path: Path
        if settings.prediction_type == "flow":
            flow = FlowSchedule()
            self.schedule, self.path = flow, FlowPath(flow)
        else:
            diffusion = sdxl_schedule(zero_terminal_snr=settings.zero_terminal_snr)
            self.schedule, self.path = diffusion, DiffusionPath(diffusion, settings.prediction_type)
        gamma = settings.min_snr_gamma if settings.loss_weight == "min_snr" else None
        self.weights = weights(self.schedule, settings.prediction_type, min_snr_gamma=gamma)

    def ask(self, latents: Tensor, positions: Sequence[int]) -> Question:
        """Noise `latents` (B, 4, h, w), any device, as the samples at `positions`."""
        shape = latents.shape[1:]
        low, high = NOISIER_HALF if self.settings.timesteps == "noisier_half" else ALL_TIMESTEPS
        timesteps = timesteps_of(self.seed, positions, low, high).to(latents.device)
        noise = noise_of(self.seed, positions, shape).to(latents.device)
        return Question(
            noisy_latents=self.path.add_noise(latents, self._perturbed(noise, positions), timesteps),
            timesteps=timesteps,
            network_time=self.path.network_time(timesteps),
            target=self.path.target(latents, noise, timesteps),
            weights=self.weights.to(latents.device)[timesteps].float(),
        )

    def _perturbed(self, noise: Tensor, positions: Sequence[int]) -> Tensor:
        """Input perturbation (Ning et al. 2023, 2301.11706): the input's noise strays, the target's stays clean."""
        gamma = self.settings.ip_noise_gamma
        if gamma == 0:
            return noise
        stray = noise_of(self.seed, positions, noise.shape[1:], stream="ip_noise").to(noise.device)
        return noise + gamma * stray
