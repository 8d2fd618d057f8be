"""The sums of a window as an update reads them, whatever plan has made them."""

from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from engine.memory.plan import Plan


class Noting:
    """An optimizer that keeps what it is given, spoils it as it may, and changes nothing."""

    whole = False

    def __init__(self, shapes: Mapping[str, torch.Size], device: torch.device) -> None:
        self.given: dict[str, Tensor] = {}

    def begin_step(self) -> None:
        self.given.clear()

    def update(self, name: str, master: Tensor, gradient: Tensor, lr: float) -> Tensor:
        assert gradient.shape == master.shape
        self.given[name] = gradient.clone()
        gradient.fill_(torch.nan)
        return torch.zeros((), device=master.device)

    def finish_step(self) -> Mapping[str, Tensor]:
        return {}

    def evaluating(self, masters):
        return nullcontext({})

    def rehearse(self, name: str, master: Tensor) -> None:
        pass

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        pass


def sums(plan: Plan, samples: int) -> dict[str, Tensor]:
    """Of the window of so many samples that `plan`, whose optimizer is Noting, has just summed."""
    optimizer = plan._learner._optimizer
    assert isinstance(optimizer, Noting)
    plan.update(lambda _: 0.0, max_grad_norm=0.0, damping=float(samples))
    return {name: tensor.cpu() for name, tensor in optimizer.given.items()}
