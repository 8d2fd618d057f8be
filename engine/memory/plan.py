"""What every memory plan promises the loop: the same gradients, judged before anything is written."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

NORM_PIECE = 1 << 22  # elements


@dataclass(frozen=True)
class MicroBatch:
    """What the UNet is shown: `noisy_latents` (B, 4, h, w) float32, `network_time` (B,), `prompt_embeds` (B, 77n, C),
    `pooled_prompt_embeds` (B, P), `time_ids` (B, 6) float32."""

    noisy_latents: Tensor
    network_time: Tensor
    prompt_embeds: Tensor
    pooled_prompt_embeds: Tensor
    time_ids: Tensor


@dataclass(frozen=True)
class Judged:
    """A micro-batch and what its answer costs: `losses` maps the prediction to one loss a sample, (B,) float32."""

    micro: MicroBatch
    losses: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class WindowGradient:
    """A window's outcome, on the host: `losses` by sample in order, and the L2 norm of the mean gradient before
    clipping. Nothing has been written yet."""

    losses: tuple[float, ...]
    grad_norm: float
    finite: bool


class Plan(Protocol):
    """Where weights, gradients and activations live. The loop sees windows only."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        ...

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """Of the trained tensors, by diffusers name."""
        ...

    def gradient(self, window: Iterable[Judged], computed: Callable[[int, Tensor], None]) -> WindowGradient:
        """Sum the gradients of every sample's loss in fp32. `computed(micro, losses)` follows each micro-batch and may
        raise, which discards the window: the next call starts afresh."""
        ...

    def update(self, lr: float, max_grad_norm: float) -> bool:
        """Write the step: clip by global norm (0: never), then the optimizer. Only after a finite `gradient`. Returns
        whether it was clipped."""
        ...

    def rehearse(self) -> None:
        """Allocate what an update allocates at its peak, and change nothing."""
        ...

    def adopt(self, masters: Iterable[tuple[str, Tensor]]) -> None:
        """Start from these masters, given one at a time: a base stored finer than the UNet computes loses nothing."""
        ...

    def weights(self) -> Mapping[str, Tensor]:
        """The fp32 master of every trained tensor, by diffusers name."""
        ...

    def optimizer_state(self) -> Mapping[str, Tensor]:
        """The optimizer's tensors by name, fp32."""
        ...

    def restore(self, weights: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor]) -> None:
        """Take over a checkpoint: all of it, or ValueError naming what does not fit."""
        ...


def clip_factor(norm: float, max_norm: float) -> float:
    """What a gradient of this norm is multiplied with; 1 if `max_norm` is 0. As torch's clip_grad_norm_ defines it."""
    return 1.0 if max_norm == 0 else min(1.0, max_norm / (norm + 1e-6))


def global_norm(tensors: Iterable[Tensor]) -> float:
    """L2 norm over all elements, squares summed in float64, in pieces that bound what the wider type costs. A host
    read."""
    total: Tensor | None = None
    for tensor in tensors:
        for piece in torch.split(tensor.flatten(), NORM_PIECE):
            part = torch.linalg.vector_norm(piece, dtype=torch.float64).square()
            total = part if total is None else total + part
    return 0.0 if total is None else float(total.sqrt())
