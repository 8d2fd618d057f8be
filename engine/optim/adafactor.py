"""Adafactor (Shazeer and Stern 2018, 1804.04235) without its learning-rate rules: the rate is given.

Second moments are fp32 whatever the weights are, and factored with convolutions viewed as [O, I*kh*kw]: 18 MiB for the
whole SDXL UNet. All state exists from the start; nothing is allocated lazily in the first step.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

EPS = 1e-30


@dataclass(frozen=True)
class AdafactorSettings:
    """`decay_exponent` e: moments keep 1 - t^-e; `clip_threshold`: greatest RMS of one tensor's update."""

    decay_exponent: float = 0.8
    clip_threshold: float = 1.0
    weight_decay: float = 0.0


class Adafactor:
    """State and update rule for named tensors. `shapes` are the parameters' shapes; state lives on `device`."""

    def __init__(self, shapes: Mapping[str, torch.Size], settings: AdafactorSettings, device: torch.device) -> None:
        self.settings = settings
        self.taken = 0
        self._state: dict[str, tuple[Tensor, ...]] = {}
        for name, shape in shapes.items():
            if len(shape) < 2:
                self._state[name] = (torch.zeros(shape, device=device),)
            else:
                rows, columns = shape[0], shape[1:].numel()
                self._state[name] = (torch.zeros(rows, device=device), torch.zeros(columns, device=device))

    def begin_step(self) -> float:
        """Count a step; returns how much of the old moments it keeps. At the first step that is 0: no bias."""
        self.taken += 1
        return float(1 - self.taken**-self.settings.decay_exponent)

    def update(self, name: str, master: Tensor, gradient: Tensor, lr: float, keep: float) -> None:
        """Change `master` (fp32, contiguous) in place by one step along `gradient` (fp32, same shape)."""
        settings = self.settings
        flat = gradient.reshape(gradient.shape[0], -1) if gradient.dim() > 1 else gradient
        square = flat.square().add_(EPS)
        if flat.dim() < 2:
            (moment,) = self._state[name]
            moment.lerp_(square, 1 - keep)
            update = flat * moment.rsqrt()
        else:
            rows, columns = self._state[name]
            rows.lerp_(square.mean(1), 1 - keep)
            columns.lerp_(square.mean(0), 1 - keep)
            update = flat * (rows / rows.mean()).rsqrt().unsqueeze(1) * columns.rsqrt()
        rms = update.square().mean().sqrt()
        scale = lr / (rms / settings.clip_threshold).clamp(min=1.0)
        if settings.weight_decay:
            master.mul_(1 - lr * settings.weight_decay)
        master.sub_((update * scale).view_as(master))

    def state_dict(self) -> dict[str, Tensor]:
        """fp32 tensors by name: `<parameter>.v`, or `<parameter>.rows` and `.columns`; and `taken`."""
        state = {"taken": torch.tensor(self.taken, dtype=torch.int64)}
        for name, moments in self._state.items():
            for part, moment in zip(_parts(moments), moments, strict=True):
                state[f"{name}.{part}"] = moment
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore all of it, or raise ValueError naming what does not fit; never a part."""
        wanted = self.state_dict()
        if wanted.keys() != state.keys():
            differing = sorted(wanted.keys() ^ state.keys())
            raise ValueError(f"optimizer state does not fit the selected layers: {', '.join(differing[:3])} ...")
        for key, tensor in wanted.items():
            if state[key].shape != tensor.shape or state[key].dtype != tensor.dtype:
                raise ValueError(f"optimizer state of {key} is {state[key].dtype} {tuple(state[key].shape)}")
        self.taken = int(state["taken"])
        for key, tensor in wanted.items():
            if key != "taken":
                tensor.copy_(state[key])


def _parts(moments: tuple[Tensor, ...]) -> tuple[str, ...]:
    return ("v",) if len(moments) == 1 else ("rows", "columns")
