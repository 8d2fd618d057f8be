"""UNets of SDXL's kind of two and three levels, windows of mixed shapes for them, and a card played on a CPU."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from engine.memory.graphs import Work
from engine.memory.plan import Embedded, Judged, MicroBatch, Tokens
from engine.memory.streaming import Streamed
from tests.golden.tiny_text import LENGTH, VOCABULARY
from tests.golden.tiny_unet import CONTEXT, POOLED, tiny_unet

# (samples, height, width) of each micro-batch; with three levels, sides that four does not divide need their sizes.
MIXED = [(2, 8, 12), (1, 8, 8), (2, 7, 10), (1, 8, 8), (1, 8, 12), (1, 8, 8)]
SHORT = MIXED[1:4]


def sdxl_like(levels: int, dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    """With no parameter at rest at 0 or 1, so that no gradient vanishes by the kindness of a start."""
    unet = tiny_unet() if levels == 2 else _three_levels()
    generator = torch.Generator().manual_seed(levels)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(drawn * parameter[0].numel() ** -0.5)
            else:
                parameter.copy_(0.1 * drawn + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
    return unet.to(dtype).train()


def _three_levels() -> UNet2DConditionModel:
    """SDXL's own plan: two resnets a level, the first level without attention, the last ones of different depth."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16, 24),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(1, 2, 3),
        norm_num_groups=4,
        cross_attention_dim=CONTEXT,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=POOLED + 6 * 4,
    )


def micro(size: int, height: int, width: int, *, seed: int, length: int = 7, tokens: bool = False) -> MicroBatch:
    draw = torch.Generator().manual_seed(seed)
    condition: Embedded | Tokens
    if tokens:
        ids = torch.randint(1, VOCABULARY - 2, (2, size, 1, LENGTH), generator=draw)
        ids[..., -1] = VOCABULARY - 1
        condition = Tokens(ids[0], ids[1], zeroed=torch.arange(size) % 3 == 1)
    else:
        prompt_embeds = torch.randn(size, length, CONTEXT, generator=draw)
        condition = Embedded(prompt_embeds, torch.randn(size, POOLED, generator=draw))
    return MicroBatch(
        noisy_latents=torch.randn(size, 4, height, width, generator=draw),
        network_time=torch.randint(0, 1000, (size,), generator=draw),
        condition=condition,
        # Numbers that bf16 does not have.
        time_ids=torch.tensor([[1001.0 + height, 1003 + width, 0, 531, 8 * height, 8 * width]]).expand(size, -1),
    )


def window(
    shapes: Sequence[tuple[int, int, int]] = MIXED, *, seed: int = 0, tokens: bool = False, scale: float = 1.0
) -> list[Judged]:
    """The losses are computed in the dtype of the answer."""
    asked = []
    for number, (size, height, width) in enumerate(shapes):
        # One caption is longer than the others, which keeps it out of their groups.
        part = micro(size, height, width, seed=100 * seed + number, length=14 if number == 4 else 7, tokens=tokens)
        target = torch.randn(size, 4, height, width, generator=torch.Generator().manual_seed(7 * seed + number))
        asked.append(Judged(part, _squared(target, scale)))
    return asked


def _squared(target: Tensor, scale: float) -> Callable[[Tensor], Tensor]:
    return lambda answer: scale * (answer - target.to(answer)).square().flatten(1).mean(1)


def relative(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """The greatest difference of a tensor, over its own norm."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).norm() / theirs[name].norm()) for name in theirs)


def names(*networks: nn.Module) -> frozenset[str]:
    return frozenset(name for network in networks for name, _ in network.named_parameters())


class Card(Streamed):
    """A card played on a CPU at its most hostile: what has not been sent for holds no numbers, nothing but what rests
    survives `settle`, and the names of the units that visit are kept in order."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.visited: list[tuple[str, str | None]] = []
        self._poison()

    def visiting(self, unit: str, then: str | None) -> AbstractContextManager[None]:
        self.visited.append((unit, then))
        return super().visiting(unit, then)

    def settle(self) -> None:
        super().settle()
        self._poison()

    def _poison(self) -> None:
        self._weights._ends.memory.fill_(torch.nan)
        self._sums._ends.memory.fill_(torch.nan)


class Again:
    """A recorder played on a CPU: a replay does the work once more, from where it was recorded."""

    def __init__(self, *, tries_first: bool = False) -> None:
        self.recorded, self.tries_first = 0, tries_first

    def record(self, work: Work) -> Work:
        self.recorded += 1
        return work
