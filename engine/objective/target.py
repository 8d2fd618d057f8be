"""Noising, and what the network is asked to say. Everything here is float32, whatever the network computes in."""

from dataclasses import dataclass

from torch import Tensor

from engine.contract.sections import Objective, PredictionType
from engine.objective.schedule import Schedule, Table, diffusion_schedule, flow_schedule


@dataclass(frozen=True)
class Path:
    """The way from a picture to noise: variance-preserving diffusion that predicts epsilon (Ho et al. 2020) or v
    (Salimans and Ho 2022), or the straight line of rectified flow and its constant velocity (Liu et al. 2022).

    `latents`, `noise` and predictions are (B, 4, h, w) of any dtype; `timesteps` (B,) int64 in 0..999, on their device.
    """

    prediction_type: PredictionType
    schedule: Schedule

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t, float32."""
        alpha, sigma = self._at(timesteps)
        return alpha * latents.float() + sigma * noise.float()

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should answer, float32."""
        latents, noise = latents.float(), noise.float()
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "flow":
            return noise - latents
        alpha, sigma = self._at(timesteps)
        return alpha * noise - sigma * latents

    def network_time(self, timesteps: Tensor) -> Tensor:
        """The number the UNet is told, (B,) float32."""
        return self.schedule.time.at(timesteps)

    def parts(self, noisy_latents: Tensor, prediction: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The latents and the noise that a prediction implies: `target` solved the other way round."""
        noisy_latents, prediction = noisy_latents.float(), prediction.float()
        alpha, sigma = self._at(timesteps)
        if self.prediction_type == "epsilon":
            return (noisy_latents - sigma * prediction) / alpha, prediction
        if self.prediction_type == "flow":
            return noisy_latents - sigma * prediction, noisy_latents + alpha * prediction
        return alpha * noisy_latents - sigma * prediction, sigma * noisy_latents + alpha * prediction

    def _at(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        return _per_sample(self.schedule.alpha, timesteps), _per_sample(self.schedule.sigma, timesteps)


def path_of(settings: Objective) -> Path:
    if settings.prediction_type == "flow":
        return Path("flow", flow_schedule())
    return Path(settings.prediction_type, diffusion_schedule(zero_terminal_snr=settings.zero_terminal_snr))


def _per_sample(table: Table, timesteps: Tensor) -> Tensor:
    """(B, 1, 1, 1)."""
    return table.at(timesteps).view(-1, 1, 1, 1)
