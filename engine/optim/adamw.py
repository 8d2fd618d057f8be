"""AdamW (Loshchilov and Hutter 2019, 1711.05101) whose moments rest in host memory and visit the device in the sweep.

With fp32 moments it is torch's, bit for bit: the same operations in the same order. Moments in bf16 are computed in
fp32 and rounded stochastically: rounded to the nearest, a second moment of which 0.999 is kept could never shrink.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from engine.contract.seeding import derive
from engine.optim.hosted import HostTensors
from engine.optim.optimizer import Caution, ReadMaster
from engine.optim.pieces import as_elements, as_rows, length, norm, pieces
from engine.optim.rounding import stochastic_bf16
from engine.optim.state import take_over, unchanged


@dataclass(frozen=True)
class AdamWSettings:
    """`moments`: what they are kept in, 8 bytes a parameter or 4."""

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    moments: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True)
class _Motion:
    """How far one piece's moments move, and what corrects the bias they began with. Cautious by rows, columns of them;
    a row that rests moves nothing."""

    fresh1: float | Tensor
    kept2: float | Tensor
    fresh2: float
    correction1: float | Tensor
    root2: float | Tensor
    moves: Tensor | None = None


class AdamW:
    """`shapes` are the parameters' shapes, best in the order in which they are updated. `seed` decides how bf16 moments
    are rounded. Cautious by rows, an embedding counts the steps of each row, and one without a gradient rests."""

    whole = False

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        settings: AdamWSettings,
        device: torch.device,
        *,
        cautions: Mapping[str, Caution] = {},
        seed: int = 0,
    ) -> None:
        self.settings = settings
        self.taken = 0
        self._cautions = {name: cautions.get(name, Caution()) for name in shapes}
        self._seed = seed
        dtype = torch.float32 if settings.moments == "fp32" else torch.bfloat16
        self._first = HostTensors(shapes, dtype, device)
        self._second = HostTensors(shapes, dtype, device)
        # Each tensor's own steps, or each row's: one that begins late has moments no older than that. Of a whole tensor
        # on the host, where reading it waits for nothing.
        self._counts: dict[str, Tensor] = {}
        for name, shape in shapes.items():
            by_row = self._cautions[name].row_wise
            assert not by_row or len(shape) == 2, f"rows of {tuple(shape)}"
            self._counts[name] = torch.zeros(
                shape[:1] if by_row else (), dtype=torch.int64, device=device if by_row else "cpu"
            )

    def begin_step(self) -> None:
        self.taken += 1

    @torch.no_grad()
    def update(self, name: str, master: Tensor, gradient: Tensor, lr: float) -> Tensor:
        shaped = as_rows if self._cautions[name].row_wise else as_elements
        firsts = self._first.fetch(name, then=self._first.after(name))
        seconds = self._second.fetch(name, then=self._second.after(name))
        weights, gradients = shaped(master), shaped(gradient)
        moved: list[Tensor] = []
        if not self._cautions[name].row_wise:
            self._counts[name] += 1
        for part in pieces(gradients):
            piece = gradients[part]
            motion = self._motion(name, part, piece)
            start = part.start * piece.shape[1]
            denominator = self._denominator(name, shaped(seconds)[part], piece, motion, start=start)
            resting = shaped(firsts)[part]
            first = resting.float()  # the resting tensor itself where that is fp32
            first.lerp_(piece, motion.fresh1)
            if self.settings.weight_decay:
                decay = 1 - lr * self.settings.weight_decay
                weights[part].mul_(decay if motion.moves is None else torch.where(motion.moves, decay, 1.0))
            moved.append(self._apply(name, weights[part], first, denominator, motion, lr=lr))
            del denominator
            self._keep(resting, first, f"moment {name}", start=start)
            del first
        self._first.store(name, firsts)
        self._second.store(name, seconds)
        return norm(moved) * lr

    def finish_step(self) -> Mapping[str, Tensor]:
        return {}

    def evaluating(self, masters: ReadMaster) -> AbstractContextManager[Mapping[str, Tensor]]:  # noqa: ARG002
        return nullcontext({})

    def rehearse(self, name: str, master: Tensor) -> None:
        touched = [master, self._first.resting()[name], self._second.resting()[name], self._counts[name]]
        with unchanged(touched):
            self.taken += 1
            try:
                self.update(name, master, torch.zeros_like(master), 0.0)
            finally:
                self.taken -= 1
                self._first.settle()
                self._second.settle()

    def state_dict(self) -> dict[str, Tensor]:
        """By name: `taken`, `<parameter>.m` and `.v`, and `.counts`, how many steps it has taken, by rows one for each
        row. The tensors themselves, good until the next step."""
        state = {"taken": torch.tensor(self.taken, dtype=torch.int64)}
        state |= {f"{name}.m": tensor for name, tensor in self._first.resting().items()}
        state |= {f"{name}.v": tensor for name, tensor in self._second.resting().items()}
        return state | {f"{name}.counts": tensor for name, tensor in self._counts.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        take_over(self.state_dict(), state)
        self.taken = int(state["taken"])

    def _motion(self, name: str, part: slice, gradient: Tensor) -> _Motion:
        """Counts the rows that move."""
        beta1, beta2 = self.settings.beta1, min(self.settings.beta2, self._cautions[name].most_kept)
        if not self._cautions[name].row_wise:
            steps = int(self._counts[name])
            correction1, correction2 = 1 - beta1**steps, 1 - beta2**steps
            return _Motion(1 - beta1, beta2, 1 - beta2, correction1, correction2**0.5)
        moves = (gradient != 0).any(1, keepdim=True)
        self._counts[name][part] += moves.squeeze(1)
        counts = self._counts[name][part].clamp(min=1).double().unsqueeze(1)
        return _Motion(
            fresh1=moves * (1 - beta1),
            kept2=torch.where(moves, beta2, 1.0),
            fresh2=1 - beta2,
            correction1=(1 - beta1**counts).float(),
            root2=(1 - beta2**counts).sqrt().float(),
            moves=moves,
        )

    def _denominator(self, name: str, resting: Tensor, gradient: Tensor, motion: _Motion, *, start: int) -> Tensor:
        second = resting.float()
        second.mul_(motion.kept2).addcmul_(gradient, gradient, value=motion.fresh2)
        self._keep(resting, second, f"second moment {name}", start=start)
        return second.sqrt().div_(motion.root2).add_(self.settings.epsilon)

    def _apply(
        self, name: str, weights: Tensor, first: Tensor, denominator: Tensor, motion: _Motion, *, lr: float
    ) -> Tensor:
        """One piece of the master; returns the norm of its update, of which `lr` is taken. Overwrites
        `denominator`."""
        limit, correction = self._cautions[name].element_clip, motion.correction1
        if limit == math.inf and not isinstance(correction, Tensor):  # as torch does it
            weights.addcdiv_(first, denominator, value=-(lr / correction))
            return length(torch.div(first, denominator, out=denominator).div_(correction))
        update = torch.div(first, denominator, out=denominator).div_(correction).clamp_(-limit, limit)
        if motion.moves is not None:
            update.masked_fill_(~motion.moves, 0.0)
        weights.sub_(update, alpha=lr)
        return length(update)

    def _keep(self, resting: Tensor, value: Tensor, stream: str, *, start: int) -> None:
        if resting.dtype != value.dtype:
            key = derive(self._seed, stream, self.taken)
            resting.copy_(stochastic_bf16(value, key, start=start))
