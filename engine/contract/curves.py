"""Named and drawn curves: what the engine evaluates is what the app draws."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from engine.contract.noise import TIMESTEPS
from engine.contract.sections import Point, Schedule
from engine.contract.sections.common import OVER_THE_RUN, OVER_TIMESTEPS, Axis


def rate(schedule: Schedule, step: int, steps: int) -> float:
    """The share of the peak learning rate at `step`, an index from 0 to steps - 1.

    The warm-up rises in equal parts and reaches 1 at its last step, so that no step is spent at a rate of 0. The fall
    begins at 1 as well, with the step after it, and would reach `minimum` at `steps`: 0.5, 1, 1, 0.75, 0.5, 0.25 are
    two steps of warm-up and four of a linear fall. A drawn curve is the whole story: it has no warm-up but its own.
    """
    if schedule.shape == "curve":
        return piecewise(schedule.curve, step / steps)
    warmup = warmup_steps(schedule, steps)
    if step < warmup:
        return (step + 1) / warmup
    if schedule.shape == "constant":
        return 1.0
    return schedule.minimum + (1 - schedule.minimum) * _share(schedule, step - warmup, steps)


def warmup_steps(schedule: Schedule, steps: int) -> int:
    """How many steps rise."""
    if schedule.shape == "curve":
        return 0
    return schedule.warmup_steps or round(schedule.warmup * steps)


def _share(schedule: Schedule, after: int, steps: int) -> float:
    """How much of the way from the peak to the minimum is left, `after` steps after the warm-up."""
    rest = max(steps - warmup_steps(schedule, steps), 1)
    left = 1 - after / rest
    match schedule.shape:
        case "linear":
            return left
        case "polynomial":
            return float(left**schedule.power)
        case "rex":  # Chen, Wolfe and Kyrillidis 2021, arXiv 2107.04197
            return left / (0.5 + left / 2)
        case "wsd":
            falling = min(round(schedule.decay * steps), rest)
            return min(1.0, (rest - after) / falling) if falling else 1.0
        case "restarts":  # in whole numbers: a cycle's first step must not be taken for the end of the one before
            return _half_cosine(after * schedule.cycles % rest / rest)
        case _:
            return _half_cosine(after / rest)


def _half_cosine(x: float) -> float:
    """From 1 at 0 down to 0 at 1."""
    return (1 + math.cos(math.pi * x)) / 2


def require_curve(points: Sequence[Point], steps: int) -> None:
    """Raises ValueError, saying what is wrong with it, for a curve of the rate that means nothing over `steps`."""
    _require_line(points, OVER_THE_RUN)
    # Straight in between: it is highest beside one of its points, or at an end of the run.
    beside = {int(point.at * steps) + more for point in points for more in (0, 1)}
    if not any(piecewise(points, step / steps) for step in {0, steps - 1, *beside} if step < steps):
        raise ValueError("is 0 at every step")


def piecewise(points: Sequence[Point], x: float) -> float:
    """Straight between the points, level before the first and after the last. `points` rise in `at`; one at least."""
    after = bisect_right(points, x, key=lambda point: point.at)
    if after == 0:
        return points[0].value
    if after == len(points):
        return points[-1].value
    left, right = points[after - 1], points[after]
    share = (x - left.at) / (right.at - left.at)
    return left.value + (right.value - left.value) * share


def over_timesteps(points: Sequence[Point]) -> tuple[float, ...]:
    """A drawn curve's value at each timestep, (1000,). Raises ValueError, saying what is wrong with it, for a curve
    that means nothing there."""
    _require_line(points, OVER_TIMESTEPS)
    values = tuple(piecewise(points, timestep) for timestep in range(TIMESTEPS))
    if not any(values):
        raise ValueError("is 0 at every whole timestep")
    return values


def _require_line(points: Sequence[Point], axis: Axis) -> None:
    if not points:
        raise ValueError("has no points")
    beyond = next((point for point in points if point.at > axis.last), None)
    if beyond:
        raise ValueError(f"has a point at {beyond.at:g}: {axis.words}")
    wrong = next((pair for pair in pairwise(points) if pair[1].at <= pair[0].at), None)
    if wrong:
        raise ValueError(f"has a point at {wrong[1].at:g} after one at {wrong[0].at:g}: points go from left to right")
