"""What every optimizer promises the plan that sweeps over the trained tensors."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Size, Tensor

ReadMaster = Callable[[str], Tensor]


@dataclass(frozen=True)
class Caution:
    """How a tensor is kept from jumping. `row_wise`: each row of an embedding has a second moment, a count and a clip
    of its own, and one without a gradient rests. `element_clip`: greatest element of an update, in learning rates.
    `most_kept`: the greatest share of its second moments that a step may keep."""

    row_wise: bool = False
    element_clip: float = math.inf
    most_kept: float = 1.0


class Optimizer(Protocol):
    """A step is `begin_step`, `update` for each tensor, `finish_step`. All state exists from the start."""

    @property
    def whole(self) -> bool:
        """Whether it needs the whole model: masters are ready in `finish_step` only."""
        ...

    def begin_step(self) -> None:
        """Count a step."""
        ...

    def update(self, name: str, master: Tensor, gradient: Tensor, lr: float) -> Tensor:
        """Change `master` (fp32, contiguous, on the device) in place by one step along `gradient` (fp32, same shape;
        may be overwritten). Returns the norm of the change, weight decay left out, a number on the device.
        An optimizer that needs the whole model takes note of both, and returns 0."""
        ...

    def finish_step(self) -> Mapping[str, Tensor]:
        """The masters that only now are ready, fp32."""
        ...

    def evaluating(self, masters: ReadMaster) -> AbstractContextManager[Mapping[str, Tensor]]:
        """Inside, the weights to be shown to others, by name, fp32; empty where these are the masters themselves."""
        ...

    def rehearse(self, name: str, master: Tensor) -> None:
        """Allocate what a step allocates at its peak, and change nothing. `name` is the widest tensor."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """All of it, or ValueError saying what does not fit, with nothing changed."""
        ...


MakeOptimizer = Callable[[Mapping[str, Size], torch.device], Optimizer]
