"""Named tensors that rest in host memory and visit the device one after another, the next on its way meanwhile."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from engine.optim.slabs import SLAB, Slabs

ALIGNED = 256  # elements
NEAR = 1 << 16  # elements; of SDXL's tensors half are smaller, 1.6 million elements in all


class HostTensors:
    """Zeros of `shapes` and `dtype` in host memory, all there from the start, or what is `resting` there already; on
    CUDA memory on the card as well, for any two that follow each other: `room` (of that dtype, for others to use while
    nothing is fetched), if that is large enough. What is `near` stays on the card: the smallest tensors, if they do not
    rest already.

    What `fetch` returns is the caller's, to be read and changed on the current stream, until the next `fetch` or until
    it is given to `store`. `pinned` says whether copies run beside the computation; page-locked memory can be refused.
    """

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        dtype: torch.dtype,
        device: torch.device,
        *,
        resting: Mapping[str, Tensor] | None = None,
        room: Tensor | None = None,
        near: bool = True,
    ) -> None:
        slabs = Slabs(page_locked=device.type == "cuda")
        # A small copy takes as long as a large one.
        near = near and device.type == "cuda" and resting is None
        stays = {name for name, shape in shapes.items() if near and shape.numel() < NEAR}
        travels = {name: shape for name, shape in shapes.items() if name not in stays}
        self._near = {name: torch.zeros(shapes[name], dtype=dtype, device=device) for name in stays}
        self._resting = laid_out(travels, dtype, slabs) if resting is None else resting
        self.pinned = slabs.page_locked
        self._names = tuple(shapes)
        self._after = dict(zip(shapes, list(shapes)[1:], strict=False))
        self._visits: _Visits | None = None
        if device.type == "cuda":
            total = widest_pair(shape.numel() for shape in travels.values())
            if room is None or len(room) < total:
                room = torch.empty(total, dtype=dtype, device=device)
            self._visits = _Visits(room)

    def after(self, name: str) -> str | None:
        """The name that follows in the order of `shapes`, the order in which they are best fetched."""
        return self._after.get(name)

    def fetch(self, name: str, then: str | None = None) -> Tensor:
        """`name` on the device; on a CPU the resting tensor itself. `then`, if it rests here, starts on its way: it is
        needed next."""
        if name in self._near:
            return self._near[name]
        if self._visits is None:
            return self._resting[name]
        visitor = self._visits.fetch(name, self._resting[name])
        while then in self._near:  # the next that has to come is one of those behind it
            then = self._after.get(then)
        if then is not None and then in self._resting and then != name:
            self._visits.prefetch(then, self._resting[then])
        return visitor

    def store(self, name: str, tensor: Tensor) -> None:
        """`tensor` (same shape and dtype) becomes the resting value; it must not be changed any more."""
        resting = self._near[name] if name in self._near else self._resting[name]
        assert tensor.shape == resting.shape and tensor.dtype == resting.dtype, name
        if self._visits is not None and name not in self._near:
            self._visits.store(name, tensor, resting)
        elif tensor.data_ptr() != resting.data_ptr():
            resting.copy_(tensor)

    def settle(self) -> None:
        """Wait until everything stored has arrived."""
        if self._visits is not None:
            self._visits.settle()

    def resting(self) -> Mapping[str, Tensor]:
        """The tensors where they rest, settled. They may be read and changed until the next `fetch`."""
        self.settle()
        return {name: self._near[name] if name in self._near else self._resting[name] for name in self._names}


def laid_out(shapes: Mapping[str, torch.Size], dtype: torch.dtype, slabs: Slabs) -> dict[str, Tensor]:
    """Zeros side by side in `slabs`, in order, each `aligned`; none crosses an edge."""
    used: list[int] = []  # elements of each slab
    places: dict[str, tuple[int, int]] = {}
    for name, shape in shapes.items():
        size = aligned(shape.numel())
        if not used or used[-1] + size > SLAB // dtype.itemsize:
            used.append(0)
        places[name] = (len(used) - 1, used[-1])
        used[-1] += size
    memory = [slabs.zeros(size, dtype) for size in used]
    return {
        name: memory[slab][start : start + shapes[name].numel()].view(shapes[name])
        for name, (slab, start) in places.items()
    }


def aligned(elements: int) -> int:
    """What a tensor of so many takes."""
    return -(-elements // ALIGNED) * ALIGNED


def widest_pair(elements: Iterable[int]) -> int:
    """What the two widest take that follow each other; the widest alone may take more than that."""
    sizes = [aligned(each) for each in elements]
    return max([*sizes, *map(sum, pairwise(sizes))], default=0)


@dataclass(frozen=True)
class End:
    """One end of `memory`, where tensors lie one at a time."""

    memory: Tensor
    far: bool

    def of(self, elements: int) -> Tensor:
        start = len(self.memory) - aligned(elements) if self.far else 0
        return self.memory[start : start + elements]

    def meets(self, elements: int, others: int) -> bool:
        """Whether so many here and `others` at the other end are more than there is room for."""
        return aligned(elements) + aligned(others) > len(self.memory)


@dataclass
class _Slot:
    end: End
    filled: torch.cuda.Event
    held: int = 0  # elements
    name: str | None = None  # whose value it holds, unchanged; None: anybody's


class _Visits:
    """Two slots on the card, and a stream for each direction, so that one tensor leaves while the next arrives.

    Waiting for all that a stream was given is no coarser than waiting for one copy: with two slots, the one to be
    filled is the one that was stored last.
    """

    def __init__(self, memory: Tensor) -> None:
        self._device = memory.device
        self._arriving = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._leaving = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        # When this is freed, the allocator has to wait for the side streams too before it hands the memory on.
        memory.record_stream(self._arriving)
        memory.record_stream(self._leaving)
        self._slots = [_Slot(End(memory, far), torch.cuda.Event()) for far in (False, True)]  # type: ignore[no-untyped-call]

    def fetch(self, name: str, resting: Tensor) -> Tensor:
        self._slots.reverse()
        slot, _ = self._slots  # the one not fetched last: what was prefetched is there
        if slot.name != name:
            self._fill(slot, name, resting)
        slot.name = None  # the caller may change it: from now on only a store says what `name` is
        # The update must not read before the copy has arrived.
        torch.cuda.current_stream(self._device).wait_event(slot.filled)
        return slot.end.of(resting.numel()).view(resting.shape)

    def prefetch(self, name: str, resting: Tensor) -> None:
        near, slot = self._slots
        if not slot.end.meets(resting.numel(), near.held):
            self._fill(slot, name, resting)

    def store(self, name: str, tensor: Tensor, resting: Tensor) -> None:
        # The update must have written the tensor before it is copied.
        self._leaving.wait_stream(torch.cuda.current_stream(self._device))
        for slot in self._slots:
            if slot.name == name:  # stored without a fetch: what was prefetched is old, and may be on its way still
                slot.name = None
                self._leaving.wait_stream(self._arriving)
        with torch.cuda.stream(self._leaving):
            resting.copy_(tensor, non_blocking=True)
        # A tensor that is no slot may be freed at once by the caller; its memory must not be reused before the copy.
        tensor.record_stream(self._leaving)

    def settle(self) -> None:
        for slot in self._slots:
            slot.name = None  # the resting tensors may be changed next
        # Nobody may write to the resting tensors while they are still being read ...
        self._arriving.synchronize()
        # ... nor read them before what was stored is there.
        self._leaving.synchronize()

    def _fill(self, slot: _Slot, name: str, resting: Tensor) -> None:
        # The update that was given this slot may still be reading and writing it ...
        self._arriving.wait_stream(torch.cuda.current_stream(self._device))
        # ... or its result may still be leaving from it; and the host's copy of `name` must be there to be read.
        self._arriving.wait_stream(self._leaving)
        with torch.cuda.stream(self._arriving):
            slot.end.of(resting.numel()).copy_(resting.view(-1), non_blocking=True)
        slot.filled.record(self._arriving)
        slot.name, slot.held = name, resting.numel()
