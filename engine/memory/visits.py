"""How units of a network come to the card and their sums leave it: places, layouts and copies."""

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import pairwise

import torch
from torch import Tensor

from engine.memory.shelf import Side
from engine.optim.hosted import aligned

PIECE = 1 << 22  # elements that are sent at a time


class Ends:
    """Memory on the card for neighbours: every other unit lies at its start, those between them at its end. It is as
    large as the largest pair of neighbours, and a unit is always at the same address. `sizes` in elements."""

    def __init__(self, sizes: Mapping[str, int], dtype: torch.dtype, device: torch.device) -> None:
        total = max([sum(pair) for pair in pairwise(sizes.values())] + list(sizes.values()), default=0)
        self.memory = torch.empty(total, dtype=dtype, device=device)
        starts = [0 if number % 2 == 0 else total - size for number, size in enumerate(sizes.values())]
        self._places = {unit: (start, start + sizes[unit]) for unit, start in zip(sizes, starts, strict=True)}

    def of(self, unit: str) -> Tensor:
        start, end = self._places[unit]
        return self.memory[start:end]

    def overlap(self, unit: str, other: str) -> bool:
        (start, end), (from_, to) = self._places[unit], self._places[other]
        return start < to and from_ < end


class Convoy:
    """Copies on a stream beside the computation, piece by piece."""

    def __init__(self, device: torch.device) -> None:
        self._side = Side(device)
        self._waiting: deque[tuple[str, Tensor, Tensor]] = deque()
        self._arrived: dict[str, torch.cuda.Event | None] = {}

    def send(self, name: str, copies: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Begin as soon as there is an occasion. `copies`: into what, from what, flat."""
        for into, source in copies:
            pieces = zip(torch.split(into, PIECE), torch.split(source, PIECE), strict=True)
            self._waiting += [(name, *piece) for piece in pieces]

    def advance(self, left: int) -> None:
        """With `left` occasions, this one with them."""
        for _ in range(-(-len(self._waiting) // left)):
            name, into, source = self._waiting.popleft()
            # Behind all that the computation was given: who used this memory before it, and who made the source.
            self._arrived[name] = self._side.copy(into, source)

    def join(self, name: str) -> None:
        """What the computation is given from now on waits for what was sent for `name`."""
        if any(waiting == name for waiting, *_ in self._waiting):
            self.advance(1)
        self._side.join(self._arrived.get(name))

    def finish(self, *, discard: bool) -> None:
        """Wait, here and now, for all of it, or for what has begun."""
        if discard:
            self._waiting.clear()
        self.advance(1)
        self._side.finish()
        self._arrived.clear()


class Laid:
    """Tensors of a unit side by side: `offsets` by name, `size` in all, and the few contiguous `pieces` in which they
    rest in host memory, by where each begins."""

    def __init__(self, resting: Mapping[str, Tensor]) -> None:
        self.offsets: dict[str, int] = {}
        self.pieces: list[tuple[int, Tensor]] = []
        self.size, joins = 0, None
        for name, tensor in resting.items():
            begins = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
            length = aligned(tensor.numel())
            if begins != joins:
                self.pieces.append((self.size, tensor))
            at, first = self.pieces[-1]
            whole = self.size - at + length
            self.pieces[-1] = at, first.as_strided((whole,), (1,), first.storage_offset())
            self.offsets[name] = self.size
            self.size += length
            joins = begins[0], begins[1] + length

    def views(self, memory: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        starts = self.offsets
        return {name: memory[starts[name] : starts[name] + each.numel()].view(each) for name, each in shapes.items()}
