"""Named tensors that rest in host memory and visit the device one after another, the next on their way meanwhile."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from engine.contract.calibration import TOGETHER  # elements; a small copy takes as long as a large one
from engine.optim.slabs import SLAB, Slabs

ALIGNED = 256  # elements


class HostTensors:
    """Zeros of `shapes` and `dtype` in host memory, all there from the start, or what is `resting` there already; on
    CUDA memory on the card as well, for any two groups of neighbours that follow each other: `room` (of that dtype, for
    others to use while nothing is fetched), if that is large enough.

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
    ) -> None:
        slabs = Slabs(page_locked=device.type == "cuda")
        self._resting = laid_out(shapes, dtype, slabs) if resting is None else resting
        self.pinned = slabs.page_locked
        self._after = dict(zip(shapes, list(shapes)[1:], strict=False))
        self._visits: _Visits | None = None
        if device.type == "cuda":
            groups = neighbours(self._resting)
            total = widest_pair(group.size for group in groups)
            if room is None or len(room) < total:
                room = torch.empty(total, dtype=dtype, device=device)
            self._visits = _Visits(groups, room)

    def after(self, name: str) -> str | None:
        """The name that follows in the order of `shapes`, the order in which they are best fetched."""
        return self._after.get(name)

    def fetch(self, name: str, then: str | None = None) -> Tensor:
        """`name` on the device; on a CPU the resting tensor itself. With `then`, which is needed next, its neighbours
        come with it, and those behind them start on their way: until it has settled, nobody else may use the room."""
        if self._visits is None:
            return self._resting[name]
        return self._visits.fetch(name, then).view(self._resting[name].shape)

    def store(self, name: str, tensor: Tensor) -> None:
        """`tensor` (same shape and dtype) becomes the resting value; it must not be changed any more."""
        resting = self._resting[name]
        assert tensor.shape == resting.shape and tensor.dtype == resting.dtype, name
        if self._visits is not None:
            self._visits.store(name, tensor)
        elif tensor.data_ptr() != resting.data_ptr():
            resting.copy_(tensor)

    def settle(self) -> None:
        """Wait until everything stored has arrived."""
        if self._visits is not None:
            self._visits.settle()

    def resting(self) -> Mapping[str, Tensor]:
        """The tensors where they rest, settled. They may be read and changed until the next `fetch`."""
        self.settle()
        return self._resting


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


@dataclass(eq=False)
class Group:
    """Tensors side by side in host memory: `resting` is all of them, flat, and `places` says where each is."""

    resting: Tensor
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    following: "Group | None" = None

    @property
    def size(self) -> int:
        return self.resting.numel()

    def only(self, name: str) -> "Group":
        begin, end = self.places[name]
        return Group(self.resting[begin:end], {name: (0, end - begin)})


def neighbours(resting: Mapping[str, Tensor]) -> list[Group]:
    """In their order, as many together as lie together and have no more than TOGETHER elements."""
    groups: list[Group] = []
    for name, tensor in resting.items():
        assert tensor.is_contiguous(), name
        if not (groups and _joined(groups[-1], name, tensor)):
            groups.append(Group(tensor.view(-1), {name: (0, tensor.numel())}))
    for group, following in pairwise(groups):
        group.following = following
    return groups


def _joined(group: Group, name: str, tensor: Tensor) -> bool:
    """Whether `tensor` has been taken into the group: it lies right behind it."""
    begin = int(tensor.storage_offset() - group.resting.storage_offset())
    end = begin + tensor.numel()
    same = tensor.untyped_storage().data_ptr() == group.resting.untyped_storage().data_ptr()
    if not same or begin != aligned(group.size) or end > TOGETHER:
        return False
    group.places[name] = begin, end
    group.resting = group.resting.as_strided((end,), (1,))
    return True


@dataclass
class _Slot:
    end: End
    filled: torch.cuda.Event
    group: Group | None = None  # whose values it holds
    lent: set[str] = field(default_factory=set)  # may have been changed, and are not what `store` said
    stored: list[tuple[int, int]] = field(default_factory=list)  # what the host does not know yet

    @property
    def held(self) -> int:
        return self.group.size if self.group is not None else 0

    def piece(self, begin: int, end: int) -> Tensor:
        return self.end.of(self.held)[begin:end]


class _Visits:
    """Two slots on the card, and a stream for each direction, so that one group leaves while the next is changed.

    Waiting for all that a stream was given is no coarser than waiting for one copy: with two slots, the one to be
    filled is the one that was changed last.
    """

    def __init__(self, groups: Iterable[Group], memory: Tensor) -> None:
        self._group = {name: group for group in groups for name in group.places}
        self._device = memory.device
        self._arriving = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._leaving = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        # When this is freed, the allocator has to wait for the side streams too before it hands the memory on.
        memory.record_stream(self._arriving)
        memory.record_stream(self._leaving)
        self._slots = [_Slot(End(memory, far), torch.cuda.Event()) for far in (False, True)]  # type: ignore[no-untyped-call]

    def fetch(self, name: str, then: str | None) -> Tensor:
        group = self._group[name]
        if then is None and all(slot.group is not group for slot in self._slots):
            group = group.only(name)
        slot = self._at_hand(group)
        if name in slot.lent:  # the host's value is asked for, not what a caller made of it
            self._fill(slot, group)
        # The update must not read before the copy has arrived.
        torch.cuda.current_stream(self._device).wait_event(slot.filled)
        slot.lent.add(name)
        if then is not None and (following := self._group.get(then)) is not None:
            self._prefetch(following if following is not group else group.following)
        return slot.piece(*group.places[name])

    def store(self, name: str, tensor: Tensor) -> None:
        group = self._group[name]
        place = group.places[name]
        slot = next((slot for slot in self._slots if slot.group is group), None)
        if slot is None:
            self._send(tensor.reshape(-1), group.resting[slice(*place)])
            # It may be freed at once by the caller; its memory must not be reused before the copy.
            tensor.record_stream(self._leaving)
            return
        here = slot.piece(*place)
        if tensor.data_ptr() != here.data_ptr():
            # Not before what was prefetched has arrived.
            torch.cuda.current_stream(self._device).wait_event(slot.filled)
            here.copy_(tensor.reshape(-1))
        slot.lent.discard(name)
        begin, end = place
        if slot.stored and aligned(slot.stored[-1][1]) == begin:
            begin, _ = slot.stored.pop()  # they leave in one copy, and what lies between them is nobody's
        slot.stored.append((begin, end))

    def settle(self) -> None:
        for slot in self._slots:
            self._empty(slot)  # the resting tensors may be changed next
        # Nobody may write to the resting tensors while they are still being read ...
        self._arriving.synchronize()
        # ... nor read them before what was stored is there.
        self._leaving.synchronize()

    def _at_hand(self, group: Group) -> _Slot:
        """The slot that holds the group, which is then the first."""
        first, second = self._slots
        if first.group is group:
            return first
        self._slots.reverse()
        if second.group is not group:
            if second.end.meets(group.size, first.held):
                self._empty(first)
            self._fill(second, group)
        return second

    def _prefetch(self, group: Group | None) -> None:
        first, second = self._slots
        if group is None or group in (first.group, second.group) or second.end.meets(group.size, first.held):
            return
        self._fill(second, group)

    def _fill(self, slot: _Slot, group: Group) -> None:
        self._empty(slot)
        # The update that was given this slot may still be reading and writing it ...
        self._arriving.wait_stream(torch.cuda.current_stream(self._device))
        # ... or its result may still be leaving from it; and the host's copy of `group` must be there to be read.
        self._arriving.wait_stream(self._leaving)
        slot.group = group
        with torch.cuda.stream(self._arriving):
            slot.piece(0, group.size).copy_(group.resting, non_blocking=True)
        slot.filled.record(self._arriving)

    def _empty(self, slot: _Slot) -> None:
        """What was stored in it starts on its way to the host."""
        if slot.group is not None:
            for begin, end in slot.stored:
                self._send(slot.piece(begin, end), slot.group.resting[begin:end])
        slot.group = None
        slot.lent.clear()
        slot.stored.clear()

    def _send(self, tensor: Tensor, resting: Tensor) -> None:
        # The update must have written the tensor before it is copied.
        self._leaving.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._leaving):
            resting.copy_(tensor, non_blocking=True)
