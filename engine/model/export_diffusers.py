"""The finished model as a diffusers folder, which `StableDiffusionXLPipeline.from_pretrained` loads."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor
from transformers import CLIPTextConfig

from engine.contract.atomic import Entry, fsync_folder, never, require_free, write_safetensors, write_text
from engine.contract.noise import BETA_END, BETA_START, TIMESTEPS
from engine.contract.safetensors_header import TEXT_2_PREFIX, TEXT_PREFIX, VAE_PREFIX
from engine.contract.sections import NullCondition
from engine.contract.unet_names import UNET_PREFIX, to_diffusers
from engine.model.components import text_2_config, text_config, unet_config, vae_config
from engine.model.convert import Make, text_2_state, text_state, vae_state
from engine.model.export import Exported, Trained, common_dtype, describe, stored_bytes, verify
from engine.model.single_file import DTYPE_WORDS, TORCH_DTYPES, Checkpoint, tensor_bytes
from engine.model.tokenizers import BOS, EOS

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
# As every published SDXL folder has it. It makes "!" a special token of the second tokenizer in transformers: whoever
# uses that gets id 0 for a "!" at a word's end where training, like ComfyUI, reads 256.
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
    trained: Trained,
    out_folder: Path,
    *,
    vocabularies: tuple[Vocabulary, Vocabulary],
    null_condition: NullCondition = "empty_prompt",
    should_stop: Callable[[], bool] = never,
) -> Exported:
    """Writes the base with the trained tensors replaced and the values of all others bit for bit, atomically: as a
    folder of configs, tokenizers and one safetensors file a component. What SDXL has no component for stays behind.

    The metadata goes into the UNet's file. The scheduler is Euler's, or for rectified flow DPM-Solver, the one that the
    SDXL pipeline can run on flow times. `null_condition` tells the pipeline what stands for an absent negative prompt.
    `vocabularies` are those of the first and the second encoder.

    Raises as `export.export` does, and ValueError if there is something at `out_folder`. Nothing is left behind then.
    """
    started = time.monotonic()
    base.files.require_unchanged()
    target = out_folder.parent.resolve() / out_folder.name
    _require_absent(target)
    weights = _weights(base, trained)
    texts = _texts(base, trained, null_condition, vocabularies)
    needed = sum(entry.nbytes for entries in weights.values() for entry in entries)
    require_free(target, needed + sum(len(text.encode()) for text in texts.values()) + _HEADERS)
    described = describe(base, trained, target.name, should_stop)
    with _built(target) as building:
        size = _write(building, weights, texts, described, should_stop=should_stop)
        base.files.require_unchanged()
    return Exported(target, size, time.monotonic() - started)


@contextmanager
def _built(target: Path) -> Iterator[Path]:
    """A folder to fill, which then takes the name `target`, or is removed if filling it fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    try:
        yield building
        _require_absent(target)
        building.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    fsync_folder(target.parent)


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


def _weights(base: Checkpoint, trained: Trained) -> dict[str, list[Entry]]:
    """{component: its tensors}. Raises ValueError for what the base lacks."""
    made: dict[str, dict[str, Make]] = {
        "unet": _named("", trained.unet),
        "vae": {},
        "text_encoder": _named("text_model.", trained.text_encoder),
        "text_encoder_2": _named("", trained.text_encoder_2),
    }
    weights = {name: list(_entries(base, part, made[name], trained.dtype)) for name, part in _PARTS.items()}
    for name, entries in weights.items():
        if unknown := made[name].keys() - {entry.name for entry in entries}:
            raise ValueError(
                f"{base.path.name} has no {name} tensor {min(unknown)} ({len(unknown)} of the trained ones are unknown)"
            )
    return weights


def _entries(base: Checkpoint, part: _Part, made: Mapping[str, Make], dtype: torch.dtype | None) -> Iterator[Entry]:
    for published, info in base.header.tensors.items():
        if not published.startswith(part.prefix):
            continue
        own = TORCH_DTYPES[info.dtype]
        like = torch.empty(info.shape, dtype=own, device="meta")
        tensors = part.state({published.removeprefix(part.prefix): like})
        if not tensors:
            continue
        # One dtype for all that a published tensor is cut into: whoever stacks q, k and v again needs it.
        stored = common_dtype({(dtype or own) if name in made else own for name in tensors})
        for name, tensor in tensors.items():
            shape = tuple(tensor.shape)
            untouched = partial(_untouched, base, part, published, name=name, dtype=stored)
            data = stored_bytes(name, made[name], shape, stored) if name in made else untouched
            yield Entry(name, DTYPE_WORDS[stored], shape, data)


def _untouched(base: Checkpoint, part: _Part, published: str, *, name: str, dtype: torch.dtype) -> memoryview:
    tensor = part.state({published.removeprefix(part.prefix): base.tensor(published)})[name]
    return tensor_bytes(tensor.to(dtype))


def _texts(
    base: Checkpoint, trained: Trained, null_condition: NullCondition, vocabularies: tuple[Vocabulary, Vocabulary]
) -> dict[str, str]:
    """{path in the folder: text}, the pipeline's index last."""
    header = base.header
    scheduler = _scheduler(trained)
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


def _scheduler(trained: Trained) -> dict[str, Any]:
    # What Euler does not read is for the schedulers that people put in its place; their own defaults are not SDXL's.
    shared = {
        "num_train_timesteps": TIMESTEPS,
        "beta_start": BETA_START,
        "beta_end": BETA_END,
        "beta_schedule": "scaled_linear",
        "trained_betas": None,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
    }
    if trained.prediction_type == "flow":
        flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 1.0}
        return {"_class_name": "DPMSolverMultistepScheduler"} | shared | flow
    zero_terminal_snr = trained.zero_terminal_snr
    return (
        {"_class_name": "EulerDiscreteScheduler"}
        | shared
        | {
            "prediction_type": trained.prediction_type,
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
