"""Encoded pictures and captions on disk: one small file each, named by content, verified at every read; see `items`.

Several runs may share a folder: an entry appears whole or not at all, and whoever writes it last is as right.
"""

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from engine.contract.atomic import Interrupted, free_bytes, never, write_atomically
from engine.contract.folder import shown
from engine.contract.items import Captioned, Item, Kind, entry_path

Named = TypeVar("Named", bound=Captioned)

_TEMPORARY = re.compile(r"\.(\d+)-\d+\.tmp$")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MINUTE = 60.0
_DAY = 24 * 60 * _MINUTE


class CacheError(Exception):
    """The cache cannot give or keep something. `text` says what, `remedy` what the person can do about it."""

    def __init__(self, code: str, text: str, remedy: str) -> None:
        super().__init__(f"{text}. {remedy}")
        self.code, self.text, self.remedy = code, text, remedy


class Cache:
    """Opening one removes what killed writers left behind. Raises CacheError when the folder cannot be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)

    def latents_path(self, item: Item) -> Path:
        return entry_path(self.folder, "latents", item.latents_key)

    def text_path(self, item: Captioned) -> Path:
        return entry_path(self.folder, "text", item.text_key)

    def missing_latents(
        self,
        items: Iterable[Item],
        *,
        verify: bool = True,
        should_stop: Callable[[], bool] = never,
        report: Callable[[CacheError], None] = lambda _: None,
    ) -> tuple[Item, ...]:
        """One item for each picture that has to be encoded. With `verify` every entry is read and checked, about a
        gigabyte a second; a damaged one is removed, reported and missing. Without, damage surfaces when it is drawn.
        Raises Interrupted."""
        paths = {self.latents_path(item): item for item in items}
        return _absent("latents", paths, verify=verify, should_stop=should_stop, report=report)

    def missing_text(
        self,
        items: Iterable[Named],
        *,
        verify: bool = True,
        should_stop: Callable[[], bool] = never,
        report: Callable[[CacheError], None] = lambda _: None,
    ) -> tuple[Named, ...]:
        """As `missing_latents`, for captions."""
        paths = {self.text_path(item): item for item in items}
        return _absent("text", paths, verify=verify, should_stop=should_stop, report=report)

    def load_latents(self, item: Item) -> torch.Tensor:
        """(4, h, w) float32. Raises CacheError, naming the picture, when the entry is missing or damaged; a damaged one
        is removed, so that the next start encodes it again."""
        return _load("latents", self.latents_path(item), item.name)["latents"]

    def load_posterior(self, item: Item) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation, each (4, h, w) float32, of an item encoded to be sampled. Raises as
        `load_latents`."""
        tensors = _load("latents", self.latents_path(item), item.name)
        return tensors["latents"], tensors["std"]

    def load_text(self, item: Captioned) -> tuple[torch.Tensor, torch.Tensor]:
        """prompt_embeds (77n, C) and pooled_prompt_embeds (P,). Raises as `load_latents`."""
        tensors = _load("text", self.text_path(item), item.name)
        return tensors["prompt_embeds"], tensors["pooled_prompt_embeds"]

    def store_latents(self, item: Item, latents: torch.Tensor, std: torch.Tensor | None = None) -> None:
        """Raises CacheError when the disk is full or refuses."""
        self._store(self.latents_path(item), {"latents": latents} | ({} if std is None else {"std": std}))

    def store_text(self, item: Captioned, prompt_embeds: torch.Tensor, pooled_prompt_embeds: torch.Tensor) -> None:
        """Raises CacheError when the disk is full or refuses."""
        tensors = {"prompt_embeds": prompt_embeds, "pooled_prompt_embeds": pooled_prompt_embeds}
        self._store(self.text_path(item), tensors)

    def _store(self, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
        data = _pack(tensors, path.stem)

        def write(file: BinaryIO) -> None:
            file.write(data)

        with writing(self.folder):
            write_atomically(path, write)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns whatever a refused write raises into a CacheError of one sentence and a remedy."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in _NO_SPACE:
            text = f"the disk of the cache, {shown(folder)}, is full ({free_bytes(folder) / 2**20:.1f} MiB free)"
            remedy = "Make room there or set data.cache to another disk; what is encoded already stays."
            raise CacheError("cache_full", text, remedy) from error
        why = error.strerror if isinstance(error, OSError) else error
        text = f"the cache, {shown(folder)}, cannot be written ({why})"
        raise CacheError(
            "cache_unwritable", text, "Mend its permissions or set data.cache to another folder."
        ) from error


def _absent(
    kind: Kind,
    paths: Mapping[Path, Named],
    *,
    verify: bool,
    should_stop: Callable[[], bool],
    report: Callable[[CacheError], None],
) -> tuple[Named, ...]:
    absent: list[Named] = []
    for path, item in paths.items():
        if should_stop():
            raise Interrupted("the check of the cache was stopped")
        if not path.exists():
            absent.append(item)
        elif verify:
            try:
                _load(kind, path, item.name)
            except CacheError as error:
                report(error)
                absent.append(item)
    return tuple(absent)


def _load(kind: Kind, path: Path, name: str) -> dict[str, torch.Tensor]:
    what = f"the cached {'latents' if kind == 'latents' else 'caption encoding'} of {name}, {shown(path)},"
    again = "Start or resume the run: it will be encoded again."
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CacheError("cache_missing", f"{what} has disappeared", again) from None
    except OSError as error:
        text = f"{what} cannot be read ({error.strerror})"
        raise CacheError("cache_unreadable", text, "Check the disk, or set data.cache to another folder.") from error
    try:
        return _unpack(data, path.stem)
    except _DamagedError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise CacheError("cache_damaged", f"{what} was damaged ({error})", again) from error


class _DamagedError(Exception):
    """These bytes are not those that were written under this key."""


def _pack(tensors: Mapping[str, torch.Tensor], key: str) -> bytes:
    # Cloned, because the writer refuses views of one another, which encoders may well return.
    whole = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    header, data = _split(save(whole))
    packed: bytes = save(whole, {"key": key, "checksum": _checksum(header, data)})
    return packed


def _unpack(data: bytes, key: str) -> dict[str, torch.Tensor]:
    try:
        header, body = _split(data)
        metadata = header.pop("__metadata__")
        if metadata["key"] != key:
            raise _DamagedError("it belongs to another picture or caption")
        if metadata["checksum"] != _checksum(header, body):
            raise _DamagedError("its checksum does not match")
        return dict(load(data))
    except (ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise _DamagedError("it is cut short or not an entry") from error


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header and the tensor bytes of a safetensors file. Raises ValueError."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), memoryview(data)[end:]


def _checksum(header: Mapping[str, Any], data: memoryview) -> str:
    # The header counts too: bytes read under another dtype or shape would be another tensor.
    digest = blake2b(json.dumps(header, sort_keys=True).encode(), digest_size=20)
    digest.update(data)
    return digest.hexdigest()


def _sweep(folder: Path) -> None:
    """Removes temporary files whose writer is dead. A writer on another machine looks dead from here: the minute spares
    it, since an entry is written in milliseconds. The day is for a process number that someone else has by now."""
    for path in folder.glob("*/*/.*.tmp"):
        match = _TEMPORARY.search(path.name)
        with contextlib.suppress(FileNotFoundError):  # another run sweeps as well
            age = time.time() - path.stat().st_mtime
            if age > _DAY or (age > _MINUTE and match is not None and not _is_alive(int(match[1]))):
                path.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
