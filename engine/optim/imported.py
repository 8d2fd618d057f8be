"""Any optimizer that follows torch.optim, from an installed package.

It sees parameters of its own, fp32, all at once: for every trained weight 4 bytes of parameter, 4 of gradient and its
state stay on the device. State is stored as it is: torch's own `load_state_dict` casts it to the parameters' dtype.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from msgspec import convert, structs
from torch import Size, Tensor, nn

from engine.optim.foreign_state import Encoder, Record, decoded, fitting
from engine.optim.import_path import ANOTHER, CORRECT, find, first_line, wrong_class
from engine.optim.optimizer import ReadMaster

# No parameter has a name like these: torch allows neither an empty name nor a dot in one.
RECORD, SHARED = "..record", "..shared"
NO_FACTORS: Mapping[str, float] = MappingProxyType({})


class Imported:
    """`shapes` are the parameters' shapes, `rates` the factor by which one's learning rate differs (absent: 1): each
    distinct factor is a parameter group. What a parameter holds between steps means nothing: a step takes every master
    anew. ImportedOptimizerError, with the first line of what the class itself raised, comes from the constructor and
    from all that lets the class work: `finish_step`, `rehearse`, `evaluating`."""

    def __init__(
        self,
        path: str,
        arguments: Mapping[str, object],
        shapes: Mapping[str, Size],
        device: torch.device,
        *,
        rates: Mapping[str, float] = NO_FACTORS,
        learning_rate: float,
    ) -> None:
        self.path, self.taken, self._device = path, 0, device
        self._remedy = CORRECT if arguments else ANOTHER
        self._parameters = {name: nn.Parameter(torch.zeros(shape, device=device)) for name, shape in shapes.items()}
        self._gradients = {name: torch.zeros_like(parameter) for name, parameter in self._parameters.items()}
        groups: dict[float, list[str]] = {}
        for name in shapes:
            groups.setdefault(rates.get(name, 1.0), []).append(name)
        self._names = list(groups.values())
        self._group_of = {name: index for index, names in enumerate(self._names) for name in names}
        self._optimizer = find(path, arguments)(
            [
                {"params": [self._parameters[name] for name in names], "lr": learning_rate * factor}
                for factor, names in groups.items()
            ],
            lr=learning_rate,
        )
        self._born = _numbers(self._optimizer)
        self._noted: dict[str, float] = {}
        self._used: set[str] = set()  # parameters that hold a master, or one that was
        self._averages = all(callable(getattr(self._optimizer, mode, None)) for mode in ("train", "eval"))
        if self._averages:
            self._switch("train")

    @property
    def whole(self) -> bool:
        return True

    def begin_step(self) -> None:
        self.taken += 1
        self._noted.clear()

    @torch.no_grad()
    def update(self, name: str, master: Tensor, gradient: Tensor, lr: float) -> Tensor:
        self._parameters[name].copy_(master)
        self._gradients[name].copy_(gradient)
        self._noted[name] = lr
        self._used.add(name)
        return torch.zeros((), device=self._device)

    def finish_step(self) -> Mapping[str, Tensor]:
        """The masters noted since `begin_step`, changed. They are the parameters themselves: valid until the next
        `update` or `evaluating`. The others have no gradient, which in torch's terms is to rest."""
        for name, lr in self._noted.items():
            self._optimizer.param_groups[self._group_of[name]]["lr"] = lr
        self._step(self._noted)
        changed = {name: self._parameters[name].detach() for name in self._noted}
        self._noted.clear()
        return changed

    @torch.no_grad()
    def _step(self, names: Iterable[str]) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None
        for name in names:
            self._parameters[name].grad = self._gradients[name]
        with self._working("its first step" if self.taken < 2 else f"step {self.taken}"):
            self._optimizer.step()

    def _switch(self, mode: str) -> None:
        with self._working(f"its {mode}()"):
            getattr(self._optimizer, mode)()

    @contextmanager
    def _working(self, doing: str) -> Iterator[None]:
        """The class's own code: it may raise anything."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if "closure" in str(error).lower():
                text = (
                    f"{self.path} wants to compute the loss by itself (a closure), which this training cannot give it"
                )
                raise wrong_class(text) from error
            raise wrong_class(f"{self.path} fails in {doing}: {first_line(error)}", self._remedy) from error

    @contextmanager
    def evaluating(self, masters: ReadMaster) -> Iterator[Mapping[str, Tensor]]:
        """Schedule-free optimizers train one point and show another. Afterwards the parameters are the masters again,
        read anew: computing back from the shown point would not return to them bit by bit."""
        if not self._averages:
            yield {}
            return
        self._fill(self._parameters, masters)
        try:
            self._switch("eval")
            yield {name: parameter.detach() for name, parameter in self._parameters.items()}
        finally:
            self._switch("train")
            self._fill(self._used, masters)
            self._clear_unused()

    @torch.no_grad()
    def _fill(self, names: Iterable[str], masters: ReadMaster) -> None:
        for name in names:
            self._parameters[name].copy_(masters(name))

    @torch.no_grad()
    def _clear_unused(self) -> None:
        for name in self._parameters.keys() - self._used:
            self._parameters[name].zero_()

    @torch.no_grad()
    def rehearse(self, name: str, master: Tensor) -> None:  # noqa: ARG002 - all of them are stepped at once
        """A step of every parameter. Ones, not zeros: for zeros some packages keep less, and Prodigy stops half-way.
        What state there is waits in host memory: before the first step and before a resume, there is little."""
        before = {key: tensor.to("cpu", copy=True) for key, tensor in self.state_dict().items()}
        held = {name: self._parameters[name].to("cpu", copy=True) for name in self._used}
        try:
            for name, parameter in self._parameters.items():
                parameter.fill_(1.0)
                self._gradients[name].fill_(1.0)
            self._step(self._parameters)
        finally:
            self._fill(held, held.__getitem__)
            self._clear_unused()
            self.load_state_dict(before)

    def state_dict(self) -> dict[str, Tensor]:
        """`<parameter>..<key>` is a tensor of the optimizer's, of whatever dtype; all else is JSON in one uint8 tensor.
        Raises ImportedOptimizerError for what neither can hold (the trial finds that before a run)."""
        encoder, kept = Encoder(), self._optimizer.state
        names: dict[Tensor, str] = {parameter: name for name, parameter in self._parameters.items()}
        groups = [dict(group) for group in self._optimizer.param_groups]
        for group in groups:
            del group["params"]
        owned = [(names[key], kept[key]) for key in kept if key in names and kept[key]]
        record = Record(
            optimizer=self.path,
            device=self._device.type,
            shapes=self._shapes(),
            names=self._names,
            groups=[encoder.encoded(group, f"{SHARED}.group{at}") for at, group in enumerate(groups)],
            state=[(name, encoder.encoded(value, f"{name}.")) for name, value in owned],
            shared=encoder.encoded({key: kept[key] for key in kept if key not in names}, SHARED),
            numbers={k: v for k, v in _numbers(self._optimizer).items() if k not in self._born or self._born[k] != v},
        )
        text = json.dumps(structs.asdict(record))  # unlike msgspec's, it knows inf and nan
        return encoder.tensors | {
            "taken": torch.tensor(self.taken, dtype=torch.int64),
            RECORD: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """All of it or ValueError with nothing changed. A tensor that was kept in host memory returns there."""
        record = self._checked(state)
        optimizer = self._optimizer
        placed: dict[str, Tensor] = {}

        def tensor(found: Mapping[str, Any]) -> Tensor:
            key = found["tensor"]
            if key not in placed:
                placed[key] = state[key].to(self._place(found, record), copy=True)
            return placed[key]

        def read(stored: Any) -> Any:
            return decoded(stored, tensor)

        optimizer.state.clear()  # first, so that there are never two of them
        for name, kept in record.state:
            optimizer.state[self._parameters[name]] = read(kept)
        optimizer.state.update(read(record.shared))
        for group, saved in zip(optimizer.param_groups, record.groups, strict=True):
            params = group["params"]
            group.clear()
            group.update(read(saved), params=params)
        for added in _numbers(optimizer).keys() - self._born.keys():
            delattr(optimizer, added)
        vars(optimizer).update(self._born | record.numbers)
        self.taken = int(state["taken"])

    def _place(self, found: Mapping[str, Any], record: Record) -> torch.device:
        """Where a tensor lives. Saved by a run on the CPU, it does not say: torch then counts steps on the host."""
        counter = found["shape"] == [] and found["tensor"].endswith(".step")
        on_host = found["host"] and (record.device != "cpu" or counter)
        return torch.device("cpu") if on_host else self._device

    def _shapes(self) -> dict[str, list[int]]:
        return {name: list(parameter.shape) for name, parameter in self._parameters.items()}

    def _checked(self, state: Mapping[str, Tensor]) -> Record:
        """The record, if `state` is all that it speaks of and fits these parameters; else ValueError."""
        if RECORD not in state or "taken" not in state or state["taken"].dtype != torch.int64 or state["taken"].dim():
            raise ValueError(f"this is not the optimizer state of {self.path}")
        record = convert(json.loads(state[RECORD].cpu().numpy().tobytes()), Record)
        if record.optimizer != self.path:
            raise ValueError(f"this is the optimizer state of {record.optimizer}, not of {self.path}")
        ours, theirs = self._shapes(), record.shapes
        if differing := sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name)):
            raise ValueError(f"optimizer state does not fit the selected layers: {', '.join(differing[:3])} ...")
        if self._names != record.names or len(self._names) != len(record.groups):
            raise ValueError("optimizer state belongs to other learning-rate factors")
        wanted = {"taken", RECORD}
        everything = [*record.groups, record.shared, *(kept for _, kept in record.state)]
        decoded(everything, lambda found: wanted.add(fitting(found, state)))
        if surplus := sorted(state.keys() - wanted):
            raise ValueError(f"optimizer state holds what does not belong to it: {', '.join(surplus[:3])} ...")
        return record


def _numbers(optimizer: torch.optim.Optimizer) -> dict[str, bool | int | float]:
    """Attributes that may count steps: torch's own state does not hold them."""
    return {key: value for key, value in vars(optimizer).items() if type(value) in (bool, int, float)}
