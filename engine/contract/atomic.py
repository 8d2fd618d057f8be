"""Files that are either complete or absent: written beside their target, synced, checked, then renamed over it."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# Bytes of one element of each dtype that a safetensors header may name.
DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NAME_MAX = 255


class NoSpaceError(OSError):
    """The disk has no room for a file; the text says how much is needed and how much there is."""


class Interrupted(Exception):  # noqa: N818 - a request that was obeyed, not an error
    """A write was given up because a stop was asked for; nothing of it is left on the disk."""


def never() -> bool:
    """Default for `should_stop`: no one asks."""
    return False


def free_bytes(path: Path) -> int:
    """Bytes that an unprivileged user may still write where `path` is, or will be (its nearest existing parent)."""
    folder = path.absolute()
    while not folder.exists():
        folder = folder.parent
    usage = os.statvfs(folder)
    return usage.f_bavail * usage.f_frsize


def require_free(path: Path, needed: int) -> None:
    """Raises NoSpaceError, with both numbers, unless `needed` bytes can be written at `path`."""
    free = free_bytes(path)
    if free < needed:
        raise NoSpaceError(
            errno.ENOSPC,
            f"not enough room to write {path.name}: it needs {_readable(needed)}, {path.parent} has "
            f"{_readable(free)} free; delete something there or choose another folder",
        )


def fsync_folder(folder: Path) -> None:
    """Makes the names in `folder` survive a power cut. File systems that cannot sync a folder are left alone."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def write_atomically(
    path: Path, write: Callable[[BinaryIO], None], *, check: Callable[[Path], None] | None = None
) -> Path:
    """Lets `write` fill `.NAME.<pid>-<thread>.tmp` beside the target, then renames it over the target.

    `check` may reopen the synced temporary file and raise. A symlink is followed, so the link stays and its target
    changes. An existing file keeps its mode; a new one gets 0666 & ~umask. A crash leaves the old file, or none, and at
    most one `*.tmp`. Returns the real path written. Raises NoSpaceError when the disk fills up, and whatever `write`
    and `check` raise; the temporary file is removed then.
    """
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        # os.open applies the umask; asking for the umask itself would change it for other threads.
        descriptor = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            if (mode := _mode(target)) is not None:
                with contextlib.suppress(PermissionError):  # some network and FAT mounts have no modes
                    os.fchmod(file.fileno(), mode)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(temporary)
        temporary.replace(target)
    except OSError as error:
        _remove(temporary)
        if error.errno in _NO_SPACE and not isinstance(error, NoSpaceError):
            text = _too_large(target) if error.errno == errno.EFBIG else _disk_full(target)
            raise NoSpaceError(error.errno, text) from error
        raise
    except BaseException:
        _remove(temporary)
        raise
    fsync_folder(target.parent)
    return target


def write_text(path: Path, text: str) -> Path:
    """`write_atomically` for a UTF-8 text."""
    return write_atomically(path, lambda file: _write_all(file, text.encode()))


@dataclass(frozen=True)
class Entry:
    """One tensor of a safetensors file to come: `data` is called once, when its turn comes, and gives its raw bytes
    (little endian, row-major). `dtype` is the format's own word: F32, BF16, I64 ..."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Callable[[], bytes | memoryview]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


def header_bytes(entries: Sequence[Entry], metadata: Mapping[str, str]) -> bytes:
    """The length-prefixed header of a safetensors file naming `entries` in that order. Same input, same bytes.

    The tensors' bytes are to follow in `layout(entries)` order.
    """
    import json

    header: dict[str, object] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    starts: dict[str, int] = {}
    offset = 0
    for entry in layout(entries):
        if entry.name in starts:
            raise ValueError(f"two tensors are named {entry.name}")
        starts[entry.name] = offset
        offset += entry.nbytes
    for entry in entries:
        offsets = [starts[entry.name], starts[entry.name] + entry.nbytes]
        header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format wants the data aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text


def layout(entries: Iterable[Entry]) -> list[Entry]:
    """Wide elements first, else the given order: readers that map the file need every tensor aligned to its dtype."""
    return sorted(entries, key=lambda entry: -DTYPE_BYTES[entry.dtype])


def write_safetensors(
    path: Path,
    entries: Iterable[Entry],
    metadata: Mapping[str, str],
    *,
    should_stop: Callable[[], bool] = never,
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Streams `entries` into a safetensors file, one tensor in memory at a time, as `write_atomically` does.

    The header names them in the order given. Free space is checked first. `should_stop` is polled before each tensor
    and raises Interrupted.
    """
    listed = list(entries)
    header = header_bytes(listed, metadata)
    require_free(path.resolve(), len(header) + sum(entry.nbytes for entry in listed))

    def write(file: BinaryIO) -> None:
        file.write(header)
        for entry in layout(listed):
            if should_stop():
                raise Interrupted(f"writing {path.name} was stopped; nothing of it was kept")
            data = memoryview(entry.data()).cast("B")
            if data.nbytes != entry.nbytes:
                raise ValueError(f"{entry.name} has {data.nbytes} bytes, its shape and dtype say {entry.nbytes}")
            _write_all(file, data)

    return write_atomically(path, write, check=check)


def _write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    # write(2) moves at most 2 GiB at once and a buffered file copes with that; slices also let a stop come through.
    view = memoryview(data)
    for start in range(0, len(view), 1 << 26):
        file.write(view[start : start + (1 << 26)])


def _temporary(target: Path) -> Path:
    suffix = f".{os.getpid()}-{threading.get_native_id()}.tmp"
    name = target.name.encode()[: _NAME_MAX - len(suffix) - 1].decode(errors="ignore")
    return target.with_name(f".{name}{suffix}")


def _mode(target: Path) -> int | None:
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return None


def _remove(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def _too_large(target: Path) -> str:
    return (
        f"{target.name} became larger than a file in {target.parent} may be, by a limit of the shell (`ulimit -f`) or "
        "of the file system; nothing was changed; lift the limit and try again"
    )


def _disk_full(target: Path) -> str:
    return (
        f"the disk filled up while {target.name} was being written ({target.parent} has "
        f"{_readable(free_bytes(target))} free); nothing was changed; make room there and try again"
    )


def _readable(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
