"""Named and drawn curves: what the engine evaluates is what the app draws."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from engine.contract.noise import TIMESTEPS
from engine.contract.sections import Point, Schedule


def rate(schedule: Schedule, step: int, steps: int) -> float:
    """The share of the peak learning rate at `step`, an index from 0 to steps - 1.

    The warm-up rises in equal parts and reaches 1 at its last step, so that no step is spent at a rate of 0; the fall
    begins with the next step and would reach `minimum` at `steps`.
    """
    warmup = round(schedule.warmup * steps)
    if step < warmup:
        return (step + 1) / warmup
    if schedule.shape == "constant":
        return 1.0
    fallen = (step - warmup) / max(steps - warmup, 1)
    share = 1 - fallen if schedule.shape == "linear" else (1 + math.cos(math.pi * fallen)) / 2
    return schedule.minimum + (1 - schedule.minimum) * share


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
    if not points:
        raise ValueError("has no points")
    beyond = next((point for point in points if point.at > TIMESTEPS - 1), None)
    if beyond:
        raise ValueError(f"has a point at {beyond.at:g}: timesteps go from 0 to {TIMESTEPS - 1}")
    wrong = next((pair for pair in pairwise(points) if pair[1].at <= pair[0].at), None)
    if wrong:
        raise ValueError(f"has a point at {wrong[1].at:g} after one at {wrong[0].at:g}: points go from left to right")
    values = tuple(piecewise(points, timestep) for timestep in range(TIMESTEPS))
    if not any(values):
        raise ValueError("is 0 at every whole timestep")
    return values
