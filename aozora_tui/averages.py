"""The lowest that a running average has been, folded as the values come. No Textual."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

PAST = 0.97  # weight of the past: an average of about 33 values
WARM = 33  # values that are averaged before one counts: the first alone would be no average


class LowestAverage:
    """Of the debiased exponential average m_n / (1 - f^n) of the finite values (Kingma and Ba 2015). `value` and `step`
    are None before there were enough of them."""

    def __init__(self) -> None:
        self.value: float | None = None
        self.step: int | None = None
        self._count = self._finite = self._rewinds = 0
        self._mean = self._weight = 0.0

    def extend(self, steps: Sequence[int], values: Sequence[float], rewinds: int) -> None:
        """Fold what is new; all of it again if some of what was there has become void: `rewinds` is how often."""
        if rewinds != self._rewinds:
            vars(self).update(vars(LowestAverage()))
            self._rewinds = rewinds
        for step, value in zip(steps[self._count :], values[self._count :], strict=True):
            if not isfinite(value):
                continue
            self._mean = PAST * self._mean + (1 - PAST) * value
            self._weight = PAST * self._weight + (1 - PAST)
            self._finite += 1
            average = self._mean / self._weight
            if self._finite >= WARM and (self.value is None or average < self.value):
                self.value, self.step = average, step
        self._count = len(values)
