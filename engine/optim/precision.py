"""The split master: a bf16 weight and a 16-bit remainder that together are the fp32 weight, bit for bit.

At a learning rate of 8e-7 an update is far below half a bf16 step, so weights rounded to bf16 after each update do not
move. The remainder keeps what rounding would lose, for 2 bytes a parameter, in host memory.
"""

import torch
from torch import Tensor


def split(master: Tensor) -> tuple[Tensor, Tensor]:
    """fp32 -> (bf16, int16): `hi` is the nearest bf16, ties away from zero, `lo` the signed rest of the fp32 bits.

    Adding half a step (0x8000) to the bits and cutting them leaves a rest of -0x8000..0x7fff, so it always fits.
    At a tie a cast goes to the even neighbour and `hi` may not: of a base stored in fp16, some weights start one bf16
    step from where a cast would put them. The master itself is exact. Finite values only; one that rounds above the
    greatest bf16 becomes inf, as any cast would make it.
    """
    bits = master.contiguous().view(torch.int32)
    high = (bits + 0x8000) >> 16
    low = (bits - (high << 16)).to(torch.int16)
    return high.to(torch.int16).view(torch.bfloat16), low


def join(hi: Tensor, lo: Tensor) -> Tensor:
    """The fp32 master again."""
    return ((hi.contiguous().view(torch.int16).to(torch.int32) << 16) + lo.to(torch.int32)).view(torch.float32)
