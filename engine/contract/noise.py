"""The noise scale: how much signal is left at each timestep. Plain float64 numbers, index 0 the cleanest: the engine
makes its tensors of them, and the app draws them."""

import math
from functools import cache
from itertools import accumulate
from operator import mul

from engine.contract.sections import Objective

TIMESTEPS = 1000
BETA_START = 0.00085
BETA_END = 0.012


@cache
def alphas_cumprod(*, zero_terminal_snr: bool) -> tuple[float, ...]:
    """SDXL's scaled-linear betas; with `zero_terminal_snr` rescaled by algorithm 1 of Lin et al. 2023 (2305.08891)."""
    first, last = math.sqrt(BETA_START), math.sqrt(BETA_END)
    roots = (first + (last - first) * index / (TIMESTEPS - 1) for index in range(TIMESTEPS))
    plain = tuple(accumulate((1 - root**2 for root in roots), mul))
    return _to_zero_terminal(plain) if zero_terminal_snr else plain


def _to_zero_terminal(plain: tuple[float, ...]) -> tuple[float, ...]:
    roots = [math.sqrt(value) for value in plain]
    first, last = roots[0], roots[-1]
    assert last > 0, "the schedule ends in pure noise already: it must not be rescaled twice"
    return tuple(((root - last) * first / (first - last)) ** 2 for root in roots)


@cache
def flow_time() -> tuple[float, ...]:
    """Rectified flow's t, the share of noise: index i has (i + 1) / 1000, so that the last one is pure noise, as in the
    zero-terminal schedule."""
    return tuple((index + 1) / TIMESTEPS for index in range(TIMESTEPS))


def snr(objective: Objective) -> tuple[float, ...]:
    """Signal-to-noise ratio, alpha^2 / sigma^2, of the schedule that the objective trains on."""
    if objective.prediction_type == "flow":
        return tuple(((1 - t) / t) ** 2 for t in flow_time())
    return tuple(a / (1 - a) for a in alphas_cumprod(zero_terminal_snr=objective.zero_terminal_snr))
