"""Pictures -> latents and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageOps
from torch import Tensor

from engine.contract.picture_file import limited_decoding
from engine.model.components import SCALING_FACTOR

if TYPE_CHECKING:
    from engine.contract.buckets import Placement

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def load_image(path: Path, placement: Placement, background: tuple[int, int, int]) -> Tensor:
    """The picture as the model sees it, (3, H, W) float32 in [-1, 1] with (W, H) the placement's bucket.

    Turned as its EXIF says, laid on `background` (RGB, 0..255) where it is transparent, scaled with Lanczos, cropped.
    Raises any of `picture_file.decoding_errors()` if it cannot be decoded.
    """
    with limited_decoding(), Image.open(path) as file:
        file.load()  # a PNG may carry its orientation behind its pixels
        picture = _as_rgb(ImageOps.exif_transpose(file), background)
    left, top = placement.crop
    width, height = placement.bucket
    scaled = picture.resize(placement.scaled, Image.Resampling.LANCZOS)
    cropped = scaled.crop((left, top, left + width, top + height))
    pixels = torch.from_numpy(np.array(cropped, dtype=np.float32))
    return (pixels / 127.5 - 1.0).permute(2, 0, 1).contiguous()


def encode_latents(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """(B, 3, H, W) float32 in [-1, 1] -> (B, 4, H/8, W/8) float32: the posterior's mean times 0.13025, no noise drawn.

    Not checked: where the VAE overflows, as the stock one does in float16, they are not finite. A caller that keeps
    them checks, and can say which picture it was.
    """
    with torch.no_grad(), torch.autocast(vae.device.type, enabled=False):
        posterior = vae.encode(images.to(vae.device, vae.dtype)).latent_dist
        latents: Tensor = posterior.mean.float() * SCALING_FACTOR
    return latents


def decode_latents(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """(B, 4, h, w) -> (B, 3, 8h, 8w) float32 in [-1, 1], clamped. Raises ValueError if the result is not finite."""
    with torch.no_grad(), torch.autocast(vae.device.type, enabled=False):
        images: Tensor = vae.decode((latents.float() / SCALING_FACTOR).to(vae.device, vae.dtype)).sample.float()
    if not bool(torch.isfinite(images).all()):
        raise ValueError(f"the VAE decoded to values that are not finite in {vae.dtype}: run it in float32")
    return images.clamp(-1.0, 1.0)


def _as_rgb(picture: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if picture.mode in _SIXTEEN_BIT:
        # Pillow's own conversion clips at 255 instead of scaling.
        values = np.array(picture).astype(np.float32) / 257.0
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        on_top = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", on_top.size, (*background, 255)), on_top).convert("RGB")
    return picture.convert("RGB")
