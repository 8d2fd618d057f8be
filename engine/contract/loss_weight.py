"""How much an error counts, by timestep."""

import math

from engine.contract.curves import over_timesteps
from engine.contract.noise import TIMESTEPS, snr
from engine.contract.sections import Objective

# Where both programs that "debias" in their own way cap the ratio; it acts at timestep 0 alone.
PEERS_HIGHEST_SNR = 1000.0


def weights(objective: Objective) -> tuple[float, ...]:
    """The loss weight of each timestep, (1000,), finite and >= 0: by signal-to-noise ratio, then at least the floor,
    then times the drawn curve. Raises ValueError for what `contradictions` refuses."""
    ratios = snr(objective)
    if objective.prediction_type == "epsilon" and ratios[-1] == 0:
        raise ValueError("an epsilon error has no weight where there is no signal")
    factors = over_timesteps(objective.weight_curve) if objective.weight_curve else (1.0,) * TIMESTEPS
    floor = objective.weight_floor
    return tuple(max(_weight(objective, ratio), floor) * factor for ratio, factor in zip(ratios, factors, strict=True))


def _weight(objective: Objective, ratio: float) -> float:
    """Papers weigh the error of x_0: min(snr, gamma) in Min-SNR (Hang et al. 2023, 2303.09556), sqrt(snr) in Yu et al.
    2023 (2310.08442). Divided by what an x_0 error of 1 is in the prediction, they weigh the prediction's own error."""
    gamma = objective.min_snr_gamma
    match objective.loss_weight:
        case "none":
            return 1.0
        case "min_snr":
            return min(ratio, gamma) / _error_of_latents(objective, ratio)
        case "debiased":
            return math.sqrt(ratio) / _error_of_latents(objective, ratio)
        case "debiased_aozora":
            _refuse_flow(objective)
            return min(1.0, gamma / math.sqrt(ratio)) if ratio else 1.0
        case "debiased_sd_scripts":
            _refuse_flow(objective)
            capped = min(ratio, PEERS_HIGHEST_SNR)
            return 1 / math.sqrt(capped) if objective.prediction_type == "epsilon" else 1 / (capped + 1)
        case "debiased_onetrainer":
            _refuse_flow(objective)
            capped = min(ratio, PEERS_HIGHEST_SNR)
            return 1 / math.sqrt(capped if objective.prediction_type == "epsilon" else capped + 1)


def _error_of_latents(objective: Objective, ratio: float) -> float:
    """||error in the prediction||^2 / ||error in x_0||^2 at a signal-to-noise ratio."""
    match objective.prediction_type:
        case "epsilon":
            return ratio
        case "v_prediction":
            return ratio + 1
        case "flow":  # 1 / t^2, because snr = ((1 - t) / t)^2
            return (1 + math.sqrt(ratio)) ** 2


def _refuse_flow(objective: Objective) -> None:
    if objective.prediction_type == "flow":
        raise ValueError(f"{objective.loss_weight} has no form for rectified flow")
