"""Signs of health that are seen in the loss on pictures that are held out."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

from engine.contract.health_past import Past
from engine.contract.health_rules import Evidence

# Rising: each of the last looks is above the lowest one by this share of it, and by so many times what two looks
# usually differ by. The questions are the same each time, so little of it is chance.
RISING_LOOKS = 4
RISE, RISE_OVER = 0.02, 0.01
RISE_SPREADS = 3.0
LEAST_LOOKS = 8  # before which nothing is known of how much they differ


def rising(past: Past, holds: bool) -> Evidence | None:
    """The loss on what is not trained on was lower, and rises."""
    looks = past.checks
    if len(looks) < LEAST_LOOKS:
        return None
    step, lowest = min(looks, key=lambda look: look[1])
    last = [loss for _, loss in list(looks)[-RISING_LOOKS:]]
    if holds:
        if last[-1] <= lowest * (1 + RISE_OVER):
            return None
    else:
        losses = [loss for _, loss in looks]
        usual = median(abs(after - before) for before, after in pairwise(losses))
        if min(last) <= max(lowest * (1 + RISE), lowest + RISE_SPREADS * usual):
            return None
    mean = sum(last) / len(last)
    return Evidence(
        f"the loss on held-out pictures rises: it was {lowest:.4g} after step {step:,} and is {mean:.4g} on average of "
        f"the last {len(last)} looks ({mean / lowest - 1:+.0%})",
        "The run may learn its pictures by heart. Compare the previews of then and now, and lower the rate with "
        f"`aozora-tui lr 0.3`, or end it earlier next time, near step {step:,}.",
        since=step,
    )
