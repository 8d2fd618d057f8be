"""What every plan has in common once a window's gradient is known: masters, optimizer, average, and the sweep that
writes a step."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn

from engine.contract.sections import Ema, MasterKind
from engine.memory.plan import Written, clip_factor
from engine.memory.ratios import Ratios
from engine.optim.average import Average
from engine.optim.masters import Masters
from engine.optim.optimizer import MakeOptimizer
from engine.optim.pieces import length


class Learner:
    """`parameters` learn, by name, in the order of the sweep; their updates are computed on `device`. They start from
    what they hold; `adopt` brings a finer base. `rooms` is memory, by dtype, that is free while a step is written. All
    that a step needs exists from the start: nothing must fail in the middle of a run."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        make_optimizer: MakeOptimizer,
        device: torch.device,
        *,
        master: MasterKind,
        ema: Ema | None,
        seed: int,
        rooms: Mapping[torch.dtype, Tensor] = {},
    ) -> None:
        self.parameters = parameters
        self.device = device
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.resting: frozenset[str] = frozenset()
        self._optimizer = make_optimizer(self.shapes, device)
        self._masters = Masters(parameters, master, device=device, seed=seed, rooms=rooms)
        self._average = Average(self.shapes, ema.decay, warmup=ema.warmup) if ema and ema.decay else None
        self._taken = 0
        self._moved: set[str] = set()  # of the others the average is the weight itself
        if self._average:
            for name in parameters:
                self._average.start(name, self._masters.read(name))

    def learning(self) -> list[str]:
        return [name for name in self.parameters if name not in self.resting]

    def rest(self, names: frozenset[str]) -> bool:
        """These learn nothing until told otherwise. Whether they are others than before."""
        resting = names & self.parameters.keys()
        if resting == self.resting:
            return False
        self.resting = resting
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(name not in resting)
        return True

    @torch.no_grad()
    def step(
        self,
        gradient: Callable[[str, str | None], Tensor],
        rates: Callable[[str], float],
        *,
        norm: float,
        max_grad_norm: float,
        scale: float,
    ) -> Written:
        """Write a step. `gradient(name, then)` gives the sum of a tensor's gradients, fp32, on the device, to be
        overwritten, `then` being wanted next; times `scale` it is the mean, whose global norm is `norm`. Raises
        FloatingPointError, with no weight changed, for what a foreign optimizer made of it."""
        clip = clip_factor(norm, max_grad_norm)
        self._taken += 1
        ratios = Ratios()
        self._optimizer.begin_step()
        if self._average:
            self._average.begin_step()
        try:
            self._sweep(gradient, rates, clip * scale, ratios)
            self._write_whole(ratios)
            if self._average:
                for name in self.resting & self._moved:  # the average goes on towards where they came to rest
                    self._average.update(name, self._masters.read(name))
        finally:
            self._masters.settle()
        return Written(clip < 1.0, ratios.read())

    def _sweep(
        self,
        gradient: Callable[[str, str | None], Tensor],
        rates: Callable[[str], float],
        scale: float,
        ratios: Ratios,
    ) -> None:
        names = self.learning()
        for name, then in zip(names, [*names[1:], None], strict=True):
            mean = gradient(name, then).mul_(scale)
            master = self._masters.read(name, then)
            change = self._optimizer.update(name, master, mean, rates(name))
            if not self._optimizer.whole:
                ratios.add(name, change, master)
                self._keep(name, master)
            del mean, master  # before the next ones are made: of the widest tensor, 50 MiB each

    def _write_whole(self, ratios: Ratios) -> None:
        """What an optimizer makes of all gradients at once, if it is one that does."""
        ready = self._optimizer.finish_step()
        finite = [torch.isfinite(master).all() for master in ready.values()]
        if finite and not bool(torch.stack(finite).all()):  # one host read
            raise FloatingPointError("the optimizer made weights of a sound gradient that are not finite")
        for name, master in ready.items():
            ratios.add(name, length(master - self._masters.read(name)), master)
            self._keep(name, master)

    def weights(self) -> Mapping[str, Tensor]:
        return _Lazily(self.parameters, self._masters.copy)

    def share_lost(self, rates: Callable[[str], float]) -> float:
        """The share of updates that bf16 weights rounded to the nearest would not take at these rates. A host read."""
        return self._masters.share_lost(rates)

    @contextmanager
    def shown(self, *, average: bool, compute: bool) -> Iterator[Mapping[str, Tensor]]:
        if average and self._average:
            with self._computing_with(self._average.tensors() if compute else {}):
                yield self._average.tensors()
            return
        with self._optimizer.evaluating(self._masters.copy) as others, self._computing_with(others if compute else {}):
            yield others or self.weights()

    def optimizer_state(self) -> Mapping[str, Tensor]:
        return self._optimizer.state_dict()

    def averages(self) -> Mapping[str, Tensor]:
        return self._average.state_dict() if self._average else {}

    @torch.no_grad()
    def rehearse(self) -> None:
        name = max(self.parameters, key=lambda name: self.parameters[name].numel())
        self._optimizer.rehearse(name, self._masters.copy(name))

    @torch.no_grad()
    def adopt(self, masters: Iterable[tuple[str, Tensor]]) -> None:
        for name, master in masters:
            shape = self.shapes[name]
            if master.shape != shape:
                raise ValueError(f"{name} has the shape {tuple(master.shape)}, the network wants {tuple(shape)}")
            # Contiguous: some files store a matrix the other way round, and it is read as a view.
            self._masters.start(name, master.to(self.device, torch.float32).contiguous())
            if self._average:
                self._average.start(name, self._masters.read(name))  # as it is kept, which may be coarser
        self._masters.settle()

    def restore(
        self, weights: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor], averages: Mapping[str, Tensor]
    ) -> None:
        if differing := sorted(weights.keys() ^ self.parameters.keys()):
            raise ValueError(f"the checkpoint trains other layers than the profile: {', '.join(differing[:3])} ...")
        if bool(averages) != bool(self._average):
            raise ValueError(f"the checkpoint has {'an' if averages else 'no'} average of the weights")
        if "taken" not in optimizer_state:
            raise ValueError("the optimizer's state does not say how many steps it has taken")
        self._optimizer.load_state_dict(optimizer_state)
        self._taken = int(optimizer_state["taken"])
        self.adopt(weights.items())
        self._moved = set(self.parameters)
        if self._average:
            self._average.load_state_dict(averages)

    def _keep(self, name: str, master: Tensor) -> None:
        self._moved.add(name)
        if self._average:
            self._average.update(name, master)
        self._masters.write(name, master, self._taken)

    @contextmanager
    def _computing_with(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """The network's own weights rest on the host meanwhile: the device has no room for two."""
        own = {name: self.parameters[name].data.to("cpu", copy=True) for name in weights}
        try:
            for name, weight in weights.items():
                self.parameters[name].data.copy_(weight)
            yield
        finally:
            for name, weight in own.items():
                self.parameters[name].data.copy_(weight)


class Recorded(Protocol):
    """What holds recordings."""

    def forget(self) -> None:
        """Other parameters learn from now on."""
        ...


class OnLearner:
    """A plan's answers that are its learner's."""

    _learner: Learner
    _recorded: Recorded

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        return self._learner.shapes

    def rest(self, names: frozenset[str]) -> None:
        if self._learner.rest(names):
            self._recorded.forget()

    def weights(self) -> Mapping[str, Tensor]:
        return self._learner.weights()

    def share_lost(self, rates: Callable[[str], float]) -> float:
        return self._learner.share_lost(rates)

    def shown(self, *, average: bool = True, compute: bool = True) -> AbstractContextManager[Mapping[str, Tensor]]:
        return self._learner.shown(average=average, compute=compute)

    def optimizer_state(self) -> Mapping[str, Tensor]:
        return self._learner.optimizer_state()

    def averages(self) -> Mapping[str, Tensor]:
        return self._learner.averages()

    def rehearse(self) -> None:
        self._learner.rehearse()

    def adopt(self, masters: Iterable[tuple[str, Tensor]]) -> None:
        self._learner.adopt(masters)

    def restore(
        self, weights: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor], averages: Mapping[str, Tensor]
    ) -> None:
        self._learner.restore(weights, optimizer_state, averages)


def only(trained: frozenset[str], *networks: nn.Module | None) -> dict[str, nn.Parameter]:
    """The parameters that learn; all others are frozen."""
    every = chain.from_iterable(network.named_parameters() for network in networks if network is not None)
    chosen: dict[str, nn.Parameter] = {}
    for name, parameter in every:
        parameter.requires_grad_(name in trained)
        if name in trained:
            chosen[name] = parameter
    missing = trained - chosen.keys()
    assert not missing, f"selected, but not in the network: {sorted(missing)[:3]}"
    return chosen


class _Lazily(Mapping[str, Tensor]):
    """Masters joined one at a time, when they are asked for: all of them at once would be a second UNet."""

    def __init__(self, names: Iterable[str], master: Callable[[str], Tensor]) -> None:
        self._names = dict.fromkeys(names)
        self._master = master

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._master(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
