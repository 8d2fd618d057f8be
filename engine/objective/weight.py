"""How much an error counts."""

import torch
from torch import Tensor

from engine.objective.schedule import FlowSchedule, NoiseSchedule
from engine.objective.target import PredictionType


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each sample over its own latent, (B,) float32."""
    return (prediction.float() - target.float()).pow(2).flatten(1).mean(1)


def min_snr_weights(snr: Tensor, prediction_type: PredictionType, gamma: float) -> Tensor:
    """Min-SNR (Hang et al. 2023, 2303.09556) as a (1000,) float64 table for the squared error in `prediction_type`.

    The paper weighs the x_0 error with min(snr, gamma). With ||eps error||^2 = snr ||x_0 error||^2 and
    ||v error||^2 = (snr + 1) ||x_0 error||^2 that is min(snr, gamma) / snr and min(snr, gamma) / (snr + 1).
    At snr 0 the v weight is 0; the epsilon weight has no value there, and the profile refuses that pair.
    """
    capped = snr.clamp(max=gamma)
    return capped / snr if prediction_type == "epsilon" else capped / (snr + 1)


def flow_min_snr_weights(time: Tensor, gamma: float) -> Tensor:
    """The same for rectified flow: ||velocity error||^2 = ||x_0 error||^2 / t^2 and snr = (1 - t)^2 / t^2."""
    return torch.minimum((1 - time) ** 2, gamma * time**2)


def weights(
    schedule: NoiseSchedule | FlowSchedule, prediction_type: PredictionType, *, min_snr_gamma: float | None
) -> Tensor:
    """Loss weight by timestep, (1000,) float64; ones without a gamma."""
    if isinstance(schedule, FlowSchedule):
        time = schedule.time
        return torch.ones_like(time) if min_snr_gamma is None else flow_min_snr_weights(time, min_snr_gamma)
    if min_snr_gamma is None:
        return torch.ones_like(schedule.snr)
    return min_snr_weights(schedule.snr, prediction_type, min_snr_gamma)
