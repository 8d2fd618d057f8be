"""The finished model as a file for other programs: the base again, with only the trained tensors replaced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from engine.contract.atomic import Entry, never, write_safetensors
from engine.contract.safetensors_header import PREDICTION_KEY, TEXT_2_PREFIX, TEXT_PREFIX, read_header
from engine.contract.unet_names import UNET_PREFIX, to_published
from engine.model.convert import published_text_2_parts
from engine.model.single_file import DTYPE_WORDS, TORCH_DTYPES, Checkpoint, open_checkpoint, raw, tensor_bytes

Prediction = Literal["v_prediction", "epsilon", "flow"]

# Hashes of the base's content that other tools left in its metadata, and how it was trained: wrong for the export.
_STALE_METADATA = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash", "modelspec.prediction_type")
_MODELSPEC_WORDS = {"v_prediction": "v", "epsilon": "epsilon"}  # it has none for rectified flow


@dataclass(frozen=True)
class Exported:
    """`bytes` is the file's size; `seconds` the time from the first check to the synced rename."""

    path: Path
    bytes: int
    seconds: float


def export(
    base_path: Path,
    out_path: Path,
    *,
    unet: Mapping[str, Tensor],
    dtype: torch.dtype | None,
    prediction_type: Prediction,
    zero_terminal_snr: bool,
    metadata: Mapping[str, str],
    text_encoder: Mapping[str, Tensor] | None = None,
    text_encoder_2: Mapping[str, Tensor] | None = None,
    should_stop: Callable[[], bool] = never,
) -> Exported:
    """Writes the base file again with the trained tensors replaced and everything else bit for bit, atomically.

    `unet`, `text_encoder` and `text_encoder_2` hold the trained tensors only, under diffusers/transformers names, on
    any device; each is asked for once, when its turn comes. They are stored in `dtype`, or in the base's dtype of that
    tensor if None. The markers `v_pred` and `ztsnr` end up present or absent as `prediction_type` and
    `zero_terminal_snr` say, and `aozora.prediction_type` says it in words, the only place that can for rectified flow.
    `metadata` wins over the model description written here, and that over the base's.

    Raises ValueError for a tensor the base does not have, of another shape, or not finite in the dtype it is stored in;
    NoSpaceError; Interrupted when `should_stop` says so between two tensors. Nothing is left behind then, and an
    existing `out_path` stays as it was.
    """
    started = time.monotonic()
    if zero_terminal_snr and prediction_type != "v_prediction":
        raise ValueError("zero_terminal_snr is announced by `ztsnr` beside `v_pred` only: it needs v-prediction")
    base = open_checkpoint(base_path)
    first, second = text_encoder or {}, text_encoder_2 or {}
    trained: dict[str, Callable[[], Tensor]] = {}
    trained |= {UNET_PREFIX + to_published(name): partial(unet.__getitem__, name) for name in unet}
    trained |= {TEXT_PREFIX + name: partial(first.__getitem__, name) for name in first}
    parts = published_text_2_parts(second.keys(), partial(_second_encoder, second, base))
    trained |= {TEXT_2_PREFIX + name: make for name, make in parts.items()}
    if unknown := [name for name in trained if name not in base.header.tensors]:
        raise ValueError(
            f"{base_path.name} has no tensor {unknown[0]} ({len(unknown)} of the trained ones are unknown)"
        )
    markers = {"v_pred": prediction_type == "v_prediction", "ztsnr": zero_terminal_snr}
    entries = list(_entries(base, trained, markers=markers, dtype=dtype))
    described = _describe(base.header.metadata, out_path, prediction_type) | dict(metadata)
    path = write_safetensors(
        out_path, entries, described, should_stop=should_stop, check=lambda written: _verify(written, entries)
    )
    return Exported(path, path.stat().st_size, time.monotonic() - started)


def _second_encoder(trained: Mapping[str, Tensor], base: Checkpoint, name: str) -> Tensor:
    """On the host in float32, so that trained and untrained parts of a stacked tensor go together."""
    tensor = trained[name] if name in trained else base.text_encoder_2()[name]
    return tensor.detach().to("cpu", torch.float32)


def _entries(
    base: Checkpoint,
    trained: Mapping[str, Callable[[], Tensor]],
    *,
    markers: Mapping[str, bool],
    dtype: torch.dtype | None,
) -> Iterator[Entry]:
    for name, info in base.header.tensors.items():
        if not markers.get(name, True):
            continue
        if name in trained:
            stored = dtype or TORCH_DTYPES[info.dtype]
            yield Entry(name, DTYPE_WORDS[stored], info.shape, _cast(name, trained[name], info.shape, stored))
        else:
            yield Entry(name, info.dtype, info.shape, partial(raw, base, name))
    for name, wanted in markers.items():
        if wanted and name not in base.header.tensors:
            yield Entry(name, "F32", (0,), lambda: b"")


def _cast(name: str, get: Callable[[], Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Callable[[], memoryview]:
    def data() -> memoryview:
        tensor = get().detach()
        if tuple(tensor.shape) != shape:
            raise ValueError(f"the trained {name} has shape {tuple(tensor.shape)}, the base {shape}")
        stored = tensor.to("cpu", dtype)
        if not bool(torch.isfinite(stored.float()).all()):
            raise ValueError(
                f"{name} is not finite in {DTYPE_WORDS[dtype]}: export in BF16 or F32, or go back to an earlier "
                "checkpoint"
            )
        return tensor_bytes(stored)

    return data


def _describe(base: Mapping[str, str], out_path: Path, prediction_type: Prediction) -> dict[str, str]:
    kept = {key: value for key, value in base.items() if key not in _STALE_METADATA}
    word = _MODELSPEC_WORDS.get(prediction_type)
    return (
        {"format": "pt", "modelspec.resolution": "1024x1024"}
        | kept
        | {
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": "stable-diffusion-xl-v1-base",
            "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
            "modelspec.title": out_path.stem,
            "modelspec.date": datetime.now(UTC).isoformat(timespec="seconds"),
            PREDICTION_KEY: prediction_type,
        }
        | ({"modelspec.prediction_type": word} if word else {})
    )


def _verify(written: Path, entries: list[Entry]) -> None:
    found = {name: (info.dtype, info.shape) for name, info in read_header(written).tensors.items()}
    if found != {entry.name: (entry.dtype, entry.shape) for entry in entries}:
        raise OSError(f"{written} does not read back as it was written: check the disk; the old file was kept")
