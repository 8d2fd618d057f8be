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
    master = master.contiguous()
    hi, lo = torch.empty_like(master, dtype=torch.bfloat16), torch.empty_like(master, dtype=torch.int16)
    split_into(master, hi, lo)
    return hi, lo


def split_into(master: Tensor, hi: Tensor, lo: Tensor | None) -> None:
    """The same into tensors that are there, all of them contiguous."""
    bits = master.view(-1).view(torch.int32)
    # As pairs of 16 bits, of which the low ones come first on all that CUDA runs on: the signed rest is just these.
    if lo is not None:
        lo.view(-1).copy_(bits.view(torch.int16)[0::2])
    hi.view(-1).view(torch.int16).copy_((bits + 0x8000).view(torch.int16)[1::2])


def join(hi: Tensor, lo: Tensor) -> Tensor:
    """The fp32 master again."""
    hi, lo = hi.contiguous(), lo.contiguous()
    master = torch.empty_like(hi, dtype=torch.float32)
    join_into(hi, lo, master)
    return master


def join_into(hi: Tensor, lo: Tensor, master: Tensor) -> None:
    """The same into a tensor that is there, all of them contiguous."""
    flat = master.view(-1)
    flat.copy_(hi.view(-1))  # exact: its 16 bits, and 16 zeros behind them
    flat.view(torch.int32).add_(lo.view(-1))
