"""Stochastic rounding to bf16 with a generator of its own: a function of (key, element), the same on every device.

Rounded up with the probability that the cut-off part is of a bf16 step, a weight is right on average where rounding to
the nearest would leave it in place for ever. The draws touch no other generator, so that noise and order stay what they
are, and a resumed run rounds as the unbroken one would have. Integer arithmetic only: no device rounds it differently.
"""

import torch
from torch import Tensor

_LOW = 0xFFFF
_GREATEST = torch.finfo(torch.bfloat16).max


def stochastic_bf16(values: Tensor, key: int, *, start: int = 0) -> Tensor:
    """fp32 -> bf16, same shape. `key` names the draw (64 well-mixed bits, as `derive` makes them); `start` is the index
    of the first element in the tensor that `values` is a piece of: pieces give what the whole would have given.

    What lies beyond the greatest bf16 becomes the greatest bf16: finite stays finite, and inf stays inf.
    """
    bits = values.contiguous().view(torch.int32).flatten()
    rest = torch.arange(start, start + bits.numel(), dtype=torch.int32, device=values.device)
    _hash_(rest, key)
    rest &= _LOW
    # Above it there is no finite number to round up to.
    flat = values.reshape(-1)
    rest *= (flat < _GREATEST) & (flat > -_GREATEST)
    # A uniform number below one step, added to the magnitude, carries into the upper half as often as it should.
    rest += bits
    rest >>= 16
    return rest.to(torch.int16).view(torch.bfloat16).view(values.shape)


def _hash_(counters: Tensor, key: int) -> None:
    """Turns each int32 counter into 32 well-mixed bits: two rounds of a 32-bit finalizer (Wellons' lowbias32), each
    with its own half of the key. Products wrap around; in place, for a piece is large."""
    for half in (key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF):
        counters ^= _signed(half)
        counters ^= _shifted(counters, 16)
        counters *= _signed(0x7FEB352D)
        counters ^= _shifted(counters, 15)
        counters *= _signed(0x846CA68B)
        counters ^= _shifted(counters, 16)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Logical shift to the right: torch's keeps the sign."""
    return (state >> bits).bitwise_and_((1 << (32 - bits)) - 1)


def _signed(number: int) -> int:
    """The int32 with these 32 bits."""
    return number - (1 << 32) if number >= 1 << 31 else number
