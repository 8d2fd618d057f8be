"""What rounding to the nearest bf16 does to small updates."""

import math

_BINADES = range(-126, 128)  # of normal numbers
_HALF_STEP = 8  # bf16 has 8 significant bits: half a step at a weight from 2^e on is 2^(e - 8)


def share_lost(rate: float, std: float = 0.02) -> float:
    """The share of updates that rounding to the nearest bf16 gives back whole, the weight staying where it is.

    Weights are normally distributed around 0 with deviation `std`, as in SDXL's large matrices; updates around 0 with
    deviation `rate`, as Adafactor's clip and Adam's division make them. An update is lost if it is less than half a
    step at its weight.
    """
    lost = 0.0
    for exponent in _BINADES:
        within = _inside(2.0 ** (exponent + 1), std) - _inside(2.0**exponent, std)
        lost += within * _inside(2.0 ** (exponent - _HALF_STEP), rate)
    return lost


def _inside(limit: float, std: float) -> float:
    """How much of a normal distribution lies within `limit` of its middle."""
    return math.erf(limit / (std * math.sqrt(2)))
