"""The UNet in pieces that run alone, one after another: what one of them needs is all that has to be on the card."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import (
    CrossAttnDownBlock2D,
    CrossAttnUpBlock2D,
    DownBlock2D,
    UNetMidBlock2DCrossAttn,
    UpBlock2D,
)
from torch import Tensor, nn

EMBEDDINGS = "embeddings"

Kind = Literal["plain", "resnet", "attention", "upsample"]


@dataclass(frozen=True)
class Unit:
    """A step of the UNet's forward pass. `modules` by their name in the UNet.

    `skip` is the number of the unit whose output is concatenated to the hidden state, `size` that of the unit whose
    output has the height and width to be produced. `pushes` says whether its own output is a later unit's skip.
    """

    name: str
    kind: Kind
    modules: tuple[tuple[str, nn.Module], ...]
    pushes: bool = False
    skip: int | None = None
    size: int | None = None

    @property
    def reads_embedding(self) -> bool:
        return self.kind == "resnet"

    @property
    def reads_context(self) -> bool:
        return self.kind == "attention"

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return _parameters(self.modules)

    def run(
        self,
        hidden: Tensor,
        *,
        skip: Tensor | None = None,
        embedding: Tensor | None = None,
        context: Tensor | None = None,
        size: torch.Size | None = None,
    ) -> Tensor:
        """The next hidden state (B, C, h, w), by the operations of diffusers' own forward pass. `size` (h, w) only
        where the latents' sides are such that doubling would miss it."""
        if skip is not None:
            hidden = torch.cat([hidden, skip], dim=1)
        for _, module in self.modules:
            if self.kind == "resnet":
                hidden = module(hidden, embedding)
            elif self.kind == "attention":
                hidden = module(hidden, encoder_hidden_states=context, return_dict=False)[0]
            elif self.kind == "upsample":
                hidden = module(hidden, size)
            else:
                hidden = module(hidden)
        return hidden


@dataclass(frozen=True)
class Embeddings:
    """What every resnet reads of time, size, crop and the pooled caption. Runs before all units, and back after all."""

    unet: Any

    @property
    def modules(self) -> tuple[tuple[str, nn.Module], ...]:
        return ("time_embedding", self.unet.time_embedding), ("add_embedding", self.unet.add_embedding)

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return _parameters(self.modules)

    def run(self, network_time: Tensor, pooled: Tensor, time_ids: Tensor) -> Tensor:
        """(B, E) in the dtype of `pooled` (B, P). The sinusoids of `time_ids` (B, 6) are taken in float32."""
        time: Tensor = self.unet.time_embedding(self.unet.time_proj(network_time).to(pooled.dtype))
        sizes = self.unet.add_time_proj(time_ids.flatten()).reshape(len(pooled), -1)
        added: Tensor = self.unet.add_embedding(torch.cat([pooled, sizes], dim=-1).to(time.dtype))
        return time + added


@dataclass(frozen=True)
class Cut:
    """A UNet's `units` in the order in which they run. `divisor`: latents whose sides it divides need no sizes."""

    units: tuple[Unit, ...]
    embeddings: Embeddings
    divisor: int

    def parameters(self) -> dict[str, tuple[tuple[str, nn.Parameter], ...]]:
        """Every parameter, by unit, the embeddings first."""
        named = {EMBEDDINGS: tuple(self.embeddings.parameters())}
        return named | {unit.name: tuple(unit.parameters()) for unit in self.units}

    def needs_sizes(self, latents: torch.Size) -> bool:
        return any(side % self.divisor for side in latents[-2:])


def cut(unet: Any) -> Cut:
    """`unet` (a UNet2DConditionModel of SDXL's kinds of blocks, any number of levels) as units that share its modules.
    Raises ValueError, saying why, for one of another make."""
    _require_known(unet)
    pieces = _Pieces()
    pieces.add("conv_in", "plain", [("conv_in", unet.conv_in)], pushes=True)
    for at, block in enumerate(unet.down_blocks):
        _cut_down(pieces, f"down_blocks.{at}", block)
    pieces.one("mid_block.resnets.0", "resnet", unet.mid_block.resnets[0])
    for at, attention in enumerate(unet.mid_block.attentions):
        pieces.one(f"mid_block.attentions.{at}", "attention", attention)
        pieces.one(f"mid_block.resnets.{at + 1}", "resnet", unet.mid_block.resnets[at + 1])
    for at, block in enumerate(unet.up_blocks):
        _cut_up(pieces, f"up_blocks.{at}", block)
    out = [(name, getattr(unet, name)) for name in ("conv_norm_out", "conv_act", "conv_out")]
    pieces.add("out", "plain", out)
    made = Cut(tuple(pieces.units), Embeddings(unet), 2**unet.num_upsamplers)
    held = [name for parameters in made.parameters().values() for name, _ in parameters]
    if left := sorted({name for name, _ in unet.named_parameters()} - set(held)):
        raise ValueError(f"the memory plan stage-major does not know what this UNet does with {', '.join(left[:3])}")
    assert len(held) == len(set(held)) and not pieces.pushed
    return made


class _Pieces:
    """Units so far, and the numbers of those whose output is still to be read as a skip."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.pushed: list[int] = []

    def one(self, name: str, kind: Kind, module: nn.Module, *, pushes: bool = False, pops: bool = False) -> None:
        self.add(name, kind, [(name, module)], pushes=pushes, pops=pops)

    def add(
        self,
        name: str,
        kind: Kind,
        modules: Sequence[tuple[str, nn.Module]],
        *,
        pushes: bool = False,
        pops: bool = False,
    ) -> None:
        skip = self.pushed.pop() if pops else None
        # Only what follows reads it at another size: the last one to read a skip is not an upsampler.
        size = self.pushed[-1] if kind == "upsample" else None
        if pushes:
            self.pushed.append(len(self.units))
        self.units.append(Unit(name, kind, tuple(modules), pushes, skip, size))


def _cut_down(pieces: _Pieces, name: str, block: Any) -> None:
    attentions = getattr(block, "attentions", None)
    for at, resnet in enumerate(block.resnets):
        pieces.one(f"{name}.resnets.{at}", "resnet", resnet, pushes=attentions is None)
        if attentions is not None:
            pieces.one(f"{name}.attentions.{at}", "attention", attentions[at], pushes=True)
    for at, sampler in enumerate(block.downsamplers or ()):
        pieces.one(f"{name}.downsamplers.{at}", "plain", sampler, pushes=True)


def _cut_up(pieces: _Pieces, name: str, block: Any) -> None:
    attentions = getattr(block, "attentions", None)
    for at, resnet in enumerate(block.resnets):
        pieces.one(f"{name}.resnets.{at}", "resnet", resnet, pops=True)
        if attentions is not None:
            pieces.one(f"{name}.attentions.{at}", "attention", attentions[at])
    for at, sampler in enumerate(block.upsamplers or ()):
        pieces.one(f"{name}.upsamplers.{at}", "upsample", sampler)


def _require_known(unet: Any) -> None:
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    kinds = (DownBlock2D, CrossAttnDownBlock2D, UNetMidBlock2DCrossAttn, CrossAttnUpBlock2D, UpBlock2D)
    strange = [type(block).__name__ for block in blocks if not isinstance(block, kinds)]
    strange += [
        type(attention).__name__
        for block in blocks
        for attention in getattr(block, "attentions", None) or ()
        if not (isinstance(attention, Transformer2DModel) and attention.is_input_continuous)
    ]
    if unet.config.addition_embed_type != "text_time":
        strange.append(f"added conditions of the type {unet.config.addition_embed_type}")
    # Parts that have no parameters by which they would be missed.
    strange += [name for name in ("time_embed_act", "encoder_hid_proj", "class_embedding") if getattr(unet, name)]
    if unet.config.center_input_sample:
        strange.append("a centred input")
    if unet.conv_norm_out is None:
        strange.append("no last norm")
    if any(getattr(block, factor, None) for block in unet.up_blocks for factor in ("s1", "s2", "b1", "b2")):
        strange.append("FreeU")
    if strange:
        raise ValueError(f"the memory plan stage-major knows SDXL's UNet only; this one has {', '.join(strange[:3])}")


def _parameters(modules: Sequence[tuple[str, nn.Module]]) -> Iterator[tuple[str, nn.Parameter]]:
    for name, module in modules:
        yield from module.named_parameters(prefix=name)
