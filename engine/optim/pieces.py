"""Large tensors a piece at a time: what a step needs beside its tensors does not grow with them."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

PIECE = 8 << 20  # elements; 32 MiB of fp32


def as_rows(tensor: Tensor) -> Tensor:
    """A matrix: a convolution is [O, I*kh*kw], a vector one column, a scalar one element."""
    return tensor.reshape(tensor.shape[0], -1) if tensor.dim() > 1 else tensor.reshape(-1, 1)


def as_elements(tensor: Tensor) -> Tensor:
    """One column, whatever the shape: for rules that treat each element alike."""
    return tensor.reshape(-1, 1)


def pieces(matrix: Tensor) -> Iterator[slice]:
    """The rows in order, as many at a time as `PIECE` elements hold, and at least one."""
    rows = max(1, PIECE // matrix.shape[1])
    for start in range(0, matrix.shape[0], rows):
        yield slice(start, min(start + rows, matrix.shape[0]))


def piece_of(matrix: Tensor, part: slice) -> Tensor:
    """`matrix[part]`; where that is all of it without making a view, of which a step would make thousands."""
    return matrix if part.start == 0 and part.stop == matrix.shape[0] else matrix[part]


def length(tensor: Tensor) -> Tensor:
    """The L2 norm, fp32. torch adds up fp32 squares in rows on a CPU: 2e-4 off for eight million; a card halves."""
    found: Tensor = torch.linalg.vector_norm(tensor, dtype=torch.float64 if tensor.device.type == "cpu" else None)
    return found.float()


def norm(parts: Sequence[Tensor]) -> Tensor:
    """Of a whole whose parts have these norms, a number on their device."""
    return parts[0] if len(parts) == 1 else torch.linalg.vector_norm(torch.stack([*parts]))
