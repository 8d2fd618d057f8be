"""Pictures -> latents and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from engine.contract.picture_pixels import trained_picture
from engine.contract.safetensors_header import VAE_PREFIX, Header
from engine.contract.vae_file import SCALING_FACTOR
from engine.model.components import vae_config

if TYPE_CHECKING:
    from engine.contract.buckets import Placement


def load_image(path: Path, placement: Placement, background: tuple[int, int, int]) -> Tensor:
    """The picture as the model sees it, (3, H, W) float32 in [-1, 1] with (W, H) the placement's bucket.

    Turned as its EXIF says, laid on `background` (RGB, 0..255) where it is transparent, scaled with Lanczos, cropped.
    Raises any of `picture_file.decoding_errors()` if it cannot be decoded.
    """
    pixels = torch.from_numpy(np.array(trained_picture(path, placement, background), dtype=np.float32))
    return (pixels / 127.5 - 1.0).permute(2, 0, 1).contiguous()


def encode_posterior(vae: AutoencoderKL, images: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) float32 in [-1, 1] -> mean and standard deviation of the posterior, each times 0.13025, (B, 4, H/8,
    W/8) float32. No noise is drawn: a draw is mean + std x standard normal noise.

    Not checked: where the VAE overflows, as the stock one does in float16, they are not finite. A caller that keeps
    them checks, and can say which picture it was.

    Peak memory goes with B: encode pictures one by one, which is what diffusers calls slicing. See also `load_vae` for
    tiles, and `encoding_memory`.
    """
    with torch.no_grad(), torch.autocast(vae.device.type, enabled=False):
        posterior = vae.encode(images.to(vae.device, vae.dtype)).latent_dist
        mean: Tensor = posterior.mean.float() * SCALING_FACTOR
        std: Tensor = torch.exp(0.5 * posterior.logvar.float()) * SCALING_FACTOR
    return mean, std


def encoding_memory(header: Header, size: tuple[int, int], dtype: torch.dtype) -> int:
    """Bytes of device memory that `load_vae` and then encoding one picture of `size` (width, height) untiled take.

    The peak comes in the second residual block at full resolution, where the first level's channels C (128) are live
    five times: the level's input, the block's, its branch, the sum of the two, and that sum divided by 1. So it is
    5 x C x width x height x bytes of `dtype`, 2.5 GiB at 1024x1024 in float32; everything later is at a quarter of the
    pixels or less, and attention does not keep its scores. Plus the weights, encoder and decoder. In two-byte dtypes a
    sixth: the kernels there make a copy of their input in another layout (measured on an H100: 1,543 bytes a pixel in
    bfloat16, 2,573 in float32). Plus a tenth, for the allocator's rounding and the convolutions' workspaces, which find
    room where the fifth is not live yet.
    """
    live = 6 if dtype.itemsize == 2 else 5
    channels: int = vae_config(header)["block_out_channels"][0]
    weights = sum(info.elements for name, info in header.tensors.items() if name.startswith(VAE_PREFIX))
    return int(1.1 * dtype.itemsize * (live * channels * size[0] * size[1] + weights))


def decode_latents(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """(B, 4, h, w) -> (B, 3, 8h, 8w) float32 in [-1, 1], clamped. Raises ValueError if the result is not finite."""
    with torch.no_grad(), torch.autocast(vae.device.type, enabled=False):
        images: Tensor = vae.decode((latents.float() / SCALING_FACTOR).to(vae.device, vae.dtype)).sample.float()
    if not bool(torch.isfinite(images).all()):
        raise ValueError(f"the VAE decoded to values that are not finite in {vae.dtype}: run it in float32")
    return images.clamp(-1.0, 1.0)
