"""Tensors that rest in host memory side by side, and the pieces in which they travel."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.memory.plan import NORM_PIECE
from engine.optim.hosted import aligned
from engine.optim.slabs import SLAB, Slabs


@dataclass(frozen=True)
class Span:
    """Elements `start` to `stop` of a tensor are from element `at` on in the slab of this number."""

    start: int
    stop: int
    slab: int
    at: int


def lay_out(sizes: Mapping[str, int], *, slab: int, chunk: int) -> dict[str, tuple[Span, ...]]:
    """One flat address space for tensors of `sizes` elements, each aligned, in slabs of `slab` elements; cut in chunks,
    none of which crosses a slab's edge."""
    spans: dict[str, tuple[Span, ...]] = {}
    address = 0
    for name, size in sizes.items():
        spans[name] = tuple(_cut(address, size, slab=slab, chunk=chunk))
        address += aligned(size)
    return spans


def _cut(address: int, size: int, *, slab: int, chunk: int) -> Iterator[Span]:
    start = 0
    while start < size:
        number, at = divmod(address + start, slab)
        stop = min(size, start + chunk, start + slab - at)
        yield Span(start, stop, number, at)
        start = stop


@dataclass(frozen=True)
class Chunk:
    """`part` of a tensor's elements, where they rest, and where the norms of its pieces of at most NORM_PIECE elements
    are noted: numbers in float64, on the device."""

    part: slice
    resting: Tensor
    norms: tuple[Tensor, ...]

    def measure(self, elements: Tensor) -> None:
        """Note the norms of `elements`, which are on the device. In pieces, which bound what the wider type costs."""
        for piece, norm in zip(torch.split(elements, NORM_PIECE), self.norms, strict=True):
            torch.linalg.vector_norm(piece, dtype=torch.float64, out=norm)


def make_chunks(
    sizes: Mapping[str, int], dtype: torch.dtype, device: torch.device, *, slabs: Slabs, chunk: int
) -> dict[str, list[Chunk]]:
    """By name, with their host memory, which holds nothing yet. `device`: where the norms are."""
    slab = SLAB // dtype.itemsize
    every = lay_out(sizes, slab=slab, chunk=chunk)
    full, rest = divmod(sum(map(aligned, sizes.values())), slab)
    memory = [slabs.empty(size, dtype) for size in [slab] * full + [rest] * (rest > 0)]
    pieces = sum(-(-(span.stop - span.start) // NORM_PIECE) for spans in every.values() for span in spans)
    norms = iter(torch.zeros(pieces, dtype=torch.float64, device=device))
    return {
        name: [
            Chunk(
                slice(span.start, span.stop),
                memory[span.slab][span.at : span.at + span.stop - span.start],
                tuple(next(norms) for _ in range(span.start, span.stop, NORM_PIECE)),
            )
            for span in spans
        ]
        for name, spans in every.items()
    }
