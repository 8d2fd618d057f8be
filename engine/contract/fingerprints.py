"""What a part of a checkpoint is, as one number: it names the encodings that were made with it."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from engine.contract.atomic import DTYPE_BYTES, Interrupted, never
from engine.contract.part_names import NOT_LOADED
from engine.contract.safetensors_header import (
    TEXT_2_PREFIX,
    TEXT_PREFIX,
    VAE_PREFIX,
    CheckpointError,
    Header,
    TensorInfo,
)
from engine.contract.unet_names import UNET_PREFIX

Part = Literal["unet", "vae", "text"]
Data = bytes | memoryview

_PARTS: dict[Part, tuple[str, ...]] = {
    "unet": (UNET_PREFIX,),
    "vae": (VAE_PREFIX,),
    "text": (TEXT_PREFIX, TEXT_2_PREFIX),
}
_NOT_LOADED = (TEXT_PREFIX + NOT_LOADED[0], TEXT_2_PREFIX + NOT_LOADED[1])
_AT_ONCE = 1 << 23


def fingerprint(header: Header, part: Part, read: Callable[[str], Iterable[Data]]) -> str:
    """Hex digest of a part's names, dtypes, shapes and bytes; the order, the files it lies in and the rest of the
    checkpoint do not matter, nor do tensors that no module loads: diffusers folders lack them. `read` gives a
    tensor's bytes as they would stand in a single file, in as many pieces as it likes."""
    digest = hashlib.blake2b(digest_size=32)
    for name in sorted(tensors_of(header, part)):
        info = header.tensors[name]
        digest.update(f"{name}\0{info.dtype}\0{info.shape}\0".encode())
        for data in read(name):
            digest.update(data)
    return digest.hexdigest()


def tensors_of(header: Header, part: Part) -> list[str]:
    """The names of what is loaded of a part."""
    return [name for name in header.tensors if name.startswith(_PARTS[part]) and name not in _NOT_LOADED]


def tensor_data(
    info: TensorInfo,
    *,
    should_stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Data]:
    """A tensor's bytes out of its files, 8 MiB at once; `progress(bytes)` after each. Raises Interrupted, OSError, and
    CheckpointError for a file that was cut short since its header was read."""
    if not info.transposed:
        yield from _file_data(info, should_stop, progress)
        return
    rows, _ = info.shape  # only matrices are turned, and those are small
    data = b"".join(_file_data(info, should_stop, progress))
    # Byte by byte, since a stride cannot step over several at once.
    width = DTYPE_BYTES[info.dtype]
    for row in range(rows):
        one = bytearray(len(data) // rows)
        for byte in range(width):
            one[byte::width] = data[row * width + byte :: rows * width]
        yield bytes(one)


def _file_data(info: TensorInfo, should_stop: Callable[[], bool], progress: Callable[[int], None]) -> Iterator[bytes]:
    for piece in info.pieces:
        with piece.path.open("rb") as file:
            file.seek(piece.start)
            left = piece.bytes
            while left:
                if should_stop():
                    raise Interrupted("reading the checkpoint was stopped")
                data = file.read(min(left, _AT_ONCE))
                if not data:
                    raise CheckpointError(f"{piece.path} has become shorter while it was read")
                left -= len(data)
                progress(len(data))
                yield data
