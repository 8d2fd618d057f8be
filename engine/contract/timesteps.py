"""Where on the noise scale a run trains: the probability of each timestep."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

from engine.contract.curves import over_timesteps
from engine.contract.loss_weight import weights
from engine.contract.noise import TIMESTEPS, snr
from engine.contract.sections import Objective

NOISIER_HALF = TIMESTEPS // 2
LEAST_SIGNAL = 1e-8
CONVERGED = 1e-18


@lru_cache(maxsize=8)
def density(objective: Objective) -> tuple[float, ...]:
    """The probability of each timestep, (1000,), sum 1. Raises ValueError for a drawn curve that is none."""
    masses = _masses(objective)
    total = math.fsum(masses)
    return tuple(mass / total for mass in masses)


def cumulative(probabilities: Sequence[float]) -> tuple[float, ...]:
    """The probability of each timestep and all cleaner ones, (1000,); exactly 1 from the last possible one on."""
    sums = tuple(accumulate(probabilities))
    return tuple(value / sums[-1] for value in sums)


def timestep_at(table: Sequence[float], u: float) -> int:
    """The inverse of a cumulative table at u in [0, 1): uniform u give timesteps of its density, never one of
    probability 0."""
    return bisect_right(table, u)


def mean_weight(objective: Objective) -> float:
    """What the loss weight is on average over the timesteps that are drawn. Raises ValueError as `weights` does."""
    return math.fsum(p * weight for p, weight in zip(density(objective), weights(objective), strict=True))


def _masses(objective: Objective) -> tuple[float, ...]:
    """Proportional to the density."""
    match objective.timesteps:
        case "uniform":
            return (1.0,) * TIMESTEPS
        case "noisier_half":
            return tuple(float(timestep >= NOISIER_HALF) for timestep in range(TIMESTEPS))
        case "logit_normal":
            return _logit_normal(objective.logit_mean, objective.logit_std)
        case "log_snr_laplace":
            return _log_snr_laplace(objective)
        case "beta":
            return _beta(objective.beta_a, objective.beta_b)
        case "curve":
            return over_timesteps(objective.timestep_curve)


def _edges() -> tuple[float, ...]:
    """Timestep i stands for the noise levels from i / 1000 to (i + 1) / 1000."""
    return tuple(index / TIMESTEPS for index in range(TIMESTEPS + 1))


def _logit_normal(mean: float, deviation: float) -> tuple[float, ...]:
    """ln(t / (1 - t)) is normal (Esser et al. 2024, 2403.03206)."""
    inner = (math.log(edge / (1 - edge)) for edge in _edges()[1:-1])
    scores = [-math.inf, *((logit - mean) / deviation for logit in inner), math.inf]
    return tuple(_normal_mass(low, high) for low, high in pairwise(scores))


def _normal_mass(low: float, high: float) -> float:
    """Between two scores, from the tail they lie in: differences of numbers near 1 would lose their digits."""
    if low > 0:
        return (math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2))) / 2
    return (math.erfc(-high / math.sqrt(2)) - math.erfc(-low / math.sqrt(2))) / 2


def _log_snr_laplace(objective: Objective) -> tuple[float, ...]:
    """exp(-|ln snr| / scale): a weight on the timesteps, not a Laplace draw in ln snr."""
    signals = (min(max(ratio / (1 + ratio), LEAST_SIGNAL), 1 - LEAST_SIGNAL) for ratio in snr(objective))
    distances = [abs(math.log(signal / (1 - signal))) for signal in signals]
    nearest = min(distances)  # so that a small scale leaves something of the peak
    return tuple(math.exp((nearest - distance) / objective.laplace_scale) for distance in distances)


def _beta(a: float, b: float) -> tuple[float, ...]:
    """t is beta distributed."""
    middle = (a + 1) / (a + b + 2)
    lower, upper = [], []
    for edge in _edges():
        tail = _beta_tail(edge, a, b) if edge <= middle else _beta_tail(1 - edge, b, a)
        lower.append(tail if edge <= middle else 1 - tail)
        upper.append(1 - tail if edge <= middle else tail)
    # Where the two tails meet, an empty bin may come out at minus a rounding error.
    return tuple(
        max(upper[index] - upper[index + 1] if edge > middle else lower[index + 1] - lower[index], 0.0)
        for index, edge in enumerate(_edges()[:-1])
    )


def _beta_tail(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function for x up to (a + 1) / (a + b + 2), where this series (NIST DLMF 8.17.8)
    has nothing but positive, falling terms."""
    if x == 0:
        return 0.0
    scale = math.lgamma(a + b) - math.lgamma(a + 1) - math.lgamma(b)
    total = term = 1.0
    count = 0
    while term > CONVERGED * total:
        term *= x * (a + b + count) / (a + 1 + count)
        total += term
        count += 1
    return math.exp(scale + a * math.log(x) + b * math.log1p(-x)) * total
