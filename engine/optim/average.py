"""A running average of the trained weights (EMA), in fp32 in host memory."""

from collections.abc import Mapping

import torch
from torch import Size, Tensor

TAKEN = "taken"


class Average:
    """average = d average + (1 - d) weights, once a step; d is `decay`, or with `warmup` (1 + n) / (10 + n) where that
    is less, n steps having been taken: so the base, which it starts from, does not linger. Costs the device nothing."""

    def __init__(self, shapes: Mapping[str, Size], decay: float, *, warmup: bool) -> None:
        self._decay = decay
        self._warmup = warmup
        self._taken = 0
        self._tensors = {name: torch.zeros(shape, dtype=torch.float32) for name, shape in shapes.items()}

    def start(self, name: str, master: Tensor) -> None:
        """What the average is before the first step."""
        self._tensors[name].copy_(master)

    def begin_step(self) -> None:
        self._taken += 1

    def update(self, name: str, master: Tensor) -> None:
        """`master` fp32, on any device, after its step."""
        self._tensors[name].lerp_(master.to("cpu"), 1 - self._kept())

    def tensors(self) -> Mapping[str, Tensor]:
        """fp32, on the host."""
        return self._tensors

    def state_dict(self) -> dict[str, Tensor]:
        return {**self._tensors, TAKEN: torch.tensor(self._taken, dtype=torch.int64)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """All of it, or ValueError saying what does not fit, with nothing changed."""
        wanted = self.state_dict()
        if differing := sorted(wanted.keys() ^ state.keys()):
            raise ValueError(f"the average is of other layers: {', '.join(differing[:3])} ...")
        for name, tensor in wanted.items():
            if state[name].shape != tensor.shape or state[name].dtype != tensor.dtype:
                raise ValueError(f"the average of {name} is {state[name].dtype} {tuple(state[name].shape)}")
        self._taken = int(state[TAKEN])
        for name, tensor in self._tensors.items():
            tensor.copy_(state[name])

    def _kept(self) -> float:
        n = self._taken - 1
        return min(self._decay, (1 + n) / (10 + n)) if self._warmup else self._decay
