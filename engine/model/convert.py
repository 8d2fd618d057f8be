"""The VAE's and text encoders' tensors: as SDXL files publish them, and as diffusers and transformers want them.

The UNet only changes names (`engine.contract.unet_names`); here some tensors change shape as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial

import torch
from torch import Tensor

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
_VAE_LEVELS = 4
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
# In the file but not in the module's state: a buffer that is computed, and CLIP's loss temperature.
NOT_LOADED = ("embeddings.position_ids", "logit_scale")

_IN_PROJECTION = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)$")
_PROJECTION = re.compile(r"(text_model\.encoder\.layers\.(\d+)\.self_attn\.)[qkv]_proj\.(weight|bias)$")


def vae_to_diffusers(name: str) -> str:
    """`decoder.up.3.block.0.nin_shortcut.weight` -> `decoder.up_blocks.0.resnets.0.conv_shortcut.weight`."""
    return _mirror_decoder(_rename(name, _VAE), "decoder.up_blocks.")


def vae_to_published(name: str) -> str:
    """The inverse of `vae_to_diffusers`."""
    return _mirror_decoder(_rename(name, [(after, before) for before, after in _VAE]), "decoder.up.")


def vae_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For AutoencoderKL. The middle attention's 1x1 convolutions (C, C, 1, 1) become matrices (C, C)."""
    state = {}
    for name, tensor in published.items():
        is_matrix = ".mid.attn_1." in name and tensor.ndim == 4
        state[vae_to_diffusers(name)] = tensor[:, :, 0, 0] if is_matrix else tensor
    return state


def published_vae(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `vae_state`."""
    published = {}
    for name, tensor in state.items():
        is_matrix = ".mid_block.attentions.0." in name and tensor.ndim == 2
        published[vae_to_published(name)] = tensor[:, :, None, None] if is_matrix else tensor
    return published


def text_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For CLIPTextModel, whose own names are the published ones below `text_model.` (transformers >= 5.6)."""
    return {name: tensor for name, tensor in published.items() if name not in NOT_LOADED}


def text_2_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For CLIPTextModelWithProjection, from OpenCLIP's tensors: the stacked in_proj is cut into q, k and v, and
    `text_projection`, stored (in, out) for x @ P, is transposed into a Linear's weight."""
    state = {}
    for name, tensor in published.items():
        if match := _IN_PROJECTION.match(name):
            prefix = f"text_model.encoder.layers.{match[1]}.self_attn."
            for projection, part in zip(_PROJECTIONS, tensor.chunk(3), strict=True):
                state[f"{prefix}{projection}.{match[2]}"] = part
        elif name == "text_projection":
            state["text_projection.weight"] = tensor.T
        elif name not in NOT_LOADED:
            state[f"text_model.{_rename(name, _TEXT_2)}"] = tensor
    return state


def published_text_2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `text_2_state`, for a whole encoder (without `logit_scale`)."""
    return {name: make() for name, make in published_text_2_parts(state, state.__getitem__).items()}


def published_text_2_parts(names: Collection[str], get: Callable[[str], Tensor]) -> dict[str, Callable[[], Tensor]]:
    """{published name: how to make its tensor} for the published tensors that the encoder's tensors `names` take part
    in. `get` gives a tensor under the encoder's name; a stacked in_proj also asks it for the two not among `names`."""
    back = [(after, before) for before, after in _TEXT_2]
    parts: dict[str, Callable[[], Tensor]] = {}
    for name in names:
        if match := _PROJECTION.match(name):
            attention, layer, leaf = match.groups()
            stacked = [f"{attention}{projection}.{leaf}" for projection in _PROJECTIONS]
            parts[f"transformer.resblocks.{layer}.attn.in_proj_{leaf}"] = partial(_stack, get, stacked)
        elif name == "text_projection.weight":
            parts["text_projection"] = partial(_transposed, get, name)
        else:
            parts[_rename(name.removeprefix("text_model."), back)] = partial(get, name)
    return parts


def _stack(get: Callable[[str], Tensor], names: list[str]) -> Tensor:
    return torch.cat([get(name) for name in names])


def _transposed(get: Callable[[str], Tensor], name: str) -> Tensor:
    return get(name).T


def _rename(name: str, table: Collection[tuple[str, str]]) -> str:
    """Replaces every run of whole dotted parts that the table names; N stands for a number."""
    for before, after in table:
        pattern = r"(?<![^.])" + re.escape(before).replace("N", r"(\d+)") + r"(?![^.])"
        first, *rest = after.split("N")
        replacement = first + "".join(rf"\{index}{part}" for index, part in enumerate(rest, start=1))
        name = re.sub(pattern, replacement, name)
    return name


def _mirror_decoder(name: str, prefix: str) -> str:
    """The published decoder numbers its levels from the picture inwards, diffusers in the order of computing."""
    if not name.startswith(prefix):
        return name
    level, _, rest = name[len(prefix) :].partition(".")
    return f"{prefix}{_VAE_LEVELS - 1 - int(level)}.{rest}"
