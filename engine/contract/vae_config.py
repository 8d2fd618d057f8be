"""What the config.json of a VAE says of its latents, which its tensors do not."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.contract.model_family import LATENT_CHANNELS
from engine.contract.safetensors_header import CheckpointError

SCALING_FACTOR = 0.13025  # SDXL's; AutoencoderKL's own default is another model's


def require_sdxls_latents(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises CheckpointError, in one sentence, if `config`, of the VAE in `folder`, is another model's."""
    kind, scaling = config.get("_class_name", "AutoencoderKL"), config.get("scaling_factor", SCALING_FACTOR)
    if kind != "AutoencoderKL":
        what = f"a folder of diffusers' {_quoted(kind)}, not a VAE of SDXL's kind (AutoencoderKL)"
    elif (channels := config.get("latent_channels", LATENT_CHANNELS)) != LATENT_CHANNELS:
        what = f"a VAE of {_quoted(channels)} latent channels (16: FLUX or Stable Diffusion 3), SDXL's has 4"
    elif scaling != SCALING_FACTOR:
        what = f"a VAE for another model: its latents are scaled by {_quoted(scaling)}, SDXL's by {SCALING_FACTOR}"
    elif (shift := config.get("shift_factor")) not in (None, 0):
        what = f"a VAE for another model: its latents are shifted by {_quoted(shift)}, SDXL's are not"
    elif named := [name for name in ("latents_mean", "latents_std") if config.get(name) is not None]:
        what = f"a VAE for another model: its latents are normalised ({named[0]}), SDXL's are not"
    else:
        return
    raise CheckpointError(f"{folder} is {what}")


def _quoted(value: object) -> str:
    """Words as they are; of anything else no more than fits into a sentence."""
    return value if isinstance(value, str) and value.isidentifier() else reprlib.repr(value)
