"""What every memory plan promises the loop: the same gradients, judged before anything is written."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

NORM_PIECE = 1 << 22  # elements
# No element of a gradient of this norm has a square, and no row a sum of squares, that fp32 could not hold.
GREATEST_NORM = 1e18


@dataclass(frozen=True)
class Embedded:
    """Captions that were encoded before: `prompt_embeds` (B, 77n, C), `pooled_prompt_embeds` (B, P)."""

    prompt_embeds: Tensor
    pooled_prompt_embeds: Tensor


@dataclass(frozen=True)
class Tokens:
    """Captions for text encoders that learn: `ids` and `ids_2` (B, n, 77) int64, one for each encoder; where `zeroed`
    (B,) bool, the condition is zeros instead."""

    ids: Tensor
    ids_2: Tensor
    zeroed: Tensor


@dataclass(frozen=True)
class MicroBatch:
    """What the UNet is shown: `noisy_latents` (B, 4, h, w) float32, `network_time` (B,), `time_ids` (B, 6) float32."""

    noisy_latents: Tensor
    network_time: Tensor
    condition: Embedded | Tokens
    time_ids: Tensor


@dataclass(frozen=True)
class Judged:
    """A micro-batch and what its answer costs: `losses` maps the prediction to one loss a sample, (B,) float32."""

    micro: MicroBatch
    losses: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class WindowGradient:
    """A window's outcome, on the host: `losses` by sample in order, and the L2 norm of the mean gradient before
    clipping. Nothing has been written yet. `sound`: an update may be made of it."""

    losses: tuple[float, ...]
    grad_norm: float
    sound: bool


@dataclass(frozen=True)
class Written:
    """What a step did. `ratios`: RMS of the change over RMS of the weights, by group (`unet`, `text_encoder`,
    `text_encoder_2`, `token_embedding`), weight decay left out, but for an imported optimizer, which takes both at
    once."""

    clipped: bool
    ratios: Mapping[str, float]


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

    def rest(self, names: frozenset[str]) -> None:
        """From the next window on these learn nothing: no gradient, no part in the norm, no update. The others do."""
        ...

    def update(self, rates: Callable[[str], float], *, max_grad_norm: float, damping: float = 1.0) -> Written:
        """Write the step: scale the gradient by `damping`, clip it by its global norm (0: never), then the optimizer
        with the learning rate of each tensor, then the average. Only after a sound `gradient`."""
        ...

    def rehearse(self) -> None:
        """Allocate what an update allocates at its peak, and change nothing."""
        ...

    def reserve(self) -> None:
        """After a `gradient` of the largest micro-batch there is: have memory for whole windows of such."""
        ...

    def cheaper(self) -> str | None:
        """Where memory did not suffice for a `gradient`: need less from the next one on, and more time. Which settings
        that is like, for the person at the keyboard, or None where nothing is left to be saved."""
        ...

    def predict(self, micro: MicroBatch) -> Tensor:
        """The UNet's answer to captions that are encoded already, (B, 4, h, w), in the dtype it computes in, without a
        graph."""
        ...

    def adopt(self, masters: Iterable[tuple[str, Tensor]]) -> None:
        """Start from these masters, given one at a time: a base stored finer than the UNet computes loses nothing."""
        ...

    def weights(self) -> Mapping[str, Tensor]:
        """The fp32 master of every trained tensor, by diffusers name."""
        ...

    def share_lost(self, rates: Callable[[str], float]) -> float:
        """The share of updates that bf16 weights rounded to the nearest would not take at these rates. A host read."""
        ...

    def shown(self, *, average: bool = True, compute: bool = True) -> AbstractContextManager[Mapping[str, Tensor]]:
        """The weights that are meant for others, fp32, by name: the running average if there is one and it is wanted
        (`average`), or what the optimizer itself averages, else the masters. With `compute` the networks compute with
        them inside. Outside nothing has changed."""
        ...

    def optimizer_state(self) -> Mapping[str, Tensor]:
        """The optimizer's tensors by name."""
        ...

    def averages(self) -> Mapping[str, Tensor]:
        """The running average of every trained tensor, fp32, by name; empty without one."""
        ...

    def restore(
        self, weights: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor], averages: Mapping[str, Tensor]
    ) -> None:
        """Take over a checkpoint: all of it, or ValueError naming what does not fit."""
        ...


def clip_factor(norm: float, max_norm: float) -> float:
    """What a gradient of this norm is multiplied with; 1 if `max_norm` is 0. As torch's clip_grad_norm_ defines it."""
    return 1.0 if max_norm == 0 else min(1.0, max_norm / (norm + 1e-6))


def judged(losses: Sequence[float], norm: float) -> WindowGradient:
    """`norm` of the window's mean gradient. A finite gradient can still be too large: its squares would not be finite,
    and the moments made of them never again."""
    sound = all(map(math.isfinite, [*losses, norm])) and norm * len(losses) <= GREATEST_NORM
    return WindowGradient(tuple(losses), norm, sound)


def global_norm(tensors: Iterable[Tensor]) -> float:
    """L2 norm over all elements, squares summed in float64, in pieces that bound what the wider type costs. A host
    read."""
    pieces = [piece for tensor in tensors for piece in torch.split(tensor.flatten(), NORM_PIECE)]
    norms = [torch.linalg.vector_norm(piece, dtype=torch.float64) for piece in pieces]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
