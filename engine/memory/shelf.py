"""Where activations and gradients wait between two units: on the device, or in host memory with copies that run beside
the computation."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.optim.slabs import SLAB, Slabs

_ALIGNED = 512  # bytes
_HELD = 2  # tensors that stay until others follow: they may be wanted at once, or no more by then
_LEAVING = 2  # tensors that may be on their way to the host while the computation goes on


@dataclass(eq=False)
class Place:
    """What waits, or where it does."""

    tensor: Tensor
    arrived: torch.cuda.Event | None = None
    held: Tensor | None = None  # what is to wait there, as long as it has not left

    @property
    def shape(self) -> torch.Size:
        return self.tensor.shape


class Shelf(Protocol):
    """Tensors put away, to be fetched as often as wanted."""

    def put(self, tensor: Tensor, over: Place | None = None, *, soon: bool = True) -> Place:
        """Put `tensor` away; it must not be changed any more. `over` is a place of the same shape and dtype whose
        tensor is no longer wanted. `soon`: it will be fetched again before long."""
        ...

    def drop(self, place: Place) -> None:
        """What was put there last is not wanted any more."""
        ...

    def fetch(self, wanted: Sequence[Place], then: Sequence[Place] = ()) -> list[Tensor]:
        """On the device, not to be changed. `then` start on their way: they are wanted next."""
        ...

    def reserve(self, times: int) -> None:
        """Have room for all that was put between the last two calls of `clear`, as many times over."""
        ...

    def clear(self) -> None:
        """Nothing is wanted any more; also after an exception."""
        ...

    def send_all(self) -> bool:
        """From now on nothing stays on the device that could wait in host memory. Whether any did."""
        ...


class DeviceShelf:
    """Nothing moves."""

    def put(self, tensor: Tensor, over: Place | None = None, *, soon: bool = True) -> Place:  # noqa: ARG002 - Shelf's
        if over is None:
            return Place(tensor)
        over.tensor = tensor
        return over

    def drop(self, place: Place) -> None:
        pass  # it goes with its place

    def fetch(self, wanted: Sequence[Place], then: Sequence[Place] = ()) -> list[Tensor]:  # noqa: ARG002 - Shelf's
        return [place.tensor for place in wanted]

    def reserve(self, times: int) -> None:
        pass

    def clear(self) -> None:
        pass

    def send_all(self) -> bool:
        return False


class Side:
    """A stream beside the computation. On a CPU there is none: what is ordered has been done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, into: Tensor, source: Tensor, after: torch.cuda.Event | None = None) -> torch.cuda.Event | None:
        """Ordered behind all that the computation was given so far, and behind `after`. The event says it is done."""
        if self._stream is None:
            into.copy_(source)
            return None
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        if after is not None:
            self._stream.wait_event(after)
        with torch.cuda.stream(self._stream):
            into.copy_(source, non_blocking=True)
        done: torch.cuda.Event = self._stream.record_event()
        return done

    def join(self, event: torch.cuda.Event | None) -> None:
        """What the computation is given from now on waits for `event`."""
        if event is not None:
            torch.cuda.current_stream(self._device).wait_event(event)

    def finish(self) -> None:
        """Wait, here and now."""
        if self._stream is not None:
            self._stream.synchronize()


class HostShelf:
    """Host memory, page-locked where the system grants it; one window's tensors side by side, the next's in the same
    memory. The first ones stay on the device as long as they are together no more than `staying` bytes."""

    def __init__(self, device: torch.device, *, staying: int = 0) -> None:
        self._device = device
        self._room = staying
        self._stay: set[Place] = set()
        self._arriving, self._leaving = Side(device), Side(device)
        self._memory = _Memory(page_locked=device.type == "cuda")
        self._held: deque[Place] = deque()
        self._going: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        self._coming: dict[Place, tuple[Tensor, torch.cuda.Event | None]] = {}

    def put(self, tensor: Tensor, over: Place | None = None, *, soon: bool = True) -> Place:
        place = over or Place(self._memory.take(tensor.shape, tensor.dtype))
        assert place.shape == tensor.shape and place.tensor.dtype == tensor.dtype
        self.drop(place)
        place.held = tensor
        if tensor.nbytes <= self._room:
            self._stay.add(place)
            self._room -= tensor.nbytes
            return place
        if not soon:
            self._send(place)
            return place
        self._held.append(place)
        if len(self._held) > _HELD:
            self._send(self._held.popleft())
        return place

    def drop(self, place: Place) -> None:
        if place.held is None:
            return
        if place in self._stay:
            self._stay.remove(place)
            self._room += place.held.nbytes
        else:
            self._held.remove(place)
        place.held = None

    def fetch(self, wanted: Sequence[Place], then: Sequence[Place] = ()) -> list[Tensor]:
        tensors = []
        for place in wanted:
            tensor, arrived = self._coming.pop(place) if place in self._coming else self._start(place)
            self._arriving.join(arrived)  # the computation may not read before the copy has written
            tensors.append(tensor)
        # The computation has not yet been given what it does with `wanted`: these copies run beside that.
        self._coming = {place: self._start(place) for place in then}
        return tensors

    def reserve(self, times: int) -> None:
        self._memory.reserve(times)

    def clear(self) -> None:
        # What is on its way still reads and writes memory that is about to be given to others.
        self._arriving.finish()
        self._leaving.finish()
        for place in [*self._held, *self._stay]:
            self.drop(place)
        self._going.clear()
        self._coming.clear()
        self._memory.restart()

    def send_all(self) -> bool:
        self.clear()
        stayed = self._room > 0
        self._room = 0
        return stayed

    def _send(self, place: Place) -> None:
        tensor, place.held = place.held, None
        assert tensor is not None
        # Behind the computation of `tensor`; thereby also behind all that read what the place held, since the
        # computation waited for that to arrive.
        place.arrived = self._leaving.copy(place.tensor, tensor)
        self._going.append((tensor, place.arrived))
        if len(self._going) > _LEAVING:
            # Once let go of, the memory is given to whatever the computation allocates next: that has to come after
            # the copy that still reads it.
            _, gone = self._going[0]
            self._leaving.join(gone)
            self._going.popleft()

    def _start(self, place: Place) -> tuple[Tensor, torch.cuda.Event | None]:
        if place.held is not None:
            return place.held, None
        tensor = torch.empty(place.shape, dtype=place.tensor.dtype, device=self._device)
        # Behind the computation that may still use the memory just allocated, and behind the copy to the host.
        return tensor, self._arriving.copy(tensor, place.tensor, after=place.arrived)


class _Memory:
    """Host memory in slabs, handed out in order, all of it again after `restart`."""

    def __init__(self, *, page_locked: bool) -> None:
        self._making = Slabs(page_locked=page_locked)
        self._slabs: list[Tensor] = []
        self._at, self._used = 0, 0
        self._taken, self._before = 0, 0  # bytes, of this window and of the last that took any

    def take(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        size = math.prod(shape) * dtype.itemsize
        while self._at < len(self._slabs) and self._used + size > len(self._slabs[self._at]):
            self._at, self._used = self._at + 1, 0
        if self._at == len(self._slabs):
            self._slabs.append(self._making.empty(max(SLAB, size), torch.uint8))
        part = self._slabs[self._at][self._used : self._used + size]
        self._used += -(-size // _ALIGNED) * _ALIGNED
        self._taken += -(-size // _ALIGNED) * _ALIGNED
        return part.view(dtype).view(shape)

    def reserve(self, times: int) -> None:
        while sum(map(len, self._slabs)) < times * self._before:
            self._slabs.append(self._making.empty(SLAB, torch.uint8))

    def restart(self) -> None:
        self._at, self._used = 0, 0
        if self._taken:  # or it was nothing but told twice
            self._before = self._taken
        self._taken = 0
