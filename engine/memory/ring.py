"""fp32 gradient sums that rest in host memory. Each gradient is added to its sum on the card, chunk by chunk, by way of
a ring of slots: one chunk arrives, one is added to and one leaves at the same time, beside the backward pass.

Nothing here waits on the host between the start of a backward pass and its end, addresses are fixed, and the order of
work is kept by marks that all go back to the start of the pass: it can be recorded in a graph together with it.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from engine.memory.chunks import Chunk, make_chunks
from engine.memory.lanes import Lane, Lanes, Mark
from engine.optim.hosted import ALIGNED, End, aligned, widest_pair
from engine.optim.slabs import Slabs

SLOTS = 4  # at least: one arrives, one is added to, one leaves, and one is in reserve


@dataclass(frozen=True)
class Sizes:
    """`chunk`: greatest one, in elements, a multiple of ALIGNED; `small`: tensors of fewer elements have their sums
    on the card, since a small copy takes as long as a large one; `pending`: bytes of gradients that may wait to be
    added."""

    chunk: int = 1 << 22
    small: int = 1 << 16
    pending: int = 64 << 20


@dataclass
class _Slot:
    memory: Tensor
    left: Mark = None  # what was last in it; None: before this backward pass


@dataclass
class _Place:
    end: End
    name: str | None = None  # whose sum it holds, unchanged; None: anybody's
    arrived: Mark = None


class Ring:
    """Sums of `shapes` and `dtype` for gradients on `device`; all memory is there from the start.

    A window is `window`, inside it a `backward` around each backward pass, whose hooks call `collect`, and `norm`.
    Then `sum` has the sums, until the next window; `settle` when no more of them are wanted.
    """

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        dtype: torch.dtype,
        device: torch.device,
        *,
        sizes: Sizes | None = None,
        lanes: Callable[[torch.device], Lanes] = Lanes,
    ) -> None:
        self._sizes, self._shapes = sizes or Sizes(), shapes
        self._here = {
            name: torch.zeros(shape, dtype=dtype, device=device)
            for name, shape in shapes.items()
            if shape.numel() < self._sizes.small
        }
        hosted = {name: shape.numel() for name, shape in shapes.items() if name not in self._here}
        slabs = Slabs(page_locked=device.type == "cuda")
        self._chunks = make_chunks(hosted, dtype, device, slabs=slabs, chunk=self._sizes.chunk)
        self.pinned = slabs.page_locked

        # The slots and, between two windows, the two ends from which an update reads are the same memory. Once the ring
        # has settled no lane uses it any more: it can be freed as what only the computation uses.
        slot = max(ALIGNED, min(self._sizes.chunk, aligned(max(hosted.values(), default=0))))
        memory = torch.empty(max(SLOTS * slot, widest_pair(hosted.values())), dtype=dtype, device=device)
        self._slots = [_Slot(part) for part in torch.split(memory, slot) if len(part) == slot]
        self._places = [_Place(End(memory, far)) for far in (False, True)]
        self._next = 0

        self._lanes = lanes(device)
        self._arriving, self._adding, self._leaving = (self._lanes.beside() for _ in range(3))
        self._pending: deque[tuple[Tensor, Mark]] = deque()
        self._pending_bytes = 0
        self.missing: set[str] = set()  # no gradient has reached them in this window: their next one is stored
        self._names: list[str] = []
        self.collected: set[str] = set()  # in this backward pass
        self.passes = 0  # backward passes that were seen; a replayed one is not
        self._measuring = False

    @contextmanager
    def window(self, names: Iterable[str]) -> Iterator[None]:
        """Inside, gradients are summed up for `names` and no others. What the sums hold at first means nothing."""
        self._names = list(names)
        self.missing, self.collected, self._measuring = set(self._names), set(), False
        try:
            yield
        finally:
            self.settle()

    @contextmanager
    def backward(self, *, last: bool) -> Iterator[None]:
        """Around a backward pass. Behind it, in the order of the computation, the sums hold its gradients and nothing
        is on its way. `last`, of the window: norms are taken on the way."""
        self.collected, self._measuring = set(), last
        self.passes += 1
        self._fork()
        try:
            yield
        finally:
            self._join()  # also after an exception: a recording could not end with lanes that never came back

    def replayed(self, names: Iterable[str], *, last: bool) -> None:
        """A backward pass that was recorded has done again what it did, which was to collect gradients for `names`."""
        self.collected, self._measuring = set(names), last
        self.missing -= self.collected

    def collect(self, name: str, gradient: Tensor) -> None:
        """Add `gradient`, which is nobody else's, to the sum of `name`. Called where it was made. Blocks nobody."""
        assert name not in self.collected, f"{name} has two gradients in one backward pass"
        self.collected.add(name)
        stored = name in self.missing
        self.missing.discard(name)
        if (here := self._here.get(name)) is not None:
            _ = here.copy_(gradient) if stored else here.add_(gradient)
            return
        # Elements in their logical order, however a gradient is stored; nearly always it is stored so.
        flat = gradient.contiguous().view(-1)
        computing = self._lanes.computing()
        ready = computing.mark()
        added: Mark = None
        for chunk in self._chunks[name]:
            added = self._pass(chunk, flat[chunk.part], ready, stored=stored)
        self._hold(flat, added, computing)

    def norm(self) -> float:
        """The L2 norm of all sums of the window, squares summed in float64. A host read."""
        for name in self._chunks.keys() & set(self._names) - self.missing - self._measured():
            # The last backward pass did not reach what an earlier one did: it has to come again.
            flat = self.sum(name).view(-1)
            for chunk in self._chunks[name]:
                chunk.measure(flat[chunk.part])
        for name in self._here.keys() & self.missing:
            self._here[name].zero_()
        reached = [name for name in self._names if name not in self.missing]
        norms = [norm for name in reached for norm in self._norms(name)]
        total = 0.0
        for norm in torch.stack(norms).tolist() if norms else ():
            total += norm * norm
        # The host has waited for the computation, which has waited for all that was on its way: this memory is idle.
        for name in self._chunks.keys() & self.missing:
            for chunk in self._chunks[name]:
                chunk.resting.zero_()
        return math.sqrt(total)

    def sum(self, name: str, then: str | None = None) -> Tensor:
        """On the device, to be overwritten, until the next that rests on the host is asked for. `then` starts on its
        way: it is the next of those."""
        if name in self._here:
            return self._here[name]
        self._places.reverse()
        place, other = self._places  # the one not asked for last comes first: what was on its way is there
        if place.name != name:
            self._bring(place, name)
        place.name = None  # the caller may change it
        # The computation must not read before the sum has arrived.
        self._lanes.computing().wait(place.arrived)
        elements = self._shapes[name].numel()
        if then is not None and then != name and not other.end.meets(self._shapes[then].numel(), elements):
            self._bring(other, then)
        return place.end.of(elements).view(self._shapes[name])

    def after(self, names: Iterable[str]) -> dict[str, str]:
        """Which of `names` comes after which, of those that rest on the host, if they are asked for in this order."""
        hosted = [name for name in names if name in self._chunks]
        return dict(pairwise(hosted))

    def settle(self) -> None:
        """Wait until nothing is on its way; also after an exception, when nobody has joined what was given to the
        lanes. From then on everything starts afresh."""
        for lane in (self._arriving, self._adding, self._leaving):
            lane.finish()
        self._forget()

    def _fork(self) -> None:
        # All three lanes start here. So the marks of the pass before are not needed any more, which a graph could not
        # wait for: the computation waited for all of it when that pass ended. Thereby
        # - chunks of the same host memory arrive behind the copies that brought them there,
        # - slots are overwritten behind the update that read sums from the same memory.
        self._forget()
        start = self._lanes.computing().mark()
        for lane in (self._arriving, self._adding, self._leaving):
            lane.wait(start)

    def _join(self) -> None:
        # The last thing to leave would do for the sums; that each lane is waited for is what a recording wants.
        computing = self._lanes.computing()
        for lane in (self._arriving, self._adding, self._leaving):
            computing.wait(lane.mark())
        self._forget()  # gradients too: whoever is given their memory by the computation comes behind their adds

    def _forget(self) -> None:
        self._pending.clear()
        self._pending_bytes = 0
        self._next = 0
        for slot in self._slots:
            slot.left = None
        for place in self._places:
            place.name, place.arrived = None, None

    def _pass(self, chunk: Chunk, piece: Tensor, ready: Mark, *, stored: bool) -> Mark:
        """A chunk's way through the next slot. The mark: `piece` has been read."""
        slot = self._slots[self._next]
        self._next = (self._next + 1) % len(self._slots)
        memory = slot.memory[: len(piece)]
        if stored:
            # Nothing arrives: the add lane is the one that overwrites what has to have left first.
            self._adding.wait(slot.left)
            self._adding.wait(ready)
            self._adding.run(partial(memory.copy_, piece))
        else:
            # What has left had been added to before: the add lane is done with the slot too.
            self._arriving.wait(slot.left)
            self._arriving.run(partial(memory.copy_, chunk.resting, non_blocking=True))
            self._adding.wait(self._arriving.mark())
            # The backward pass must have made the gradient.
            self._adding.wait(ready)
            self._adding.run(partial(memory.add_, piece))
        if self._measuring:
            self._adding.run(partial(chunk.measure, memory))
        added = self._adding.mark()
        self._leaving.wait(added)
        self._leaving.run(partial(chunk.resting.copy_, memory, non_blocking=True))
        slot.left = self._leaving.mark()
        return added

    def _hold(self, gradient: Tensor, added: Mark, computing: Lane) -> None:
        """Let go of the oldest gradients beyond the bound. Their memory goes to what the computation allocates next,
        which therefore has to come behind their adds."""
        self._pending.append((gradient, added))
        self._pending_bytes += gradient.nbytes
        while self._pending_bytes > self._sizes.pending:
            oldest, done = self._pending.popleft()
            computing.wait(done)
            self._pending_bytes -= oldest.nbytes

    def _bring(self, place: _Place, name: str) -> None:
        # The computation may still be using what this place held; it has waited for the sums to be in host memory.
        self._arriving.wait(self._lanes.computing().mark())
        memory = place.end.of(self._shapes[name].numel())
        for chunk in self._chunks[name]:
            self._arriving.run(partial(memory[chunk.part].copy_, chunk.resting, non_blocking=True))
        place.name, place.arrived = name, self._arriving.mark()

    def _measured(self) -> set[str]:
        return self.collected if self._measuring else set()

    def _norms(self, name: str) -> list[Tensor]:
        if name in self._here:
            return [torch.linalg.vector_norm(self._here[name].view(-1), dtype=torch.float64)]
        return [norm for chunk in self._chunks[name] for norm in chunk.norms]
