"""Where the units' weights and gradient sums live: where they are, or in host memory from which they visit the card."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor, nn

from engine.memory.shelf import DeviceShelf, HostShelf, Shelf, Side
from engine.optim.hosted import ALIGNED, HostTensors

ByUnit = Mapping[str, Sequence[tuple[str, nn.Parameter]]]


class Hosted(Protocol):
    """What is used of HostTensors."""

    def fetch(self, name: str, then: str | None = None) -> Tensor: ...
    def resting(self) -> Mapping[str, Tensor]: ...


MakeHosted = Callable[[Mapping[str, torch.Size], torch.dtype, torch.device], Hosted]


class Residency(Protocol):
    """Keeps weights, sums and activations. Sums are fp32, or float64 for a network that computes in it."""

    @property
    def shelf(self) -> Shelf: ...

    def visiting(self, unit: str, then: str | None) -> AbstractContextManager[None]:
        """Inside, the parameters of `unit` are on the device. Those of `then` start on their way."""
        ...

    def summing(self, names: Sequence[str]) -> AbstractContextManager[Mapping[str, Tensor]]:
        """The sums of tensors of one unit, on the device, to be written inside; what they hold at first means nothing.
        Kept if no exception passes."""
        ...

    def sum(self, name: str, then: str | None) -> Tensor:
        """On the device, to be overwritten, until the next is asked for; `then` is asked for next."""
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

    def summing(self, names: Sequence[str]) -> AbstractContextManager[Mapping[str, Tensor]]:
        return nullcontext({name: self._sums[name] for name in names})

    def sum(self, name: str, then: str | None) -> Tensor:  # noqa: ARG002 - Residency's
        return self._sums[name]

    def settle(self) -> None:
        pass


class Streamed:
    """Every unit of `units` rests in one piece of host memory and visits one of two places on the card; `trained`
    tensors of other networks stay on it, where they are, and so do their sums.

    A unit's sums are on the card while it is at work, in memory that the next unit uses again. With `keep_activations`
    these stay on the card too.
    """

    def __init__(
        self,
        units: ByUnit,
        trained: Mapping[str, nn.Parameter],
        device: torch.device,
        *,
        keep_activations: bool = False,
        hosted: MakeHosted = HostTensors,
    ) -> None:
        self._device = device
        self.shelf: Shelf = DeviceShelf() if keep_activations else HostShelf(device)
        every = {name: parameter for parameters in units.values() for name, parameter in parameters}
        dtypes = {parameter.dtype for parameter in every.values()}
        if len(dtypes) != 1:
            raise ValueError(f"the memory plan stage-major needs weights of one dtype, these are of {len(dtypes)}")
        self._weights = _Weights(units, next(iter(dtypes)), device, hosted)
        streamed = {name: parameter for name, parameter in trained.items() if name in every}
        self._beside = {name: zeros_beside(parameter) for name, parameter in trained.items() if name not in every}
        wide = sum_dtype(next(iter(dtypes)))
        self._sums = hosted({name: parameter.shape for name, parameter in streamed.items()}, wide, device)
        self._shapes = {name: parameter.shape for name, parameter in streamed.items()}
        most = max((_places(_trained(p, streamed))[-1] for p in units.values()), default=0)
        self._at_work = torch.empty(most, dtype=wide, device=device)
        self._leaving = Side(device)
        self._left: torch.cuda.Event | None = None

    def visiting(self, unit: str, then: str | None) -> AbstractContextManager[None]:
        return self._weights.visiting(unit, then)

    @contextmanager
    def summing(self, names: Sequence[str]) -> Iterator[Mapping[str, Tensor]]:
        streamed = [name for name in names if name in self._shapes]
        places = _places(self._shapes[name].numel() for name in streamed)
        sums = {
            name: self._at_work[start : start + self._shapes[name].numel()].view(self._shapes[name])
            for name, start in zip(streamed, places, strict=False)
        }
        # The sums of the unit before may still be leaving from this memory.
        self._leaving.join(self._left)
        yield sums | {name: self._beside[name] for name in names if name in self._beside}
        resting = self._sums.resting()
        for name, tensor in sums.items():
            # Each copy is ordered behind the computation that made the sums; the last event stands for all of them.
            self._left = self._leaving.copy(resting[name], tensor)

    def sum(self, name: str, then: str | None) -> Tensor:
        if name in self._beside:
            return self._beside[name]
        return self._sums.fetch(name, then)

    def settle(self) -> None:
        self._leaving.finish()  # an update reads the sums on the host
        self._weights.settle()


class _Weights:
    """Parameters are views: of where their unit rests, and inside `visiting` of the place on the card it visits."""

    def __init__(self, units: ByUnit, dtype: torch.dtype, device: torch.device, hosted: MakeHosted) -> None:
        self._units = units
        self._starts = {unit: _places(p.numel() for _, p in parameters) for unit, parameters in units.items()}
        shapes = {unit: torch.Size((starts[-1],)) for unit, starts in self._starts.items()}
        self._hosted = hosted(shapes, dtype, device)
        resting = self._hosted.resting()
        self._resting = {unit: list(self._views(unit, resting[unit])) for unit in units}
        for unit, parameters in units.items():
            for (_, parameter), view in zip(parameters, self._resting[unit], strict=True):
                view.copy_(parameter.data)
            self._show(unit, self._resting[unit])  # and their old memory is free

    @contextmanager
    def visiting(self, unit: str, then: str | None) -> Iterator[None]:
        self._show(unit, self._views(unit, self._hosted.fetch(unit, then)))
        try:
            yield
        finally:
            self._show(unit, self._resting[unit])

    def settle(self) -> None:
        self._hosted.resting()

    def _views(self, unit: str, memory: Tensor) -> Iterator[Tensor]:
        for (_, parameter), start in zip(self._units[unit], self._starts[unit], strict=False):
            yield memory[start : start + parameter.numel()].view(parameter.shape)

    def _show(self, unit: str, tensors: Iterable[Tensor]) -> None:
        for (_, parameter), tensor in zip(self._units[unit], tensors, strict=True):
            parameter.data = tensor


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What gradients of `dtype` are added up in."""
    return torch.promote_types(dtype, torch.float32)


def zeros_beside(parameter: nn.Parameter) -> Tensor:
    """A sum for its gradients, on its device."""
    return torch.zeros_like(parameter.data, dtype=sum_dtype(parameter.dtype))


def _trained(parameters: Sequence[tuple[str, nn.Parameter]], trained: Mapping[str, nn.Parameter]) -> Iterator[int]:
    return (parameter.numel() for name, parameter in parameters if name in trained)


def _places(sizes: Iterable[int]) -> list[int]:
    """Where tensors of `sizes` elements begin, side by side and aligned; and last, where they end."""
    return list(accumulate((-(-size // ALIGNED) * ALIGNED for size in sizes), initial=0))
