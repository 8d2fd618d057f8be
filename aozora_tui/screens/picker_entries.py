"""What lies in a folder, and what of it is a checkpoint: for the file picker's threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from aozora_tui.text import printable, size

MOST_ENTRIES = 20_000
THIS = "./"  # the folder that is shown, as an entry of its own
_known: dict[tuple[str, int, int], tuple[str, ...]] = {}  # by path, time and size


@dataclass(frozen=True)
class Entry:
    """`name` of a folder ends in a slash. `bytes` are 0 for a folder."""

    name: str
    bytes: int = 0

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


def list_folder(folder: Path, suffixes: tuple[str, ...] | None) -> list[Entry]:
    """Folders first, then the files that end in one of `suffixes`, none where that is None; without hidden ones. Raises
    OSError."""
    found: list[Entry] = []
    with os.scandir(folder) as listed:
        for entry in listed:
            if entry.name.startswith(".") or len(found) >= MOST_ENTRIES:
                continue
            if entry.is_dir():
                found.append(Entry(f"{entry.name}/"))
            elif suffixes is not None and entry.name.lower().endswith(suffixes):
                found.append(Entry(entry.name, _size(entry)))
    return sorted(found, key=lambda entry: (not entry.is_folder, entry.name.lower(), entry.name))


def about_file(path: Path) -> tuple[str, ...]:
    """Lines that say what a checkpoint is: its family, what it predicts, its size, and why it cannot be trained if so.
    Reads the header alone, and that once as long as the file stays the same."""
    from aozora_tui.inspect_file import inspect
    from engine.contract.safetensors_header import CheckpointError

    try:
        stat = path.stat()
        key = (str(path), stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        return (f"{path.name} cannot be read: {error.strerror or error}",)
    if key not in _known:
        try:
            found = inspect(path)
        except CheckpointError as error:
            _known[key] = (f"{error}.",)
        else:
            snr = ", zero terminal SNR" if found.zero_terminal_snr else ""
            predicts = f"predicts {found.prediction_type}{snr} ({found.announced_by})"
            kept = {name: 0 for part in found.parts for name in part.dtypes}
            first = f"{found.architecture}, {size(found.bytes)}, {', '.join(kept)}"
            parts = ", ".join(part.name for part in found.parts)
            last = f"cannot be trained here: {found.why_not}" if found.why_not else f"holds {parts}"
            _known[key] = tuple(printable(line) for line in (first, predicts, last))
    return _known[key]


def is_diffusers(folder: Path) -> bool:
    """Whether a folder is a checkpoint by itself."""
    return (folder / "model_index.json").is_file()


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0
