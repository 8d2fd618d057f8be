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

import torch
from torch import Tensor, nn

from engine.contract.sections import MasterKind
from engine.contract.seeding import derive
from engine.optim.hosted import HostTensors
from engine.optim.pieces import as_elements, pieces
from engine.optim.precision import join, split
from engine.optim.rounding import stochastic_bf16

_KEPT = {"split": torch.int16, "fp32": torch.float32}


class Masters:
    """All that is kept exists from the start, for the weights as they then are. `parameters` stay where they are,
    contiguous, in bf16 or fp32; masters are on `device`, which may be another."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], kind: MasterKind, *, device: torch.device, seed: int
    ) -> None:
        self.kind = kind
        self._seed = seed
        self._device = device
        self._parameters = parameters
        kept = _KEPT.get(kind)
        half = {name: p.shape for name, p in parameters.items() if p.dtype == torch.bfloat16 and kept is not None}
        self._host = HostTensors(half, kept or torch.int16, device)
        if kind == "fp32":
            for name in half:
                self._host.store(name, parameters[name].detach().to(device).float())
        self._read: tuple[str, Tensor] | None = None  # the half that is on the device, to be written back

    def read(self, name: str, then: str | None = None) -> Tensor:
        """The fp32 master: for an fp32 network on the device the weight itself. `then` is read next."""
        weight = self._parameters[name].data.to(self._device, non_blocking=True)
        if weight.dtype == torch.float32:
            return weight
        if self.kind == "fp32":
            return self._host.fetch(name, then)
        if self.kind == "split":
            self._read = (name, self._host.fetch(name, then))
            return _joined(weight, self._read[1])
        return weight.float()

    def copy(self, name: str) -> Tensor:
        """The same, to be kept for longer than until the next is read."""
        master = self.read(name)
        return master.clone() if self._parameters[name].dtype != torch.float32 and self.kind == "fp32" else master

    def start(self, name: str, master: Tensor) -> None:
        """Take over a base's or a checkpoint's weight (fp32): chance has no part in it."""
        if self.kind == "stochastic":
            self._parameters[name].data.copy_(master)
        else:
            self.write(name, master, 0)

    def write(self, name: str, master: Tensor, step: int) -> None:
        """Keep `master` (fp32, finite) and give the network its weight. `step` counts the updates of a run: with the
        seed and the name it decides how chance rounds."""
        weight = self._parameters[name].data
        if weight.dtype == torch.float32:
            if master.data_ptr() != weight.data_ptr():
                weight.copy_(master)
        elif self.kind == "split":
            if self._read is None or self._read[0] != name:
                self._read = (name, torch.empty_like(weight, dtype=torch.int16, device=self._device))
            low = self._read[1]
            self._read = None
            _split_into(master, weight, low)
            self._host.store(name, low)
        elif self.kind == "stochastic":
            key = derive(self._seed, f"rounding {name}", step)
            for part in pieces(as_elements(master)):
                weight.view(-1)[part] = stochastic_bf16(master.view(-1)[part], key, start=part.start)
        elif self.kind == "fp32":
            for part in pieces(as_elements(master)):
                weight.view(-1)[part] = split(master.view(-1)[part])[0]  # ties as in split: one run, whatever keeps it
            self._host.store(name, master)
        else:
            weight.copy_(master)

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
    for part in pieces(as_elements(master)):
        master.view(-1)[part] = join(weight.view(-1)[part], low.view(-1)[part])
    return master


def _split_into(master: Tensor, weight: Tensor, low: Tensor) -> None:
    for part in pieces(as_elements(master)):
        weight.view(-1)[part], low.view(-1)[part] = split(master.view(-1)[part])
