"""A separate VAE, in any of the forms that it is handed around in, as the tensors that an SDXL checkpoint publishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.contract.architecture import ARCHITECTURE_KEY, configured, read_architecture
from engine.contract.diffusers_folder import as_convolution, is_pipeline, read_folder, read_part, vae_as_published
from engine.contract.model_family import LATENT_CHANNELS, family
from engine.contract.part_names import VAE_LEVELS, is_vae_matrix
from engine.contract.safetensors_header import (
    VAE_PREFIX,
    CheckpointError,
    Header,
    TensorInfo,
    read_header,
    reading,
)

SCALING_FACTOR = 0.13025  # SDXL's; AutoencoderKL's own default is another model's
TILE = 512  # pixels, the side of the tiles that larger pictures may be encoded in

Tensors = Mapping[str, TensorInfo]

_ROOTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
# A VAE of SDXL's arrangement has every one of these.
_NEEDED = (
    "encoder.conv_in.weight",
    *(f"encoder.down.{level}.block.1.conv2.weight" for level in range(VAE_LEVELS)),
    "encoder.mid.attn_1.q.weight",
    "quant_conv.weight",
    "post_quant_conv.weight",
    *(f"decoder.up.{level}.block.2.conv2.weight" for level in range(VAE_LEVELS)),
    "decoder.mid.attn_1.proj_out.weight",
    "decoder.conv_in.weight",
    "decoder.conv_out.weight",
)


@dataclass(frozen=True)
class Vae:
    """`tensors` are under their published names, without a prefix. `norm_groups` is None where nothing says it; shapes
    cannot."""

    tensors: Tensors
    norm_groups: int | None


def read_vae(path: Path) -> Vae:
    """From a file with LDM's names (bare, or below `first_stage_model.` as in a whole SDXL checkpoint), from one with
    diffusers' names, or from a folder of diffusers.

    Raises CheckpointError, in one sentence, for anything that is no VAE of SDXL's latents.
    """
    with reading(path):
        if path.is_dir() and not is_pipeline(path):
            return _from_component(path)
        return _from_checkpoint(read_folder(path) if path.is_dir() else read_header(path))


def _from_checkpoint(header: Header) -> Vae:
    what, _ = family(header)
    if what.startswith("Stable Diffusion"):
        raise CheckpointError(f"{header.path} is {what}, whose VAE makes other latents than SDXL's")
    inside = {
        name.removeprefix(VAE_PREFIX): info for name, info in header.tensors.items() if name.startswith(VAE_PREFIX)
    }
    # Trainers leave their losses and averages beside it.
    tensors = {name: info for name, info in (inside or header.tensors).items() if name.startswith(_ROOTS)}
    if any(".mid_block." in name for name in tensors):
        tensors = vae_as_published(tensors)
    else:
        tensors = {name: as_convolution(info) if is_vae_matrix(name) else info for name, info in tensors.items()}
    _require_sdxls(header.path, tensors, what)
    known = ARCHITECTURE_KEY in header.metadata
    return Vae(tensors, read_architecture(header).vae_norm_groups if known else None)


def _from_component(path: Path) -> Vae:
    part = read_part(path, "vae")
    _require_sdxls(path, part.tensors, "a folder")
    return Vae(part.tensors, configured(path, {"vae": part.config}).vae_norm_groups if part.config else None)


def _require_sdxls(path: Path, tensors: Tensors, what: str) -> None:
    """`what` the file is if it should be no VAE at all."""
    if not any(name.endswith("coder.conv_in.weight") for name in tensors):
        raise CheckpointError(f"{path} is {what}, not a VAE")
    entry = tensors.get("decoder.conv_in.weight")
    channels = entry.shape[1] if entry is not None and len(entry.shape) > 1 else LATENT_CHANNELS
    if channels != LATENT_CHANNELS:
        raise CheckpointError(
            f"{path} is a VAE of {channels} latent channels (16: FLUX or Stable Diffusion 3), SDXL's has 4"
        )
    if missing := [name for name in _NEEDED if name not in tensors]:
        raise CheckpointError(f"{path} is not a VAE of SDXL's arrangement: it lacks {missing[0]}")
