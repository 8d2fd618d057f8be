"""A published SDXL checkpoint, read lazily: whatever files it lies in, under its published names."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from engine.contract import fingerprints
from engine.contract.atomic import Entry
from engine.contract.base_checkpoint import read_base
from engine.contract.checkpoint_kind import Kind, identify
from engine.contract.fingerprints import Part
from engine.contract.safetensors_header import (
    TEXT_2_PREFIX,
    TEXT_PREFIX,
    VAE_PREFIX,
    CheckpointError,
    Header,
    Piece,
    reading,
)
from engine.contract.unet_names import unet_names
from engine.model.convert import LazyState, text_2_state, text_state, vae_state

_MAP_NORESERVE = 0x4000  # Linux's, on every processor; Python's mmap module does not name it
TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_WORDS = {dtype: word for word, dtype in TORCH_DTYPES.items()}


class BaseChangedError(CheckpointError):
    """A file of a checkpoint is no longer what it was when it was opened."""


class Files:
    """The files of a checkpoint, `paths` opened now and others at their first use, each mapped once. What is read from
    them stays valid for as long as it is referred to.

    Bytes written into a mapped file show in what was read before, and reading what was cut off kills the process. So
    every read looks whether the file is as it was when it was opened. The open file, not its name: one that another
    file took the name of is still there, untouched.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._opened = {path: _OpenFile(path) for path in paths}

    def whole(self, path: Path) -> memoryview:
        """A view of the mapped file, nothing copied. Raises BaseChangedError."""
        if path not in self._opened:
            self._opened[path] = _OpenFile(path)
        return self._opened[path].view()

    def bytes_of(self, piece: Piece) -> memoryview:
        """The same of a run of bytes, which must be there: the header may have been read some time before."""
        view = self.whole(piece.path)[piece.start : piece.start + piece.bytes]
        if len(view) < piece.bytes:
            raise _changed(piece.path)
        return view

    def require_unchanged(self) -> None:
        """Raises BaseChangedError, naming the file, if one was written to since it was opened."""
        for file in self._opened.values():
            file.require_unchanged()


class _OpenFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self._stamp = self._now()
        self._mapped: mmap.mmap | None = None

    def view(self) -> memoryview:
        self.require_unchanged()
        if self._mapped is None:
            # Private and writable, which torch insists on; nothing here writes, so nothing need be reserved.
            flags, access = mmap.MAP_PRIVATE | _MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
            self._mapped = mmap.mmap(self._descriptor, 0, flags=flags, prot=access)
        return memoryview(self._mapped)

    def require_unchanged(self) -> None:
        if self._now() != self._stamp:
            raise _changed(self._path)

    def _now(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns


def _changed(path: Path) -> BaseChangedError:
    return BaseChangedError(
        f"{path} was changed while it was in use: put it back as it was, then resume or start again"
    )


@dataclass(frozen=True)
class Checkpoint:
    """An SDXL base. Tensors are mapped from its files when asked for, in their own dtype; a tensor that is one run of
    bytes is not copied. Whoever wants to keep one beyond a change of the file copies it. All that reads raises
    BaseChangedError."""

    path: Path
    header: Header
    kind: Kind
    files: Files = field(default_factory=Files, compare=False)

    def tensor(self, name: str) -> Tensor:
        """The tensor published as `name`. Raises KeyError."""
        info = self.header.tensors[name]
        dtype = TORCH_DTYPES[info.dtype]
        if not info.elements:
            return torch.empty(info.shape, dtype=dtype)
        flat = [torch.frombuffer(self.files.bytes_of(piece), dtype=dtype) for piece in info.pieces]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat)
        return joined.view(info.shape[::-1]).mT if info.transposed else joined.view(info.shape)

    def tensors(self, prefix: str) -> LazyState:
        """{published name without `prefix`: tensor}."""
        names = [name for name in self.header.tensors if name.startswith(prefix)]
        return LazyState({name.removeprefix(prefix): partial(self.tensor, name) for name in names})

    def unet(self) -> LazyState:
        """State of the UNet, diffusers names."""
        names = unet_names(self.header.tensors)
        return LazyState({diffusers: partial(self.tensor, name) for name, diffusers in names.items()})

    def vae(self) -> LazyState:
        """State of an AutoencoderKL."""
        return vae_state(self.tensors(VAE_PREFIX))

    def text_encoder(self) -> LazyState:
        """State of the first encoder, a CLIPTextModel."""
        return text_state(self.tensors(TEXT_PREFIX))

    def text_encoder_2(self) -> LazyState:
        """State of the second encoder, a CLIPTextModelWithProjection."""
        return text_2_state(self.tensors(TEXT_2_PREFIX))


def open_checkpoint(path: Path, vae: Path | None = None) -> Checkpoint:
    """A file or a diffusers folder, with the VAE of another file or folder if one is named. All its files are opened:
    from here on a change of one is found out.

    Raises CheckpointError, in one sentence, unless that is a whole SDXL base checkpoint.
    """
    header = read_base(path, vae)
    kind = identify(header)
    if not kind.trainable:
        raise CheckpointError(kind.why_not)
    with reading(path):
        files = Files({piece.path: None for info in header.tensors.values() for piece in info.pieces})
    return Checkpoint(path, header, kind, files)


def raw(checkpoint: Checkpoint, name: str) -> memoryview:
    """The bytes of a published tensor as they would stand in a single file."""
    info = checkpoint.header.tensors[name]
    if not info.elements:
        return memoryview(b"")
    if info.transposed or len(info.pieces) > 1:
        return tensor_bytes(checkpoint.tensor(name))
    return checkpoint.files.bytes_of(info.pieces[0])


def fingerprint(checkpoint: Checkpoint, part: Part) -> str:
    """What `fingerprints.fingerprint` says of it. Raises BaseChangedError."""
    return fingerprints.fingerprint(checkpoint.header, part, lambda name: (raw(checkpoint, name),))


def tensor_entry(name: str, tensor: Tensor) -> Entry:
    """An entry for `write_safetensors` that copies `tensor` to host memory only when it is written."""
    return Entry(name, DTYPE_WORDS[tensor.dtype], tuple(tensor.shape), lambda: tensor_bytes(tensor))


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The tensor's bytes, row-major, on the host; dtypes that numpy lacks included."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
