"""What a checkpoint file is, read from its first bytes: no tensor is loaded and nothing is unpickled."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.contract.atomic import DTYPE_BYTES
from engine.contract.unet_names import UNET_PREFIX, read_topology

VAE_PREFIX = "first_stage_model."
TEXT_PREFIX = "conditioner.embedders.0.transformer.text_model."
TEXT_2_PREFIX = "conditioner.embedders.1.model."

PREDICTION_KEY = "aozora.prediction_type"  # in the metadata of our own exports

PredictionType = Literal["epsilon", "v_prediction", "flow", "edm", "edm_v"]

_MAX_HEADER = 100_000_000  # the format's own limit


class CheckpointError(ValueError):
    """A file is not the checkpoint it should be; the text is one sentence that says what it is."""


@dataclass(frozen=True)
class Piece:
    """A run of bytes in a file; `start` counts from its beginning."""

    path: Path
    start: int
    bytes: int


@dataclass(frozen=True)
class TensorInfo:
    """`dtype` in the format's words (F32, BF16 ...). The bytes are those of `pieces`, one behind the other; with
    `transposed` they are row-major for the reversed `shape`."""

    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    transposed: bool = False

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return sum(piece.bytes for piece in self.pieces)


@dataclass(frozen=True)
class Header:
    """A table of contents: of one safetensors file, `tensors` in the header's own order, or of several files that make
    up one checkpoint. `size` is bytes on the disk in all."""

    path: Path
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]
    size: int


@dataclass(frozen=True)
class Kind:
    """What the keys say a file is. `why_not` is empty for a whole SDXL checkpoint that can be trained here, else one
    sentence. `prediction_type` is what our own export's metadata says, else it follows the marker keys as ComfyUI reads
    them: rectified flow has no marker."""

    name: str
    why_not: str
    prediction_type: PredictionType
    zero_terminal_snr: bool

    @property
    def trainable(self) -> bool:
        return not self.why_not


def read_header(path: Path) -> Header:
    """Raises CheckpointError, saying what the file is instead, unless it is a whole and consistent safetensors file."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: name the single .safetensors file instead")
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(512)
            length = int.from_bytes(start[:8], "little")
            if start[4:9] != b"\0\0\0\0{":  # else its lowest bytes may spell anything
                _refuse_other_formats(path, start, size)
            if length > _MAX_HEADER or length < 2:
                raise CheckpointError(
                    f"{path} is not a safetensors file: its first 8 bytes announce a header of {length:,} bytes"
                )
            if 8 + length > size:
                raise CheckpointError(f"{path} is cut short: its header alone has {length:,} bytes, the file {size:,}")
            file.seek(8)
            text = file.read(length)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: check the path") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    return _parse(path, text, size)


def identify(header: Header) -> Kind:
    """Which model family the tensor names and shapes belong to, and what it announces to predict."""
    prediction, zero_terminal = _prediction(header)
    name, reason = _family(header)
    if not reason and prediction in ("edm", "edm_v"):
        name, reason = "SDXL with an EDM schedule", "uses EDM noise levels, which no objective here can continue"
    why_not = f"{header.path.name} {reason}." if reason else ""
    return Kind(name, why_not, prediction, zero_terminal)


def _refuse_other_formats(path: Path, start: bytes, size: int) -> None:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if size == 0:
        what = "is empty (0 bytes): the download or copy never finished"
    elif text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        what = "is a web page saved under this name: the download needs a login or another link"
    elif start.startswith(b"version https://git-lfs"):
        what = "is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"
    elif text.startswith(b"{"):
        what = "is a JSON text, probably an error message of the download: fetch the file again"
    elif start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        what = "is a pickled PyTorch checkpoint (.ckpt), which can run code when opened: use its .safetensors version"
    elif start.startswith(b"GGUF"):
        what = "is a quantized GGUF model, which cannot be trained: use the original .safetensors file"
    elif not start.strip(b"\0"):
        what = "holds only zeros where its header should be: the download never finished"
    elif size < 10:
        what = f"is cut short: {size} bytes are too few for a safetensors file"
    else:
        return
    raise CheckpointError(f"{path} {what}")


def _parse(path: Path, text: bytes, size: int) -> Header:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: its header is not JSON") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{path} is not a safetensors file: its header is not a table")
    metadata = table.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path} has a damaged header: its metadata must map texts to texts")
    data_start = 8 + len(text)
    tensors = {name: _tensor(path, name, info, data_start) for name, info in table.items()}
    header = Header(path, metadata, tensors, size)
    _check_offsets(header, data_start)
    return header


def _tensor(path: Path, name: str, info: Any, data_start: int) -> TensorInfo:
    try:
        shape, (start, end), dtype = tuple(info["shape"]), info["data_offsets"], info["dtype"]
        numbers = [*shape, start, end]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has a damaged header: the entry of {name} is malformed") from error
    if any(type(number) is not int or number < 0 for number in numbers):
        raise CheckpointError(f"{path} has a damaged header: {name} has a shape or offset that is no natural number")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise CheckpointError(f"{path} stores {name} as {dtype}, which is not a number type known here")
    if end - start != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise CheckpointError(
            f"{path} has a damaged header: {name} occupies {end - start:,} bytes, not what its shape says"
        )
    return TensorInfo(dtype, shape, (Piece(path, data_start + start, end - start),))


def _check_offsets(header: Header, data_start: int) -> None:
    position = data_start
    runs = [(info.pieces[0].start, info.bytes, name) for name, info in header.tensors.items()]
    for start, length, name in sorted(runs):
        if start != position:
            what = "overlaps the tensor before it" if start < position else "leaves a gap before it"
            raise CheckpointError(f"{header.path} has a damaged header: {name} {what}")
        position = start + length
    if position > header.size:
        raise CheckpointError(
            f"{header.path} is cut short: {header.size - data_start:,} of {position - data_start:,} bytes of tensors "
            "are there; fetch it again"
        )
    if position < header.size:
        raise CheckpointError(f"{header.path} has {header.size - position:,} bytes too many after its last tensor")


def _prediction(header: Header) -> tuple[PredictionType, bool]:
    marked, zero_terminal = _markers(header.tensors)
    if marked in ("edm", "edm_v"):  # never ours, whatever else was kept from the file it was made from
        return marked, zero_terminal
    match header.metadata.get(PREDICTION_KEY):
        case "v_prediction":
            return "v_prediction", "ztsnr" in header.tensors
        case "epsilon" | "flow" as said:
            return said, False
        case _:
            return marked, zero_terminal


def _markers(names: Mapping[str, TensorInfo]) -> tuple[PredictionType, bool]:
    if "edm_mean" in names or "edm_std" in names:
        return "edm", False
    if "edm_vpred.sigma_max" in names:
        return "edm_v", False
    if "v_pred" in names:
        return "v_prediction", "ztsnr" in names
    return "epsilon", False


def _family(header: Header) -> tuple[str, str]:
    """(name, why it cannot be trained here: "" or the rest of a sentence that starts with the file's name)."""
    names = header.tensors
    if not names:
        return "nothing", "holds no tensors"
    if any(part in name for name in names for part in ("lora_", "lokr_", "hada_w", "oft_")):
        return "an adapter", "is an adapter (LoRA or the like), not a checkpoint: merge it into its base first"
    if _has(names, "double_blocks.", "single_blocks."):
        return "a FLUX-like model", "is a FLUX-like transformer, not SDXL"
    if _has(names, "joint_blocks."):
        return "Stable Diffusion 3", "is Stable Diffusion 3, not SDXL"
    if "down_blocks.0.resnets.0.conv1.weight" in names or "unet.conv_in.weight" in names:
        return "a diffusers UNet", "is a UNet with diffusers names, without VAE and text encoders: use the single file"
    if any(name.startswith("cond_stage_model.") for name in names):
        return "Stable Diffusion 1 or 2", "is Stable Diffusion 1 or 2, not SDXL: only SDXL can be trained here"
    if not any(name.startswith(UNET_PREFIX) for name in names):
        return "no UNet", f"holds no UNet ({next(iter(names))} ...): choose a whole SDXL checkpoint"
    return _sdxl(header)


def _sdxl(header: Header) -> tuple[str, str]:
    names = header.tensors
    first = names.get(UNET_PREFIX + "input_blocks.0.0.weight")
    channels = first.shape[1] if first is not None and len(first.shape) == 4 else 0
    if any(name.startswith("conditioner.embedders.0.model.") for name in names):
        return "SDXL refiner", "is the SDXL refiner, which has another layout: choose an SDXL base checkpoint"
    if UNET_PREFIX + "label_emb.0.0.weight" not in names:
        return "a UNet without size conditioning", "has a UNet without SDXL's size conditioning: it is not SDXL"
    if channels != 4:
        return f"SDXL with {channels} input channels", (
            f"takes {channels} input channels, not 4 (an inpainting or edit model): choose a plain SDXL checkpoint"
        )
    try:
        read_topology(names)
    except ValueError as error:
        return "a pruned SDXL", f"has not SDXL's arrangement of blocks ({error}): it may be a pruned model"
    for prefix, what in (
        (VAE_PREFIX, "VAE"),
        (TEXT_PREFIX, "first text encoder"),
        (TEXT_2_PREFIX, "second text encoder"),
    ):
        if not any(name.startswith(prefix) for name in names):
            return "an incomplete SDXL", f"lacks the {what}: choose a whole SDXL checkpoint"
    return "SDXL base", ""


def _has(names: Mapping[str, TensorInfo], *parts: str) -> bool:
    return any(part in name for name in names for part in parts)
