"""The demo checkpoint's tensors: SDXL's arrangement throughout, small enough to train on a CPU.

The UNet starts untrained, the text encoders are random but fixed, and the VAE is written by hand: it encodes a picture
as its 8x8 block averages and decodes them back.
"""

from __future__ import annotations

import json

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from engine.contract.architecture import ARCHITECTURE_KEY
from engine.contract.safetensors_header import TEXT_2_PREFIX, TEXT_PREFIX, VAE_PREFIX
from engine.contract.unet_names import UNET_PREFIX, to_published
from engine.contract.vae_file import SCALING_FACTOR
from engine.model.components import clip_config
from engine.model.convert import published_text_2, published_vae

_SEED = 20250801
_HEAD_DIM = 16
_UNET_CHANNELS = (32, 48, 64)
_DEPTHS = (1, 1, 2)  # transformer blocks an attention; the first level has none
_SIZE_DIM = 32  # of each of the six size numbers' sinusoids
_HIDDEN, _HIDDEN_2, _PROJECTION = 32, 48, 48
_VAE_CHANNELS = 8
# The constant pair that keeps the VAE's only norm from depending on the picture: far above any colour.
_BASIS = 100.0
_LUMA = (0.299, 0.587, 0.114)
# Mean and standard deviation of the block averages of the demo's pictures: red, green, blue, luma.
_CENTRE = (0.14, 0.0, -0.03, 0.04)
_SPREAD = (0.66, 0.46, 0.51, 0.41)


def demo_metadata() -> dict[str, str]:
    """What the header says about the demo checkpoint; `aozora.architecture` is what the shapes cannot tell."""
    architecture = {
        "unet_head_dim": _HEAD_DIM,
        "unet_norm_groups": 8,
        "vae_norm_groups": 1,
        "text_head_dim": _HEAD_DIM,
    }
    return {
        "format": "pt",
        ARCHITECTURE_KEY: json.dumps(architecture),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-xl-v1-base",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.prediction_type": "v",
        "modelspec.resolution": "256x256",
        "modelspec.title": "Aozora demo",
    }


def demo_tensors(vocabulary: int) -> dict[str, Tensor]:
    """Every tensor of the file under its published name, for a tokenizer of that many tokens."""
    tensors = {UNET_PREFIX + to_published(name): tensor for name, tensor in _unet().items()}
    tensors |= {VAE_PREFIX + name: tensor for name, tensor in published_vae(hand_written_vae()).items()}
    first, second = _text_encoders(vocabulary)
    tensors |= {TEXT_PREFIX + name: tensor for name, tensor in first.items()}
    tensors |= {TEXT_2_PREFIX + name: tensor for name, tensor in published_text_2(second).items()}
    tensors[f"{TEXT_PREFIX}embeddings.position_ids"] = torch.arange(77)[None]
    tensors[f"{TEXT_2_PREFIX}logit_scale"] = torch.tensor(100.0).log()
    tensors |= {"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}
    return tensors


def hand_written_vae() -> dict[str, Tensor]:
    """State of an AutoencoderKL in which nothing is learnt.

    Colours travel as pairs (x, -x) beside a constant pair (B, -B). Every residual branch ends in zeros, so it passes
    its input on. The last norm, one group over all channels, sees mean 0 and a standard deviation of B/2, nearly
    whatever the colours are, so its weight B/2 undoes it; and silu(x) - silu(-x) = x undoes the activation.
    """
    with torch.random.fork_rng(devices=[]):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(_VAE_CHANNELS,) * 4,
            layers_per_block=2,
            norm_num_groups=1,
        )
    state = {name: torch.zeros_like(tensor) for name, tensor in vae.state_dict().items()}
    for name, tensor in state.items():
        if tensor.ndim == 1 and name.endswith("weight"):  # the norms
            tensor.fill_(_BASIS / 2 if "conv_norm_out" in name else 1.0)
    pairs = torch.zeros(_VAE_CHANNELS, 3)
    for colour in range(3):
        pairs[2 * colour, colour], pairs[2 * colour + 1, colour] = 1.0, -1.0
    for side in ("encoder", "decoder"):
        state[f"{side}.conv_in.weight"][:, :3, 1, 1] = pairs
        state[f"{side}.conv_in.bias"][-2:] = torch.tensor([_BASIS, -_BASIS])
    every = torch.eye(_VAE_CHANNELS)
    for level in range(3):
        # Padded on the right and below only: the taps 0 and 1 are the 2x2 block, and never touch the padding.
        state[f"encoder.down_blocks.{level}.downsamplers.0.conv.weight"][:, :, :2, :2] = every[:, :, None, None] / 4
        state[f"decoder.up_blocks.{level}.upsamplers.0.conv.weight"][:, :, 1, 1] = every
    mix = torch.cat([torch.eye(3), torch.tensor([_LUMA])])  # (4, 3): what the latents say of a colour
    scale = 1.0 / (SCALING_FACTOR * torch.tensor(_SPREAD))
    state["encoder.conv_out.weight"][:4, :, 1, 1] = mix @ pairs.T
    state["quant_conv.weight"][:4, :4, 0, 0] = torch.diag(scale)
    state["quant_conv.bias"][:4] = -scale * torch.tensor(_CENTRE)
    state["quant_conv.bias"][4:] = -30.0  # log variance: nothing is random
    back = torch.linalg.pinv(mix)
    state["post_quant_conv.weight"][:3, :, 0, 0] = back / scale
    state["post_quant_conv.bias"][:3] = back @ torch.tensor(_CENTRE)
    state["decoder.conv_out.weight"][:, :, 1, 1] = pairs.T
    return state


def _unet() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        unet = UNet2DConditionModel(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=_UNET_CHANNELS,
            layers_per_block=2,
            transformer_layers_per_block=_DEPTHS,
            attention_head_dim=tuple(channels // _HEAD_DIM for channels in _UNET_CHANNELS),
            norm_num_groups=8,
            cross_attention_dim=_HIDDEN + _HIDDEN_2,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=_SIZE_DIM,
            projection_class_embeddings_input_dim=_PROJECTION + 6 * _SIZE_DIM,
        )
    state: dict[str, Tensor] = unet.state_dict()
    return state


def _text_encoders(vocabulary: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random encoders that still tell captions apart: activations of about unit size throughout."""
    first = clip_config(
        vocabulary,
        _HIDDEN,
        heads=_HIDDEN // _HEAD_DIM,
        layers=2,
        mlp=4 * _HIDDEN,
        positions=77,
        activation="quick_gelu",
        projection=_HIDDEN,
    )
    second = clip_config(
        vocabulary,
        _HIDDEN_2,
        heads=_HIDDEN_2 // _HEAD_DIM,
        layers=3,
        mlp=4 * _HIDDEN_2,
        positions=77,
        activation="gelu",
        projection=_PROJECTION,
    )
    generator = torch.Generator().manual_seed(_SEED)
    with torch.device("meta"):
        states = CLIPTextModel(first).state_dict(), CLIPTextModelWithProjection(second).state_dict()
    drawn = [{name: _random(name, tensor, generator) for name, tensor in sorted(state.items())} for state in states]
    return drawn[0], drawn[1]


def _random(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    if name.endswith("bias"):
        return torch.zeros(like.shape)
    if like.ndim == 1:
        return torch.ones(like.shape)
    spread = 0.3 if "position" in name else 1.0 if "embedding" in name else like.shape[1] ** -0.5
    return torch.randn(like.shape, generator=generator) * spread
