"""How much of the disk runs take, each looked through again only when it has changed. No Textual."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from aozora_tui.text import size

Stamp = tuple[int, ...]
_FOLDERS = ("", "/checkpoints", "/samples", "/exports")
_GROWING = ("/events.jsonl", "/log.txt")
_COARSE = 20  # bits of the length of what grows: less is no news where checkpoints have gigabytes


@dataclass(frozen=True, slots=True)
class Use:
    """`bytes` of every file, one that has two names counted once; `checkpoints` are those that are complete."""

    bytes: int
    checkpoints: int

    def __str__(self) -> str:
        many = "1 checkpoint" if self.checkpoints == 1 else f"{self.checkpoints or 'no'} checkpoints"
        return f"{size(self.bytes)}, {many}"


def of(folder: Path, should_stop: Callable[[], bool] = lambda: False) -> Use:
    """Of a run's folder; 0 bytes if it is gone. Links are counted, not followed. A run may hold thousands of pictures:
    the caller is a thread, or has time."""
    total, seen, waiting = 0, set[tuple[int, int]](), [str(folder)]
    while waiting and not should_stop():
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif (place := (found.st_dev, found.st_ino)) not in seen:
                        total += found.st_size
                        if found.st_nlink > 1:
                            seen.add(place)
        except OSError:  # gone meanwhile, or nobody may look
            continue
    return Use(total, _checkpoints(folder))


def stamp(folder: Path) -> Stamp:
    """Changes whenever something comes into the folder or goes."""
    found = []
    for name in (*_FOLDERS, *_GROWING):
        try:
            seen = os.stat(f"{folder}{name}")  # noqa: PTH116  (asked of every run in sight, again and again)
        except OSError:
            found.append(-1)
        else:
            found.append(seen.st_mtime_ns if stat.S_ISDIR(seen.st_mode) else seen.st_size >> _COARSE)
    return tuple(found)


class DiskUses:
    """Of runs, by the path of their folder. A thread calls `weigh`, for what `unknown` names."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Stamp, Use]] = {}

    def get(self, key: str) -> Use | None:
        """As it was when it was looked at last."""
        known = self._known.get(key)
        return known[1] if known else None

    def bytes(self, key: str) -> int | None:
        known = self._known.get(key)
        return known[1].bytes if known else None

    def unknown(self, keys: Iterable[str], *, fresh: bool = True) -> list[str]:
        """Those that were not looked through yet, and if `fresh` those that have changed since."""
        return [
            key for key in keys if (known := self._known.get(key)) is None or (fresh and known[0] != stamp(Path(key)))
        ]

    def take(self, key: str, seen: Stamp, use: Use) -> None:
        self._known[key] = (seen, use)


def _checkpoints(folder: Path) -> int:
    """What is still being written has an ending."""
    try:
        names = os.listdir(folder / "checkpoints")  # noqa: PTH208
    except OSError:
        return 0
    return sum(re.fullmatch(r"step-\d+", name) is not None for name in names)
