"""The UNet in pieces that run alone, one after another: what one of them needs is all that has to be on the card."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
class Part:
    """Which of an attention's work a unit does: all `blocks` from one on, and what comes before and after them."""

    norm: nn.Module | None
    proj_in: nn.Module | None
    blocks: tuple[nn.Module, ...]
    proj_out: nn.Module | None

    def run(self, hidden: Tensor, context: Tensor | None, residual: Tensor | None) -> Tensor:
        """`hidden` and `residual` (B, C, h, w); between two parts (B, h*w, C)."""
        if residual is None:
            residual = hidden
        if self.norm is not None and self.proj_in is not None:
            hidden = self.norm(hidden).permute(0, 2, 3, 1)
            hidden = self.proj_in(hidden.reshape(hidden.shape[0], -1, hidden.shape[3]))
        for block in self.blocks:
            hidden = block(hidden, encoder_hidden_states=context)
        if self.proj_out is not None:
            batch, _, height, width = residual.shape
            hidden = self.proj_out(hidden).reshape(batch, height, width, -1).permute(0, 3, 1, 2).contiguous()
            hidden = hidden + residual
        return hidden


@dataclass(frozen=True)
class Unit:
    """A step of the UNet's forward pass. `modules` by their name in the UNet.

    `skip` is the number of the unit whose output is concatenated to the hidden state, or for the last part of an
    attention added to its own; `size` that of the unit whose output has the height and width to be produced. `pushes`
    says whether its own output is concatenated to a later unit's.
    """

    name: str
    kind: Kind
    modules: tuple[tuple[str, nn.Module], ...]
    pushes: bool = False
    skip: int | None = None
    size: int | None = None
    part: Part | None = None

    @property
    def reads_embedding(self) -> bool:
        return self.kind == "resnet"

    @property
    def reads_context(self) -> bool:
        return self.kind == "attention"

    @cached_property
    def structure(self) -> Hashable:
        """Units of the same one differ in their weights alone."""
        heads = [getattr(each, "heads", None) for _, module in self.modules for each in module.modules()]
        made = tuple(repr(module) for _, module in self.modules)
        opens = self.part is not None and self.part.norm is not None
        return self.kind, opens, made, tuple(heads)

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
        if self.part is not None:
            return self.part.run(hidden, context, skip)
        if skip is not None:
            hidden = torch.cat([hidden, skip], dim=1)
        for _, module in self.modules:
            if self.kind == "resnet":
                hidden = module(hidden, embedding)
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


def cut(unet: Any, *, deepest: int = 0) -> Cut:
    """`unet` (a UNet2DConditionModel of SDXL's kinds of blocks, any number of levels) as units that share its modules.
    An attention of more than `deepest` transformer blocks is cut between them (0: never). Raises ValueError, saying
    why, for a UNet of another make."""
    _require_known(unet)
    pieces = _Pieces(deepest)
    pieces.add("conv_in", "plain", [("conv_in", unet.conv_in)], pushes=True)
    for at, block in enumerate(unet.down_blocks):
        _cut_down(pieces, f"down_blocks.{at}", block)
    pieces.one("mid_block.resnets.0", "resnet", unet.mid_block.resnets[0])
    for at, attention in enumerate(unet.mid_block.attentions):
        pieces.attention(f"mid_block.attentions.{at}", attention)
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

    def __init__(self, deepest: int) -> None:
        self.units: list[Unit] = []
        self.pushed: list[int] = []
        self._deepest = deepest

    def attention(self, name: str, transformer: Any, *, pushes: bool = False) -> None:
        """In as few parts of at most `deepest` blocks as there can be, of about the same size."""
        blocks = list(transformer.transformer_blocks)
        parts = -(-len(blocks) // self._deepest) if self._deepest else 1
        before = len(self.units) - 1  # its output is what the first part reads, and the last one adds to its own
        at = 0
        for number in range(parts):
            first, last = number == 0, number == parts - 1
            upto = at + (len(blocks) - at) // (parts - number)
            part = Part(
                norm=transformer.norm if first else None,
                proj_in=transformer.proj_in if first else None,
                blocks=tuple(blocks[at:upto]),
                proj_out=transformer.proj_out if last else None,
            )
            modules = [(f"{name}.norm", transformer.norm), (f"{name}.proj_in", transformer.proj_in)] if first else []
            modules += [(f"{name}.transformer_blocks.{block}", blocks[block]) for block in range(at, upto)]
            modules += [(f"{name}.proj_out", transformer.proj_out)] if last else []
            if pushes and last:
                self.pushed.append(len(self.units))
            skip = before if last and not first else None
            label = name if parts == 1 else f"{name} {number + 1}/{parts}"
            unit = Unit(label, "attention", tuple(modules), pushes and last, skip, part=part)
            self.units.append(unit)
            at = upto

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
            pieces.attention(f"{name}.attentions.{at}", attentions[at], pushes=True)
    for at, sampler in enumerate(block.downsamplers or ()):
        pieces.one(f"{name}.downsamplers.{at}", "plain", sampler, pushes=True)


def _cut_up(pieces: _Pieces, name: str, block: Any) -> None:
    attentions = getattr(block, "attentions", None)
    for at, resnet in enumerate(block.resnets):
        pieces.one(f"{name}.resnets.{at}", "resnet", resnet, pops=True)
        if attentions is not None:
            pieces.attention(f"{name}.attentions.{at}", attentions[at])
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
    if not unet.config.use_linear_projection:
        strange.append("attentions that are entered by a convolution")
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
