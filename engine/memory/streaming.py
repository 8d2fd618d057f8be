"""Where the units' weights and gradient sums live: where they are, or in host memory from which they visit the card."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from engine.memory.shelf import DeviceShelf, HostShelf, Shelf
from engine.memory.visits import Convoy, Ends, Laid
from engine.optim.hosted import HostTensors, aligned, laid_out
from engine.optim.slabs import Slabs

ByUnit = Mapping[str, Sequence[tuple[str, nn.Parameter]]]


@dataclass(frozen=True)
class Sums:
    """Zeros for gradients to be added to, on the device: `by_name`, and all of them as `flat` pieces."""

    by_name: Mapping[str, Tensor]
    flat: Sequence[Tensor]


class Residency(Protocol):
    """Keeps weights, sums and activations. Sums are fp32, or float64 for a network that computes in it."""

    @property
    def shelf(self) -> Shelf: ...

    def visiting(self, unit: str, then: str | None) -> AbstractContextManager[None]:
        """Inside, the parameters of `unit` are on the device. Those of `then` start on their way."""
        ...

    def summing(self, unit: str | None, names: Sequence[str]) -> AbstractContextManager[Sums]:
        """The sums of tensors of `unit`, or of another network. Kept if no exception passes."""
        ...

    def sum(self, name: str, then: str | None) -> Tensor:
        """On the device, to be overwritten, until the next is asked for; `then` is asked for next."""
        ...

    @property
    def rooms(self) -> Mapping[torch.dtype, Tensor]:
        """Memory on the device that nobody uses between two windows, by dtype."""
        ...

    def advance(self, left: int) -> None:
        """Before each of a unit's pieces of work, of which there are `left` still: send on a share of what has to come
        or go while they are done. All of it at once would keep the activations waiting for their turn."""
        ...

    def settle(self) -> None:
        """Wait for what is on its way. Afterwards the weights may be changed where they rest and the sums asked for."""
        ...


class Here:
    """Nothing moves: for a CPU, or a card with room for all of it."""

    def __init__(self, trained: Mapping[str, nn.Parameter]) -> None:
        self.shelf: Shelf = DeviceShelf()
        self._sums = {name: zeros_beside(parameter) for name, parameter in trained.items()}

    def visiting(self, unit: str, then: str | None) -> AbstractContextManager[None]:  # noqa: ARG002 - Residency's
        return nullcontext()

    def summing(self, unit: str | None, names: Sequence[str]) -> AbstractContextManager[Sums]:  # noqa: ARG002
        return nullcontext(zeroed({name: self._sums[name] for name in names}))

    def sum(self, name: str, then: str | None) -> Tensor:  # noqa: ARG002 - Residency's
        return self._sums[name]

    @property
    def rooms(self) -> Mapping[torch.dtype, Tensor]:
        return {}

    def advance(self, left: int) -> None:
        pass

    def settle(self) -> None:
        pass


class Streamed:
    """The units of `units` rest in host memory and visit the card, the next while one is at work; `trained` tensors of
    other networks stay on the card, where they are, and so do their sums. So do `staying` bytes of activations.

    Sums of a unit are on the card while it is at work, and leave it while the next one is.
    """

    def __init__(
        self,
        units: ByUnit,
        trained: Mapping[str, nn.Parameter],
        device: torch.device,
        *,
        staying: int = 0,
    ) -> None:
        self.shelf: Shelf = HostShelf(device, staying=staying)
        every = {name: parameter for parameters in units.values() for name, parameter in parameters}
        dtypes = {parameter.dtype for parameter in every.values()}
        if len(dtypes) != 1:
            raise ValueError(f"the memory plan stage-major needs weights of one dtype, these are of {len(dtypes)}")
        self._weights = _Weights(units, next(iter(dtypes)), device)
        self._beside = {name: zeros_beside(parameter) for name, parameter in trained.items() if name not in every}
        learning = {unit: [(n, p) for n, p in parameters if n in trained] for unit, parameters in units.items()}
        self._sums = _Sums(learning, sum_dtype(next(iter(dtypes))), device)

    def visiting(self, unit: str, then: str | None) -> AbstractContextManager[None]:
        return self._weights.visiting(unit, then)

    def summing(self, unit: str | None, names: Sequence[str]) -> AbstractContextManager[Sums]:
        if unit is None:
            return nullcontext(zeroed({name: self._beside[name] for name in names}))
        return self._sums.summing(unit, names)

    def sum(self, name: str, then: str | None) -> Tensor:
        if name in self._beside:
            return self._beside[name]
        return self._sums.hosted.fetch(name, then)

    @property
    def rooms(self) -> Mapping[torch.dtype, Tensor]:
        memory = self._weights.memory
        if memory.dtype != torch.bfloat16:
            return {memory.dtype: memory}
        half = len(memory) // 2
        return {torch.bfloat16: memory[:half], torch.int16: memory[half:].view(torch.int16)}

    def advance(self, left: int) -> None:
        self._weights.convoy.advance(left)
        self._sums.convoy.advance(left)

    def settle(self) -> None:
        self._sums.settle()
        self._weights.settle()


class _Weights:
    """Parameters are views: of where they rest, and inside `visiting` of the card's memory."""

    def __init__(self, units: ByUnit, dtype: torch.dtype, device: torch.device) -> None:
        self._units = {unit: dict(parameters) for unit, parameters in units.items()}
        shapes = {name: p.shape for parameters in self._units.values() for name, p in parameters.items()}
        resting = laid_out(shapes, dtype, Slabs(page_locked=device.type == "cuda"))
        self._resting = {unit: {name: resting[name] for name in parameters} for unit, parameters in self._units.items()}
        for unit, parameters in self._units.items():
            for name, parameter in parameters.items():
                resting[name].copy_(parameter.data)
            self._show(unit, self._resting[unit])  # and their old memory is free
        self._laid = {unit: Laid(tensors) for unit, tensors in self._resting.items()}
        self._ends = Ends({unit: laid.size for unit, laid in self._laid.items()}, dtype, device)
        self._visitors = {
            unit: self._laid[unit].views(self._ends.of(unit), {name: p.shape for name, p in parameters.items()})
            for unit, parameters in self._units.items()
        }
        self.convoy = Convoy(device)
        self._here: set[str] = set()  # or on their way

    @property
    def memory(self) -> Tensor:
        return self._ends.memory

    @contextmanager
    def visiting(self, unit: str, then: str | None) -> Iterator[None]:
        self._come(unit)
        self.convoy.join(unit)
        if then is not None and not self._ends.overlap(unit, then):
            self._come(then)
        self._show(unit, self._visitors[unit])
        try:
            yield
        finally:
            self._show(unit, self._resting[unit])

    def settle(self) -> None:
        self.convoy.finish(discard=True)  # nobody may write to what is still being read
        self._here.clear()  # what rests may be changed next

    def _come(self, unit: str) -> None:
        if unit in self._here:
            return
        self._here = {other for other in self._here if not self._ends.overlap(unit, other)} | {unit}
        memory = self._ends.of(unit)
        self.convoy.send(
            unit, ((memory[start : start + piece.numel()], piece) for start, piece in self._laid[unit].pieces)
        )

    def _show(self, unit: str, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self._units[unit].items():
            parameter.data = tensors[name]


class _Sums:
    """`learning` by unit; `hosted` are the sums where they rest."""

    def __init__(self, learning: ByUnit, dtype: torch.dtype, device: torch.device) -> None:
        self._shapes = {unit: {name: p.shape for name, p in parameters} for unit, parameters in learning.items()}
        sizes = {unit: sum(aligned(each.numel()) for each in shapes.values()) for unit, shapes in self._shapes.items()}
        self._ends = Ends(sizes, dtype, device)
        every = {name: shape for shapes in self._shapes.values() for name, shape in shapes.items()}
        # An update reads sums by way of the memory in which a window makes them.
        self.hosted = HostTensors(every, dtype, device, room=self._ends.memory)
        resting = self.hosted.resting()
        self._laid = {unit: Laid({name: resting[name] for name in each}) for unit, each in self._shapes.items()}
        self.convoy = Convoy(device)

    @contextmanager
    def summing(self, unit: str, names: Sequence[str]) -> Iterator[Sums]:
        for other in self._laid:
            if self._ends.overlap(unit, other):
                self.convoy.join(other)  # they may still be leaving
        laid, flat = self._laid[unit], self._ends.of(unit)
        flat.zero_()
        shapes = self._shapes[unit]
        yield Sums(laid.views(flat, {name: shapes[name] for name in names}), [flat])
        self.convoy.send(unit, ((piece, flat[start : start + piece.numel()]) for start, piece in laid.pieces))

    def settle(self) -> None:
        self.convoy.finish(discard=False)  # an update reads the sums on the host
        self.hosted.settle()  # and nothing that came to the card before they did


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What gradients of `dtype` are added up in."""
    return torch.promote_types(dtype, torch.float32)


def zeroed(sums: Mapping[str, Tensor]) -> Sums:
    for each in sums.values():
        each.zero_()
    return Sums(sums, [each.view(-1) for each in sums.values()])


def zeros_beside(parameter: nn.Parameter) -> Tensor:
    """A sum for its gradients, on its device."""
    return torch.zeros_like(parameter.data, dtype=sum_dtype(parameter.dtype))
