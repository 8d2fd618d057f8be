"""Noising, and what the network is asked to say. Everything here is float32, whatever the network computes in."""

from typing import Literal, Protocol

from torch import Tensor

from engine.objective.schedule import FlowSchedule, NoiseSchedule

PredictionType = Literal["v_prediction", "epsilon", "flow"]


class Path(Protocol):
    """The way from a picture to noise. `latents`, `noise` (B, 4, h, w) float32; `timesteps` (B,) int64 in 0..999."""

    prediction_type: PredictionType

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t, float32."""
        ...

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should answer, float32."""
        ...

    def network_time(self, timesteps: Tensor) -> Tensor:
        """The number the UNet is told, (B,)."""
        ...

    def parts(self, noisy_latents: Tensor, prediction: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The latents and the noise that a prediction implies: `target` solved the other way round."""
        ...


class DiffusionPath:
    """Variance-preserving diffusion; `epsilon` (Ho et al. 2020) or `v_prediction` (Salimans and Ho 2022)."""

    def __init__(self, schedule: NoiseSchedule, prediction_type: Literal["v_prediction", "epsilon"]) -> None:
        self.schedule = schedule
        self.prediction_type: PredictionType = prediction_type

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        alpha, sigma = self._at(timesteps)
        return alpha * latents.float() + sigma * noise.float()

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self.prediction_type == "epsilon":
            return noise.float()
        alpha, sigma = self._at(timesteps)
        return alpha * noise.float() - sigma * latents.float()

    def network_time(self, timesteps: Tensor) -> Tensor:
        return timesteps

    def parts(self, noisy_latents: Tensor, prediction: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self._at(timesteps)
        if self.prediction_type == "epsilon":
            return (noisy_latents - sigma * prediction) / alpha, prediction
        return alpha * noisy_latents - sigma * prediction, sigma * noisy_latents + alpha * prediction

    def _at(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        return gather(self.schedule.alpha, timesteps), gather(self.schedule.sigma, timesteps)


class FlowPath:
    """Rectified flow: a straight line from picture to noise, and its constant velocity noise - x_0."""

    prediction_type: PredictionType = "flow"

    def __init__(self, schedule: FlowSchedule) -> None:
        self.schedule = schedule

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        time = gather(self.schedule.time, timesteps)
        return (1 - time) * latents.float() + time * noise.float()

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:  # noqa: ARG002 - same everywhere
        return noise.float() - latents.float()

    def network_time(self, timesteps: Tensor) -> Tensor:
        """1000 t, the scale the UNet's sinusoids were made for."""
        return (self.schedule.time.to(timesteps.device)[timesteps] * 1000).float()

    def parts(self, noisy_latents: Tensor, prediction: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        time = gather(self.schedule.time, timesteps)
        return noisy_latents - time * prediction, noisy_latents + (1 - time) * prediction


def gather(table: Tensor, timesteps: Tensor) -> Tensor:
    """A (1000,) table at (B,) timesteps, as float32 (B, 1, 1, 1)."""
    return table.to(device=timesteps.device)[timesteps].float().view(-1, 1, 1, 1)
