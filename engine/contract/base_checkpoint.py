"""The checkpoint that training starts from: one file or a diffusers folder, with its own VAE or another."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from engine.contract.architecture import ARCHITECTURE_KEY, read_architecture
from engine.contract.diffusers_folder import read_folder
from engine.contract.safetensors_header import VAE_PREFIX, Header, read_header, reading
from engine.contract.vae_file import Vae, read_vae


def read_base(path: Path, vae: Path | None = None) -> Header:
    """One table of contents under the published names, whatever files the tensors lie in. The VAE in `vae`, if given,
    stands where the base's own did: it is the one that encodes, and that an export carries.

    Raises CheckpointError, in one sentence. Whether it is SDXL, and whole, is `identify`'s to say.
    """
    with reading(path):
        header = read_folder(path, vae=vae is None) if path.is_dir() else read_header(path)
    return header if vae is None else _with_vae(header, read_vae(vae))


def _with_vae(base: Header, vae: Vae) -> Header:
    kept = {name: info for name, info in base.tensors.items() if not name.startswith(VAE_PREFIX)}
    tensors = kept | {VAE_PREFIX + name: info for name, info in vae.tensors.items()}
    dropped = sum(info.bytes for name, info in base.tensors.items() if name.startswith(VAE_PREFIX))
    size = base.size - dropped + sum(info.bytes for info in vae.tensors.values())
    metadata = base.metadata
    if vae.norm_groups is not None:
        architecture = replace(read_architecture(base), vae_norm_groups=vae.norm_groups)
        if architecture != read_architecture(base):
            metadata = {**metadata, ARCHITECTURE_KEY: json.dumps(asdict(architecture))}
    return replace(base, metadata=metadata, tensors=tensors, size=size)
