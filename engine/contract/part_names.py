"""The VAE's and text encoders' tensor names: as SDXL files publish them, and as diffusers and transformers call them.

Strings only; no prefix on either side. `engine.contract.unet_names` is the same for the UNet.
"""

from __future__ import annotations

import re
from functools import cache

# Published and diffusers form of runs of dotted parts, used in both directions; N is a number.
_VAE = (
    ("down.N.block.N", "down_blocks.N.resnets.N"),
    ("down.N.downsample.conv", "down_blocks.N.downsamplers.0.conv"),
    ("up.N.block.N", "up_blocks.N.resnets.N"),
    ("up.N.upsample.conv", "up_blocks.N.upsamplers.0.conv"),
    ("mid.block_1", "mid_block.resnets.0"),
    ("mid.block_2", "mid_block.resnets.1"),
    ("mid.attn_1.norm", "mid_block.attentions.0.group_norm"),
    ("mid.attn_1.q", "mid_block.attentions.0.to_q"),
    ("mid.attn_1.k", "mid_block.attentions.0.to_k"),
    ("mid.attn_1.v", "mid_block.attentions.0.to_v"),
    ("mid.attn_1.proj_out", "mid_block.attentions.0.to_out.0"),
    ("norm_out", "conv_norm_out"),
    ("nin_shortcut", "conv_shortcut"),
)
# What diffusers called them before 0.15; many folders still do.
_VAE_OLD = (
    ("mid_block.attentions.0.query", "mid_block.attentions.0.to_q"),
    ("mid_block.attentions.0.key", "mid_block.attentions.0.to_k"),
    ("mid_block.attentions.0.value", "mid_block.attentions.0.to_v"),
    ("mid_block.attentions.0.proj_attn", "mid_block.attentions.0.to_out.0"),
)
_TEXT_2 = (
    ("token_embedding.weight", "embeddings.token_embedding.weight"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_final", "final_layer_norm"),
    ("transformer.resblocks.N.ln_1", "encoder.layers.N.layer_norm1"),
    ("transformer.resblocks.N.ln_2", "encoder.layers.N.layer_norm2"),
    ("transformer.resblocks.N.mlp.c_fc", "encoder.layers.N.mlp.fc1"),
    ("transformer.resblocks.N.mlp.c_proj", "encoder.layers.N.mlp.fc2"),
    ("transformer.resblocks.N.attn.out_proj", "encoder.layers.N.self_attn.out_proj"),
)
_VAE_BACK = tuple((after, before) for before, after in _VAE)
_TEXT_2_BACK = tuple((after, before) for before, after in _TEXT_2)
VAE_LEVELS = 4
PROJECTIONS = ("q_proj", "k_proj", "v_proj")  # in the order in which OpenCLIP stacks them
# In the file but not in the module's state: a buffer that is computed, and CLIP's loss temperature.
NOT_LOADED = ("embeddings.position_ids", "logit_scale")

_IN_PROJECTION = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)$")
_PROJECTION = re.compile(r"encoder\.layers\.(\d+)\.self_attn\.([qkv]_proj)\.(weight|bias)$")


def vae_to_diffusers(name: str) -> str:
    """`decoder.up.3.block.0.nin_shortcut.weight` -> `decoder.up_blocks.0.resnets.0.conv_shortcut.weight`."""
    return _mirror_decoder(_rename(name, _VAE), "decoder.up_blocks.")


def vae_to_published(name: str) -> str:
    """The inverse of `vae_to_diffusers`; takes diffusers' old names of the attention as well."""
    return _mirror_decoder(_rename(_rename(name, _VAE_OLD), _VAE_BACK), "decoder.up.")


def is_vae_matrix(published: str) -> bool:
    """Whether it is one of the middle attentions' weights: 1x1 convolutions (C, C, 1, 1) in published files, matrices
    (C, C) in diffusers."""
    return ".mid.attn_1." in published and published.endswith(".weight") and not published.endswith(".norm.weight")


def text_2_to_flat(name: str) -> str:
    """OpenCLIP's name -> transformers', without `text_model.`: `ln_final.bias` -> `final_layer_norm.bias`. Not for the
    stacked projections, nor for `text_projection`."""
    return _rename(name, _TEXT_2)


def text_2_to_published(name: str) -> str:
    """The inverse of `text_2_to_flat`."""
    return _rename(name, _TEXT_2_BACK)


def stacked_parts(published: str) -> tuple[str, ...]:
    """transformers' names of the q, k and v that OpenCLIP stacks as `published`; none if it is no stacked tensor."""
    match = _IN_PROJECTION.match(published)
    if not match:
        return ()
    return tuple(f"encoder.layers.{match[1]}.self_attn.{projection}.{match[2]}" for projection in PROJECTIONS)


def stack_of(flat: str) -> str:
    """The published tensor that transformers' `flat` is a third of; "" if it is none."""
    match = _PROJECTION.match(flat)
    return f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}" if match else ""


def _rename(name: str, table: tuple[tuple[str, str], ...]) -> str:
    """Replaces every run of whole dotted parts that the table names; N stands for a number."""
    for pattern, replacement in _compiled(table):
        name = pattern.sub(replacement, name)
    return name


@cache
def _compiled(table: tuple[tuple[str, str], ...]) -> list[tuple[re.Pattern[str], str]]:
    rules = []
    for before, after in table:
        pattern = r"(?<![^.])" + re.escape(before).replace("N", r"(\d+)") + r"(?![^.])"
        first, *rest = after.split("N")
        replacement = first + "".join(rf"\{index}{part}" for index, part in enumerate(rest, start=1))
        rules.append((re.compile(pattern), replacement))
    return rules


def _mirror_decoder(name: str, prefix: str) -> str:
    """The published decoder numbers its levels from the picture inwards, diffusers in the order of computing."""
    if not name.startswith(prefix):
        return name
    level, _, rest = name[len(prefix) :].partition(".")
    return f"{prefix}{VAE_LEVELS - 1 - int(level)}.{rest}"
