"""A safetensors file's table of contents: no tensor is loaded and nothing is unpickled."""

from __future__ import annotations

import contextlib
import json
import math
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.contract.atomic import DTYPE_BYTES

VAE_PREFIX = "first_stage_model."
TEXT_PREFIX = "conditioner.embedders.0.transformer.text_model."
TEXT_2_PREFIX = "conditioner.embedders.1.model."

PREDICTION_KEY = "aozora.prediction_type"  # in the metadata of our own exports

_MAX_HEADER = 100_000_000  # the format's own limit
# Far above any checkpoint's: SDXL's header has 300 kB, 2,515 tensors and at most 4 dimensions. A table made to stall
# its reader, or to fill memory, has more.
_LARGEST_HEADER = 1 << 24
_MOST_TENSORS = 100_000
_MOST_DIMENSIONS = 8
_NUMBERS = 1 << 63  # what lies below can be a size in a file; products of larger ones take long


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
    up one checkpoint. `size` is bytes on the disk in all. `scheduler` is what a diffusers folder says of its noise
    schedule, in diffusers' words; a single file has none."""

    path: Path
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]
    size: int
    scheduler: Mapping[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what the system says about `path`, or a file in it, into a CheckpointError of one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(f"{error.filename or path} does not exist: check the path") from error
    except IsADirectoryError as error:
        raise CheckpointError(f"{error.filename or path} is a folder: name a .safetensors file in it") from error
    except OSError as error:
        raise CheckpointError(f"{error.filename or path} cannot be read: {error.strerror}") from error


def read_header(path: Path) -> Header:
    """Raises CheckpointError, saying what the file is instead, unless it is a whole and consistent safetensors file.

    What is no regular file is never opened: a pipe would be waited for.
    """
    _require_file(path)
    with reading(path), path.open("rb") as file:
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
        if length > _LARGEST_HEADER:
            raise CheckpointError(f"{path} is not a checkpoint: its header alone has {length:,} bytes")
        file.seek(8)
        text = file.read(length)
    return _parse(path, text, size)


def _require_file(path: Path) -> None:
    with reading(path):
        try:
            mode = path.stat().st_mode
        except ValueError as error:  # a zero byte, or half a surrogate pair
            raise CheckpointError(f"{str(path)!r} names a file that cannot be") from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of a folder `reading` says more
        raise CheckpointError(f"{path} is not a file but a device, a pipe or a socket")


def _refuse_other_formats(path: Path, start: bytes, size: int) -> None:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if size == 0:
        what = "is empty (0 bytes): the download or copy never finished"
    elif text.startswith((b"<!doctype", b"<!--", b"<html", b"<head", b"<?xml")):
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
    table = _table(path, text)
    metadata = table.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path} has a damaged header: its metadata must map texts to texts")
    if len(table) > _MOST_TENSORS:
        raise CheckpointError(f"{path} is not a checkpoint: its header names {len(table):,} tensors")
    try:
        "".join((*table, *metadata, *metadata.values())).encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{path} has a damaged header: it holds a text that is not Unicode") from error
    data_start = 8 + len(text)
    tensors = {name: _tensor(path, name, info, data_start) for name, info in table.items()}
    header = Header(path, metadata, tensors, size)
    _check_offsets(header, data_start)
    return header


def _table(path: Path, text: bytes) -> dict[str, Any]:
    try:
        table = json.loads(text.decode("utf-8"))  # by itself json takes UTF-16 as well
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: its header is not JSON") from error
    except ValueError as error:  # Python reads no longer ones, which would take it long
        raise CheckpointError(f"{path} has a damaged header: it holds a number of thousands of digits") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{path} is not a safetensors file: its header is not a table")
    return table


def _tensor(path: Path, name: str, info: Any, data_start: int) -> TensorInfo:
    try:
        shape, (start, end), dtype = tuple(info["shape"]), info["data_offsets"], info["dtype"]
        numbers = [*shape, start, end]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has a damaged header: the entry of {name} is malformed") from error
    if len(shape) > _MOST_DIMENSIONS:
        raise CheckpointError(f"{path} has a damaged header: {name} has a shape of {len(shape):,} dimensions")
    if any(type(number) is not int or not 0 <= number < _NUMBERS for number in numbers):
        raise CheckpointError(
            f"{path} has a damaged header: {name} has a shape or offset that is no natural number below 2^63"
        )
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
