"""The finished model as a diffusers folder, which `StableDiffusionXLPipeline.from_pretrained` loads."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
from torch import Tensor
from transformers import CLIPTextConfig

from engine.contract.atomic import Entry, fsync_folder, never, require_free, write_safetensors, write_text
from engine.contract.safetensors_header import TEXT_2_PREFIX, TEXT_PREFIX, VAE_PREFIX
from engine.contract.unet_names import UNET_PREFIX, to_diffusers
from engine.model.components import text_2_config, text_config, unet_config, vae_config
from engine.model.convert import Make, text_2_state, text_state, vae_state
from engine.model.export import (
    Exported,
    Prediction,
    base_hash,
    check_markers,
    describe,
    stored_bytes,
    verify,
)
from engine.model.single_file import DTYPE_WORDS, TORCH_DTYPES, Checkpoint, tensor_bytes
from engine.model.tokenizers import BOS, EOS

NullCondition = Literal["empty_prompt", "zeros"]
Vocabulary = tuple[Mapping[str, int], list[str]]  # token ids, and merges in their order

_TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "projection_dim",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
_PADDING = (EOS, "!")
_HEADERS = 1 << 20  # bytes, more than the headers of the four files take


@dataclass(frozen=True)
class _Part:
    """A component with tensors: where it goes, what its published names start with, and how they become its own.
    `state` takes any of its tensors, so also one at a time."""

    file: str
    prefix: str
    state: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


def export_diffusers(
    base: Checkpoint,
    out_folder: Path,
    *,
    unet: Mapping[str, Tensor],
    dtype: torch.dtype | None,
    prediction_type: Prediction,
    zero_terminal_snr: bool,
    vocabularies: tuple[Vocabulary, Vocabulary],
    metadata: Mapping[str, str],
    null_condition: NullCondition = "empty_prompt",
    text_encoder: Mapping[str, Tensor] | None = None,
    text_encoder_2: Mapping[str, Tensor] | None = None,
    should_stop: Callable[[], bool] = never,
) -> Exported:
    """Writes the base with the trained tensors replaced and the values of all others bit for bit, atomically: as a
    folder of configs, tokenizers and one safetensors file a component. What SDXL has no component for stays behind.

    The arguments are those of `export.export`; the metadata goes into the UNet's file. The scheduler is Euler's, or for
    rectified flow DPM-Solver, the one that the SDXL pipeline can run on flow times. `null_condition` tells the pipeline
    what stands for an absent negative prompt. `vocabularies` are those of the first and the second encoder.

    Raises as `export.export` does, and ValueError if there is something at `out_folder`. Nothing is left behind then.
    """
    started = time.monotonic()
    check_markers(prediction_type, zero_terminal_snr)
    target = out_folder.parent.resolve() / out_folder.name
    _require_absent(target)
    trained: dict[str, dict[str, Make]] = {
        "unet": _named("", unet),
        "vae": {},
        "text_encoder": _named("text_model.", text_encoder or {}),
        "text_encoder_2": _named("", text_encoder_2 or {}),
    }
    weights = {name: list(_entries(base, part, trained[name], dtype)) for name, part in _PARTS.items()}
    for name, entries in weights.items():
        if unknown := trained[name].keys() - {entry.name for entry in entries}:
            raise ValueError(
                f"{base.path.name} has no {name} tensor {min(unknown)} ({len(unknown)} of the trained ones are unknown)"
            )
    texts = _texts(base, prediction_type, zero_terminal_snr, null_condition=null_condition, vocabularies=vocabularies)
    needed = sum(entry.nbytes for entries in weights.values() for entry in entries)
    require_free(target, needed + sum(len(text.encode()) for text in texts.values()) + _HEADERS)
    described = describe(base, target.name, prediction_type) | base_hash(base, should_stop) | dict(metadata)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    try:
        size = _write(building, weights, texts, described, should_stop=should_stop)
        _require_absent(target)
        building.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    fsync_folder(target.parent)
    return Exported(target, size, time.monotonic() - started)


def _require_absent(target: Path) -> None:
    if os.path.lexists(target):
        raise ValueError(f"{target} exists already: choose another name for the exported folder, or move the old one")


def _write(
    folder: Path,
    weights: Mapping[str, list[Entry]],
    texts: Mapping[str, str],
    metadata: Mapping[str, str],
    *,
    should_stop: Callable[[], bool],
) -> int:
    """Bytes written. The last text lies in the folder itself, so that its writing syncs the names of all folders."""
    size = 0
    for name, entries in weights.items():
        path = folder / name / _PARTS[name].file
        said = metadata if name == "unet" else {"format": "pt"}
        write_safetensors(path, entries, said, should_stop=should_stop, check=partial(verify, entries))
        size += path.stat().st_size
    return size + sum(write_text(folder / name, text).stat().st_size for name, text in texts.items())


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Make]:
    return {prefix + name: partial(tensors.__getitem__, name) for name in tensors}


def _unet_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {to_diffusers(name): tensor for name, tensor in published.items()}


def _text_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the level that published files have, old transformers need, and new ones take away by themselves."""
    return {f"text_model.{name}": tensor for name, tensor in text_state(published).items()}


_PARTS = {
    "unet": _Part("diffusion_pytorch_model.safetensors", UNET_PREFIX, _unet_state),
    "vae": _Part("diffusion_pytorch_model.safetensors", VAE_PREFIX, vae_state),
    "text_encoder": _Part("model.safetensors", TEXT_PREFIX, _text_state),
    "text_encoder_2": _Part("model.safetensors", TEXT_2_PREFIX, text_2_state),
}


def _entries(base: Checkpoint, part: _Part, trained: Mapping[str, Make], dtype: torch.dtype | None) -> Iterator[Entry]:
    for published, info in base.header.tensors.items():
        if not published.startswith(part.prefix):
            continue
        like = torch.empty(info.shape, dtype=TORCH_DTYPES[info.dtype], device="meta")
        for name, tensor in part.state({published.removeprefix(part.prefix): like}).items():
            shape = tuple(tensor.shape)
            if name in trained:
                stored = dtype or like.dtype
                yield Entry(name, DTYPE_WORDS[stored], shape, stored_bytes(name, trained[name], shape, stored))
            else:
                yield Entry(name, info.dtype, shape, partial(_untouched, base, part, published, name))


def _untouched(base: Checkpoint, part: _Part, published: str, name: str) -> memoryview:
    return tensor_bytes(part.state({published.removeprefix(part.prefix): base.tensor(published)})[name])


def _texts(
    base: Checkpoint,
    prediction_type: Prediction,
    zero_terminal_snr: bool,
    *,
    null_condition: NullCondition,
    vocabularies: tuple[Vocabulary, Vocabulary],
) -> dict[str, str]:
    """{path in the folder: text}, the pipeline's index last."""
    header = base.header
    scheduler = _scheduler(prediction_type, zero_terminal_snr)
    tables = {
        "scheduler/scheduler_config.json": scheduler,
        "unet/config.json": {"_class_name": "UNet2DConditionModel"} | unet_config(header),
        "vae/config.json": {"_class_name": "AutoencoderKL"} | vae_config(header),
        "text_encoder/config.json": _text_config("CLIPTextModel", text_config(header)),
        "text_encoder_2/config.json": _text_config("CLIPTextModelWithProjection", text_2_config(header)),
    }
    texts = {name: _json(table) for name, table in tables.items()}
    for folder, vocabulary, padding in zip(("tokenizer", "tokenizer_2"), vocabularies, _PADDING, strict=True):
        texts |= {f"{folder}/{name}": text for name, text in _tokenizer(vocabulary, padding).items()}
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": null_condition == "zeros",
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    return texts | {"model_index.json": _json(index)}


def _scheduler(prediction_type: Prediction, zero_terminal_snr: bool) -> dict[str, Any]:
    # What Euler does not read is for the schedulers that people put in its place; their own defaults are not SDXL's.
    shared = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "trained_betas": None,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
    }
    if prediction_type == "flow":
        flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 1.0}
        return {"_class_name": "DPMSolverMultistepScheduler"} | shared | flow
    return (
        {"_class_name": "EulerDiscreteScheduler"}
        | shared
        | {
            "prediction_type": prediction_type,
            "rescale_betas_zero_snr": zero_terminal_snr,
            # "leading" is SDXL's own; it never starts at the last timestep, and with zero terminal SNR one must.
            "timestep_spacing": "trailing" if zero_terminal_snr else "leading",
            "steps_offset": 0 if zero_terminal_snr else 1,
        }
    )


def _text_config(name: str, config: CLIPTextConfig) -> dict[str, Any]:
    fields = {field: getattr(config, field) for field in _TEXT_FIELDS}
    # The dtype to load in when none is asked for. New transformers take the file's otherwise, diffusers takes float32
    # for the other components, and a pipeline of both cannot run.
    return {"architectures": [name], "model_type": "clip_text_model", "torch_dtype": "float32"} | fields


def _tokenizer(vocabulary: Vocabulary, padding: str) -> dict[str, str]:
    ids, merges = vocabulary
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": padding}
    config = special | {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
    }
    return {
        "vocab.json": json.dumps(dict(ids), ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        "tokenizer_config.json": _json(config),
        "special_tokens_map.json": _json(special),
    }


def _json(table: Mapping[str, Any]) -> str:
    said = {"_diffusers_version": diffusers.__version__} if "_class_name" in table else {}
    return json.dumps({**said, **table}, indent=2) + "\n"
