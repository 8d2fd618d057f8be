"""The higher-precision master of every trained weight, whatever the network computes in.

| kind | beside the bf16 weight, on the host | bytes a parameter | an update of 8e-7 |
|---|---|---|---|
| split | the 16 bits that rounding cut off | 2 | arrives, bit for bit as in fp32 |
| fp32 | the whole fp32 weight | 4 | arrives |
| stochastic | nothing: rounded up or down by chance | 0 | arrives on average, with noise |
| nearest | nothing | 0 | is lost: 2 % of the movement survives |

An fp32 network is its own master.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.contract.sections import MasterKind
from engine.contract.seeding import derive
from engine.optim.hosted import HostTensors
from engine.optim.pieces import as_elements, piece_of, pieces
from engine.optim.precision import join_into, split_into
from engine.optim.rounding import stochastic_bf16

_KEPT = {"split": torch.int16, "fp32": torch.float32}


@dataclass
class _Read:
    """What came to the device with a master, to be written back: the weight, and the half beside it."""

    name: str
    weight: Tensor
    half: Tensor | None = None


class Masters:
    """All that is kept exists from the start, for the weights as they then are. `parameters` stay where they are,
    contiguous, in bf16 or fp32; masters are on `device`, which may be another. Afterwards `settle`. `rooms` are
    memory on the device, by dtype, that what visits may use until then."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        kind: MasterKind,
        *,
        device: torch.device,
        seed: int,
        rooms: Mapping[torch.dtype, Tensor] = {},
    ) -> None:
        self.kind = kind
        self._seed = seed
        self._device = device
        self._parameters = parameters
        # Their memory, wherever parameters visit meanwhile.
        away = {name: p.data for name, p in parameters.items() if p.device.type != device.type}
        dtypes = {weight.dtype for weight in away.values()}
        assert len(dtypes) <= 1, "weights in host memory are of one dtype"
        shapes = {name: weight.shape for name, weight in away.items()}
        weights = next(iter(dtypes), torch.bfloat16)
        self._away = HostTensors(shapes, weights, device, resting=away, room=rooms.get(weights))
        self._is_away = away.keys()
        kept = _KEPT.get(kind)
        half = {name: p.shape for name, p in parameters.items() if p.dtype == torch.bfloat16 and kept is not None}
        self._host = HostTensors(half, kept or torch.int16, device, room=rooms.get(kept or torch.int16))
        if kind == "fp32":
            for name in half:
                self._host.store(name, parameters[name].detach().to(device).float())
        self._read: _Read | None = None

    def read(self, name: str, then: str | None = None) -> Tensor:
        """The fp32 master: for an fp32 network on the device the weight itself. `then` is read next."""
        weight = self._away.fetch(name, then) if name in self._is_away else self._parameters[name].data
        self._read = _Read(name, weight)
        if weight.dtype == torch.float32:
            return weight
        if self.kind == "fp32":
            return self._host.fetch(name, then)
        if self.kind == "split":
            self._read.half = self._host.fetch(name, then)
            return _joined(weight, self._read.half)
        return weight.float()

    def copy(self, name: str) -> Tensor:
        """The same, to be kept for longer than until the next is read."""
        master = self.read(name)
        visits = name in self._is_away and master.dtype == self._parameters[name].dtype
        return master.clone() if visits or self._is_kept_whole(name) else master

    def start(self, name: str, master: Tensor) -> None:
        """Take over a base's or a checkpoint's weight (fp32): chance has no part in it."""
        if self.kind == "stochastic":
            self._parameters[name].data.copy_(master)
        else:
            self.write(name, master, 0)

    def write(self, name: str, master: Tensor, step: int) -> None:
        """Keep `master` (fp32, finite) and give the network its weight. `step` counts the updates of a run: with the
        seed and the name it decides how chance rounds."""
        read, self._read = self._read, None
        if read is None or read.name != name:
            read = _Read(name, self._unread(name))
        weight = read.weight
        if weight.dtype == torch.float32:
            if master.data_ptr() != weight.data_ptr():
                weight.copy_(master)
        elif self.kind == "split":
            low = torch.empty_like(weight, dtype=torch.int16) if read.half is None else read.half
            _split_into(master, weight, low)
            self._host.store(name, low)
        elif self.kind == "stochastic":
            key = derive(self._seed, f"rounding {name}", step)
            for part in pieces(as_elements(master)):
                weight.view(-1)[part] = stochastic_bf16(master.view(-1)[part], key, start=part.start)
        elif self.kind == "fp32":
            _split_into(master, weight, None)  # ties as in split: one run, whatever keeps it
            self._host.store(name, master)
        else:
            weight.copy_(master)
        if name in self._is_away:
            self._away.store(name, weight)

    def settle(self) -> None:
        """Wait until weights in host memory are what was written, and nothing comes or goes by way of `rooms`."""
        self._away.settle()
        self._host.settle()

    def _unread(self, name: str) -> Tensor:
        weight = self._parameters[name].data
        return torch.empty_like(weight, device=self._device) if name in self._is_away else weight

    def _is_kept_whole(self, name: str) -> bool:
        return self.kind == "fp32" and self._parameters[name].dtype != torch.float32

    @torch.no_grad()
    def share_lost(self, rates: Callable[[str], float]) -> float:
        """The share of updates that bf16 weights rounded to the nearest would not take: those of less than half a bf16
        step, of updates that are normal with the tensor's rate as their spread. A host read."""
        lost, total = 0.0, 0
        for name, parameter in self._parameters.items():
            for part in pieces(as_elements(parameter.data)):
                # |w| = mantissa in [1/2, 1) times 2^exponent; bf16 has 8 bits of it, so half a step is 2^(exponent-9).
                weight = parameter.data.view(-1)[part].to(self._device).float()
                half_step = torch.ldexp(torch.ones_like(weight), torch.frexp(weight)[1] - 9) * (weight != 0)
                lost += float(torch.erf(half_step / (max(rates(name), 1e-30) * 2**0.5)).sum())
            total += parameter.numel()
        return lost / total


def _joined(weight: Tensor, low: Tensor) -> Tensor:
    master = torch.empty_like(weight, dtype=torch.float32)
    join_into(weight, low, master)
    return master


def _split_into(master: Tensor, weight: Tensor, low: Tensor | None) -> None:
    master, weight = master.view(-1), weight.view(-1)
    low = None if low is None else low.view(-1)
    for part in pieces(as_elements(master)):
        split_into(piece_of(master, part), piece_of(weight, part), None if low is None else piece_of(low, part))
