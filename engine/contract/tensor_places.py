"""Where a checkpoint's tensor stands: its part, its block of the UNet, its kind of layer. Strings only."""

from __future__ import annotations

from dataclasses import dataclass

from engine.contract.safetensors_header import TEXT_2_PREFIX, TEXT_PREFIX, VAE_PREFIX
from engine.contract.unet_names import UNET_PREFIX, to_diffusers

UNET, OTHER = "UNet", "other"

_PARTS = {UNET: UNET_PREFIX, "VAE": VAE_PREFIX, "text encoder": TEXT_PREFIX, "text encoder 2": TEXT_2_PREFIX}
_BLOCKS = (
    *("conv_in", "time_embedding", "add_embedding", "down_blocks.0", "down_blocks.1", "down_blocks.2", "mid_block"),
    *("up_blocks.0", "up_blocks.1", "up_blocks.2", "conv_norm_out", "conv_out"),
)
# A kind of layer and the parts of diffusers names that make a tensor one of it; the first that is met decides.
_KINDS = {
    "attn1": ("attn1",),
    "attn2": ("attn2",),
    "ff": ("ff",),
    "norms": ("norm", "norm1", "norm2", "norm3", "conv_norm_out"),
    "projections": ("proj_in", "proj_out"),
    "resnets": ("resnets",),
    "samplers": ("downsamplers", "upsamplers"),
    "embeddings": ("time_embedding", "add_embedding"),
    "in and out": ("conv_in", "conv_out"),
}
_ORDER = tuple(
    {name: place for place, name in enumerate(names)} for names in ((*_PARTS, OTHER), ("", *_BLOCKS), ("", *_KINDS))
)


@dataclass(frozen=True)
class Place:
    """`block` and `kind` are empty outside the UNet, and where all of them are meant."""

    part: str
    block: str = ""
    kind: str = ""

    @property
    def order(self) -> tuple[int, int, int, str, int]:
        """Sorts into: each part, then its blocks, its kinds, its kinds by block; the known in the forward pass's
        order, the rest behind them."""
        level = bool(self.block) + 2 * bool(self.kind)
        part, block, kind = (
            known.get(name, len(known)) for known, name in zip(_ORDER, (self.part, self.block, self.kind), strict=True)
        )
        return part, level, block, self.block, kind


def place_of(name: str) -> Place:
    """Of a published name."""
    for part, prefix in _PARTS.items():
        if name.startswith(prefix):
            return _in_unet(name.removeprefix(prefix)) if part == UNET else Place(part)
    return Place(OTHER)


def _in_unet(name: str) -> Place:
    try:
        parts = to_diffusers(name).split(".")
    except ValueError:  # another model's
        return Place(UNET, ".".join(name.split(".")[:2]), OTHER)
    block = f"{parts[0]}.{parts[1]}" if parts[0] in ("down_blocks", "up_blocks") else parts[0]
    kind = next((kind for kind, words in _KINDS.items() if any(part in words for part in parts)), OTHER)
    return Place(UNET, block, kind)
