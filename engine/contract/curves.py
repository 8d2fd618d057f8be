"""Named curves over a run: what the engine evaluates is what the app draws."""

import math

from engine.contract.sections import Schedule


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
