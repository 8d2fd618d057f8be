"""Adafactor (Shazeer and Stern 2018, 1804.04235) without its learning-rate rules: the rate is given.

Second moments are fp32 whatever the weights are, and factored with convolutions viewed as [O, I*kh*kw]: 18 MiB for the
whole SDXL UNet. The first moment, if there is one, rests in host memory as stochastically rounded bf16. All state
exists from the start, and a step works through a tensor in pieces: it needs a few, however large the tensor is.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.contract.seeding import derive
from engine.optim.hosted import HostTensors
from engine.optim.optimizer import Caution, ReadMaster
from engine.optim.pieces import as_rows, length, norm, piece_of, pieces
from engine.optim.rounding import stochastic_bf16
from engine.optim.state import take_over, unchanged

EPS = 1e-30


@dataclass(frozen=True)
class AdafactorSettings:
    """`decay_exponent` e: moments keep 1 - t^-e; `clip_threshold`: greatest RMS of one tensor's update; `momentum`: how
    much of the first moment a step keeps, 0 for none."""

    decay_exponent: float = 0.8
    clip_threshold: float = 1.0
    weight_decay: float = 0.0
    momentum: float = 0.0


class Adafactor:
    """`shapes` are the parameters' shapes, best in the order of updates. Second moments live on `device`.

    `seed` decides how the first moment is rounded. Cautious by rows, an embedding keeps one second moment a row, counts
    the steps of each row, and clips each row by itself: the clip of the whole table would never fire, and a row first
    seen at step 400 would move by eleven times the learning rate.
    """

    whole = False

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        settings: AdafactorSettings,
        device: torch.device,
        *,
        cautions: Mapping[str, Caution] = {},
        seed: int = 0,
    ) -> None:
        self.settings = settings
        self.taken = 0
        self._device = device
        self._cautions = {name: cautions.get(name, Caution()) for name in shapes}
        self._seed = seed
        self._state = {name: self._nothing_yet(shape, self._cautions[name]) for name, shape in shapes.items()}
        self._momentum = HostTensors(shapes if settings.momentum else {}, torch.bfloat16, device)

    def begin_step(self) -> None:
        self.taken += 1

    @torch.no_grad()
    def update(self, name: str, master: Tensor, gradient: Tensor, lr: float) -> Tensor:
        update = as_rows(gradient)
        moving: Tensor | None = None
        if self._cautions[name].row_wise:
            moving = self._scale_by_rows(name, update)
        elif "v" in self._state[name]:
            self._scale(name, update)
        else:
            self._scale_factored(name, update)
        if moving is None:
            least = self.settings.clip_threshold * update.numel() ** 0.5
            update.div_(norm([length(piece_of(update, part)) for part in pieces(update)]).div_(least).clamp_(min=1.0))
        return self._write(name, master, update, lr, moving)

    def finish_step(self) -> Mapping[str, Tensor]:
        return {}

    def evaluating(self, masters: ReadMaster) -> AbstractContextManager[Mapping[str, Tensor]]:  # noqa: ARG002
        return nullcontext({})

    def rehearse(self, name: str, master: Tensor) -> None:
        touched = [master, *self._state[name].values()]
        if self.settings.momentum:
            touched.append(self._momentum.resting()[name])
        with unchanged(touched):
            self.taken += 1
            try:
                self.update(name, master, torch.zeros_like(master), 0.0)
            finally:
                self.taken -= 1
                self._momentum.settle()

    def state_dict(self) -> dict[str, Tensor]:
        """By name: `taken`; `<parameter>.v` (fewer than two dimensions), `.rows` and `.columns`, or by rows `.rows` and
        `.counts`; `.m`, in bf16. The tensors themselves, good until the next step."""
        state = {"taken": torch.tensor(self.taken, dtype=torch.int64)}
        for name, parts in self._state.items():
            state |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
        return state | {f"{name}.m": tensor for name, tensor in self._momentum.resting().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        take_over(self.state_dict(), state)
        self.taken = int(state["taken"])

    def _nothing_yet(self, shape: torch.Size, caution: Caution) -> dict[str, Tensor]:
        if caution.row_wise:
            assert len(shape) == 2, f"rows of {tuple(shape)}"
            counts = torch.zeros(shape[0], dtype=torch.int64, device=self._device)
            return {"rows": torch.zeros(shape[0], device=self._device), "counts": counts}
        if len(shape) < 2:
            return {"v": torch.zeros(shape, device=self._device)}
        columns = torch.zeros(shape[1:].numel(), device=self._device)
        return {"rows": torch.zeros(shape[0], device=self._device), "columns": columns}

    def _kept(self, name: str) -> float:
        """How much of the old second moments this step keeps. At the first step that is nothing: no bias."""
        return float(min(1 - self.taken**-self.settings.decay_exponent, self._cautions[name].most_kept))

    def _scale(self, name: str, update: Tensor) -> None:
        moment = as_rows(self._state[name]["v"])
        for part in pieces(update):
            piece, second = piece_of(update, part), piece_of(moment, part)
            second.lerp_(piece.square().add_(EPS), 1 - self._kept(name))
            piece.mul_(second.rsqrt())

    def _scale_factored(self, name: str, update: Tensor) -> None:
        rows, columns = self._state[name]["rows"], self._state[name]["columns"]
        row_means, column_sums = torch.empty_like(rows), None
        for part in pieces(update):
            square = piece_of(update, part).square().add_(EPS)
            torch.mean(square, 1, out=piece_of(row_means, part))
            sums = square.sum(0)
            column_sums = sums if column_sums is None else column_sums.add_(sums)
            del square  # before the next piece's is made
        assert column_sums is not None
        rows.lerp_(row_means, 1 - self._kept(name))
        columns.lerp_(column_sums / update.shape[0], 1 - self._kept(name))
        # Not of the quotient: beside gradients of 1e8 a row without any would be 0 there, and 0/0 all of them.
        by_row, by_column = (rows.rsqrt() * rows.mean().sqrt()).unsqueeze(1), columns.rsqrt()
        for part in pieces(update):
            piece_of(update, part).mul_(piece_of(by_row, part)).mul_(by_column)

    def _scale_by_rows(self, name: str, update: Tensor) -> Tensor:
        """Clipped already. Returns which rows move, (O, 1); the others' updates are 0."""
        rows, counts = self._state[name]["rows"], self._state[name]["counts"]
        moving = torch.empty(len(rows), 1, dtype=torch.bool, device=update.device)
        for part in pieces(update):
            piece = update[part]
            moves = (piece != 0).any(1)
            counts[part] += moves
            kept = 1 - counts[part].clamp(min=1).double().pow_(-self.settings.decay_exponent)
            fresh = (1 - kept.clamp_(max=self._cautions[name].most_kept)).float()
            moment = rows[part].lerp(piece.square().mean(1).add_(EPS), fresh)
            rows[part] = torch.where(moves, moment, rows[part])
            piece.mul_(rows[part].rsqrt().unsqueeze(1))
            rms = piece.square().mean(1, keepdim=True).sqrt_()
            piece.div_(rms.div_(self.settings.clip_threshold).clamp_(min=1.0))
            moving[part] = moves.unsqueeze(1)
            piece.masked_fill_(~moving[part], 0.0)  # 0/0 where a row was never seen
        return moving

    def _write(self, name: str, master: Tensor, update: Tensor, lr: float, moving: Tensor | None) -> Tensor:
        """Change `master` along the clipped `update`, by way of the momentum if there is one."""
        decay = 1 - lr * self.settings.weight_decay
        limit = self._cautions[name].element_clip
        weights = master.view(update.shape)
        moment = self._momentum.fetch(name, then=self._momentum.after(name)) if self.settings.momentum else None
        moved: list[Tensor] = []
        for part in pieces(update):
            piece = piece_of(update, part)
            if limit != math.inf:
                piece.clamp_(-limit, limit)
            moves = None if moving is None else moving[part]
            if moment is not None:
                self._gather(name, moment.view(update.shape)[part], piece, moves, start=part.start * update.shape[1])
            if decay != 1.0:
                weights[part].mul_(decay if moves is None else torch.where(moves, decay, 1.0))
            piece_of(weights, part).sub_(piece, alpha=lr)
            moved.append(length(piece))
        if moment is not None:
            self._momentum.store(name, moment)
        return norm(moved) * lr

    def _gather(self, name: str, moment: Tensor, piece: Tensor, moves: Tensor | None, *, start: int) -> None:
        """Take `piece` into the momentum, and the new momentum into `piece`; a resting row keeps its own and gets 0."""
        fresh = 1 - self.settings.momentum
        full = moment.float()
        if moves is None:
            full.lerp_(piece, fresh)
        else:
            full.lerp_(piece, moves * fresh)
        moment.copy_(stochastic_bf16(full, derive(self._seed, f"moment {name}", self.taken), start=start))
        piece.copy_(full if moves is None else full.masked_fill_(~moves, 0.0))
