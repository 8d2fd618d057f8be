"""What tensor shapes cannot tell of a model: widths of attention heads, groups of norms."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from engine.contract.safetensors_header import CheckpointError, Header

ARCHITECTURE_KEY = "aozora.architecture"

Config = Mapping[str, Any]
# What diffusers and transformers take for what a config.json leaves out.
_HEADS, _GROUPS = 8, 32
_HIDDEN = 512
_MOST = 1 << 20  # heads, channels or groups: far above any model's


@dataclass(frozen=True)
class Architecture:
    """The defaults are SDXL's; a small model of the same arrangement brings its own as JSON under the metadata key
    `aozora.architecture`, or in the config files of its diffusers folder."""

    unet_head_dim: int = 64
    unet_norm_groups: int = 32
    vae_norm_groups: int = 32
    text_head_dim: int = 64


def read_architecture(header: Header) -> Architecture:
    """Raises CheckpointError if the metadata's architecture is not a table of known positive numbers."""
    text = header.metadata.get(ARCHITECTURE_KEY)
    if text is None:
        return Architecture()
    known = {field.name for field in fields(Architecture)}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not all(key in known and _is_natural(n) for key, n in values.items()):
        said = reprlib.repr(text)
        raise CheckpointError(f"{header.path} describes its architecture in a way not known here: {said}")
    return Architecture(**values)


def configured(folder: Path, configs: Mapping[str, Config]) -> Architecture:
    """From the config.json of each component of a diffusers folder; a component without one counts as SDXL's.

    Raises CheckpointError where they ask for what SDXL's arrangement has not, or are no such configs.
    """
    usual = Architecture()
    unet, vae = configs.get("unet"), configs.get("vae")
    texts = [config for name in ("text_encoder", "text_encoder_2") if (config := configs.get(name))]
    try:
        return Architecture(
            unet_head_dim=_only(_unet_widths(unet)) if unet else usual.unet_head_dim,
            unet_norm_groups=_groups(unet) if unet else usual.unet_norm_groups,
            vae_norm_groups=_groups(vae) if vae else usual.vae_norm_groups,
            text_head_dim=_only({_text_width(config) for config in texts}) if texts else usual.text_head_dim,
        )
    except ValueError as error:
        raise CheckpointError(f"{folder} has config files that do not describe an SDXL model: {error}") from error


def _unet_widths(config: Config) -> set[int]:
    """`attention_head_dim` is diffusers' name for the number of heads, an old mistake of its own."""
    channels, kinds = _list(config, "block_out_channels"), _list(config, "down_block_types")
    if strange := [kind for kind in kinds if not isinstance(kind, str)]:
        raise ValueError(f"{reprlib.repr(strange[0])} is no kind of block")
    heads = config.get("attention_head_dim", _HEADS)
    heads = heads if isinstance(heads, list) else [heads] * len(channels)
    return {
        _width(width, count)
        for kind, width, count in zip(kinds, channels, heads, strict=True)
        if kind.startswith("CrossAttn")
    }


def _text_width(config: Config) -> int:
    return _width(config.get("hidden_size", _HIDDEN), config.get("num_attention_heads", _HEADS))


def _groups(config: Config) -> int:
    return _natural(config.get("norm_num_groups", _GROUPS))


def _list(config: Config, name: str) -> list[Any]:
    found = config.get(name)
    if not isinstance(found, list):
        raise ValueError(f"{name} is not a list")
    return found


def _width(channels: Any, heads: Any) -> int:
    return _natural(_natural(channels) // _natural(heads))


def _natural(number: Any) -> int:
    if not _is_natural(number):
        raise ValueError(f"{reprlib.repr(number)} is no number of heads, channels or groups")
    return int(number)


def _is_natural(number: Any) -> bool:
    return type(number) is int and 0 < number <= _MOST


def _only(widths: set[int]) -> int:
    if len(widths) != 1:
        raise ValueError(f"attention heads are {reprlib.repr(sorted(widths))} wide, not all alike")
    return widths.pop()
