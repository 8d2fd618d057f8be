"""The finished model as one file for other programs: the base again, with only the trained tensors replaced."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from engine.contract.architecture import ARCHITECTURE_KEY
from engine.contract.atomic import Entry, Interrupted, never, require_free, write_safetensors
from engine.contract.part_names import stacked_parts
from engine.contract.safetensors_header import PREDICTION_KEY, TEXT_2_PREFIX, TEXT_PREFIX, read_header
from engine.contract.sections import PredictionType
from engine.contract.unet_names import UNET_PREFIX, to_published
from engine.model.convert import Make, published_text_2_parts
from engine.model.single_file import DTYPE_WORDS, TORCH_DTYPES, Checkpoint, fingerprint, raw, tensor_bytes

Form = Literal["checkpoint", "unet"]

# Left by other tools in the base's metadata and not true of the export: hashes of its content, and what it predicts.
_STALE_METADATA = (
    "modelspec.hash_sha256",
    "sshs_model_hash",
    "sshs_legacy_hash",
    "modelspec.prediction_type",
    "modelspec.predict_key",
)
_MODELSPEC_WORDS = {"v_prediction": "v", "epsilon": "epsilon"}  # it has none for rectified flow
_SLICE = 1 << 26  # bytes hashed between two looks at `should_stop`
_ELEMENTS = 1 << 22  # looked at in one go for values that are not finite


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run made of its base: of `unet`, `text_encoder` and `text_encoder_2` the trained tensors only, under
    diffusers/transformers names, on any device; each is asked for once, when its turn comes.

    They are stored in `dtype`, or in the base's dtype of that tensor if None. `prediction_type` and `zero_terminal_snr`
    are what the export announces. `metadata` wins over the model description, and that over the base's metadata.

    Raises ValueError for a pair that no marker can announce.
    """

    unet: Mapping[str, Tensor]
    dtype: torch.dtype | None
    prediction_type: PredictionType
    zero_terminal_snr: bool
    metadata: Mapping[str, str]
    text_encoder: Mapping[str, Tensor] = field(default_factory=dict)
    text_encoder_2: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.zero_terminal_snr and self.prediction_type != "v_prediction":
            raise ValueError("zero_terminal_snr is announced by `ztsnr` beside `v_pred` only: it needs v-prediction")


@dataclass(frozen=True)
class Exported:
    """`bytes` is the size of what was written; `seconds` the time from the first check to the synced rename."""

    path: Path
    bytes: int
    seconds: float


def export(
    base: Checkpoint, trained: Trained, out_path: Path, *, form: Form, should_stop: Callable[[], bool] = never
) -> Exported:
    """Writes the base again with the trained tensors replaced and everything else bit for bit, atomically; as a whole
    "checkpoint", or of it only the "unet".

    The markers `v_pred` and `ztsnr` end up present or absent as was trained, and `aozora.prediction_type` says it in
    words, the only place that can for rectified flow. A stack of which only a part was trained is stored so that the
    rest of it keeps its values, too.

    Raises ValueError for a tensor the base does not have, of another shape, or not finite in the dtype it is stored in;
    BaseChangedError; NoSpaceError; Interrupted when `should_stop` says so between two tensors. Nothing is left behind
    then, and an existing `out_path` stays as it was.
    """
    started = time.monotonic()
    base.files.require_unchanged()
    if form == "unet" and (trained.text_encoder or trained.text_encoder_2):
        raise ValueError("a file of the UNet alone cannot hold the trained text encoders: export a checkpoint")
    entries = list(_entries(base, trained, form))
    require_free(out_path.resolve(), sum(entry.nbytes for entry in entries))
    described = describe(base, trained, out_path.stem, should_stop)

    def check(written: Path) -> None:
        verify(entries, written)
        base.files.require_unchanged()

    path = write_safetensors(out_path, entries, described, should_stop=should_stop, check=check)
    return Exported(path, path.stat().st_size, time.monotonic() - started)


def base_hash(base: Checkpoint, should_stop: Callable[[], bool] = never) -> dict[str, str]:
    """What the export was made from, as metadata.

    For a single file the SHA-256 of its bytes, the number that Civitai and A1111 show; for a folder one digest of its
    UNet, VAE and text encoders as a single file would hold them. A VAE out of another file is named and hashed beside
    that. Raises Interrupted.
    """
    said = {"aozora.base": base.path.absolute().name}
    if base.path.is_dir():
        said["aozora.base_fingerprint"] = _fingerprint(base, should_stop)
    else:
        said["aozora.base_sha256"] = _sha256(base, base.path, should_stop)
    files = {piece.path for info in base.header.tensors.values() for piece in info.pieces}
    for path in files - {base.path}:
        if base.path not in path.parents:
            said |= {"aozora.vae": path.name, "aozora.vae_sha256": _sha256(base, path, should_stop)}
    return said


def describe(base: Checkpoint, trained: Trained, title: str, should_stop: Callable[[], bool]) -> dict[str, str]:
    """The export's metadata: the base's, as far as it is still true, the model description, what it was made from, and
    the run's own. Raises Interrupted."""
    kept = {key: value for key, value in base.header.metadata.items() if _still_true(key)}
    word = _MODELSPEC_WORDS.get(trained.prediction_type)
    return (
        {"modelspec.resolution": "1024x1024"}
        | kept
        | {
            "format": "pt",
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": "stable-diffusion-xl-v1-base",
            "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
            "modelspec.title": title,
            "modelspec.date": datetime.now(UTC).isoformat(timespec="seconds"),
            PREDICTION_KEY: trained.prediction_type,
        }
        | ({"modelspec.prediction_type": word} if word else {})
        | base_hash(base, should_stop)
        | dict(trained.metadata)
    )


def common_dtype(dtypes: Collection[torch.dtype]) -> torch.dtype:
    """The widest, which holds every value of the others: fp32 for bf16 beside fp16, neither of which does."""
    width = max(dtype.itemsize for dtype in dtypes)
    widest = {dtype for dtype in dtypes if dtype.itemsize == width}
    return widest.pop() if len(widest) == 1 else torch.float32


def stored_bytes(name: str, make: Make, shape: tuple[int, ...], dtype: torch.dtype) -> Callable[[], memoryview]:
    """For an Entry: the trained tensor that `make` gives, in `dtype`. The result raises ValueError if it has not
    `shape`, or is not finite in `dtype`."""

    def data() -> memoryview:
        tensor = make().detach()
        if tuple(tensor.shape) != shape:
            raise ValueError(f"the trained {name} has shape {tuple(tensor.shape)}, the base {shape}")
        stored = tensor.to("cpu", dtype)
        del tensor  # the largest has 250 MB in fp32
        if not _is_finite(stored):
            raise ValueError(
                f"{name} is not finite in {DTYPE_WORDS[dtype]}: export in BF16 or F32, or go back to an earlier "
                "checkpoint"
            )
        return tensor_bytes(stored)

    return data


def verify(entries: list[Entry], written: Path) -> None:
    """Raises OSError unless the file says the names, dtypes and shapes of `entries` and has their length."""
    found = {name: (info.dtype, info.shape) for name, info in read_header(written).tensors.items()}
    if found != {entry.name: (entry.dtype, entry.shape) for entry in entries}:
        raise OSError(f"{written} does not read back as it was written: check the disk; nothing was replaced")


def _published(base: Checkpoint, trained: Trained) -> dict[str, Make]:
    """{published name: how to make its tensor} of all that was trained. Raises ValueError for what the base lacks."""
    unet, first, second = trained.unet, trained.text_encoder, trained.text_encoder_2
    parts = published_text_2_parts(second.keys(), partial(_second_encoder, second, base))
    made = (
        {UNET_PREFIX + to_published(name): partial(unet.__getitem__, name) for name in unet}
        | {TEXT_PREFIX + name: partial(first.__getitem__, name) for name in first}
        | {TEXT_2_PREFIX + name: make for name, make in parts.items()}
    )
    if unknown := [name for name in made if name not in base.header.tensors]:
        raise ValueError(
            f"{base.path.name} has no tensor {unknown[0]} ({len(unknown)} of the trained ones are unknown)"
        )
    return made


def _second_encoder(trained: Mapping[str, Tensor], base: Checkpoint, name: str) -> Tensor:
    """On the host in float32, so that trained and untrained parts of a stacked tensor go together."""
    tensor = trained[name] if name in trained else base.text_encoder_2()[name]
    return tensor.detach().to("cpu", torch.float32)


def _stored_dtype(base: Checkpoint, trained: Trained, name: str) -> torch.dtype:
    """Of a trained tensor. Where only one or two of a stacked q, k and v were trained, the others are as they were."""
    stored = TORCH_DTYPES[base.header.tensors[name].dtype]
    if trained.dtype is None:
        return stored
    parts = stacked_parts(name.removeprefix(TEXT_2_PREFIX)) if name.startswith(TEXT_2_PREFIX) else ()
    whole = all(f"text_model.{part}" in trained.text_encoder_2 for part in parts)
    return trained.dtype if whole else common_dtype([trained.dtype, stored])


def _entries(base: Checkpoint, trained: Trained, form: Form) -> Iterator[Entry]:
    made = _published(base, trained)
    markers = {"v_pred": trained.prediction_type == "v_prediction", "ztsnr": trained.zero_terminal_snr}
    kept = [name for name in base.header.tensors if _is_kept(name, form, markers)]
    for name in kept:
        info = base.header.tensors[name]
        if name in made:
            stored = _stored_dtype(base, trained, name)
            yield Entry(name, DTYPE_WORDS[stored], info.shape, stored_bytes(name, made[name], info.shape, stored))
        else:
            yield Entry(name, info.dtype, info.shape, partial(raw, base, name))
    # Of a UNet alone, the markers go both to the top and below the prefix. ComfyUI's "Load Diffusion Model"
    # (comfy/sd.py, load_diffusion_model_state_dict) keeps only what has the prefix, which it cuts off, before SDXL's
    # model_type (comfy/supported_models.py) looks for `v_pred`; "Load Checkpoint" (load_state_dict_guess_config) looks
    # at the top. Without the prefix diffusers finds no UNet, and below it passes over what it does not know
    # (loaders/single_file_utils.py, convert_ldm_unet_checkpoint).
    places = ("", UNET_PREFIX) if form == "unet" else ("",)
    for name in [place + marker for marker, wanted in markers.items() if wanted for place in places]:
        if name not in kept:
            yield Entry(name, "F32", (0,), lambda: b"")


def _is_finite(tensor: Tensor) -> bool:
    """Piece by piece, in fp32: fp8 has no test of its own, and a test of the whole takes several times its memory."""
    return all(bool(piece.float().isfinite().all()) for piece in torch.split(tensor.reshape(-1), _ELEMENTS))


def _is_kept(name: str, form: Form, markers: Mapping[str, bool]) -> bool:
    return markers[name] if name in markers else form == "checkpoint" or name.startswith(UNET_PREFIX)


def _still_true(key: str) -> bool:
    """Our own words, but for the architecture, are of the run that made the base."""
    return key == ARCHITECTURE_KEY or not (key in _STALE_METADATA or key.startswith("aozora."))


def _sha256(base: Checkpoint, path: Path, should_stop: Callable[[], bool]) -> str:
    """Of the file as it is mapped, which is what the export copies from, whatever took its name since."""
    whole = base.files.whole(path)
    digest = hashlib.sha256()
    for start in range(0, len(whole), _SLICE):
        _check_stop(should_stop)
        base.files.require_unchanged()
        digest.update(whole[start : start + _SLICE])
    return digest.hexdigest()


def _fingerprint(base: Checkpoint, should_stop: Callable[[], bool]) -> str:
    digest = hashlib.blake2b(digest_size=32)
    for part in ("unet", "vae", "text"):
        _check_stop(should_stop)
        digest.update(fingerprint(base, part).encode())
    return digest.hexdigest()


def _check_stop(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise Interrupted("the export was stopped; nothing of it was kept")
