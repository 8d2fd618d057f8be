"""Large tensors a piece at a time: what a step needs beside its tensors does not grow with them."""

from collections.abc import Iterator

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
