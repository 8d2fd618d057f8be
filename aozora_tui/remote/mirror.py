"""The folder of the cache that a run elsewhere is copied into. Its event file is always a beginning of the far one."""

from __future__ import annotations

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aozora_tui.remote.line import Line
from engine.contract import places
from engine.contract.rundir import RunDir

LIMIT = 1 << 18  # bytes of a file in one answer, so that a command never waits long
OVERLAP = 1 << 10  # bytes that are compared before more is put behind them
LOG_TAIL = 1 << 18  # of the log so much is copied at first
LARGEST_PICTURE = 1 << 26
_NOT_YET = 1 << 60
_COPIES = 9


@dataclass(frozen=True)
class FarFile:
    """`place` is device and inode: another one is another file."""

    place: str
    size: int
    time: int


def files_of(status: list[str]) -> dict[str, FarFile]:
    """What the far side says of the run's files."""
    found = {}
    for line in status:
        if line.startswith("s "):
            _, name, place, size, time = line.split(" ")
            found[name] = FarFile(place, int(size), int(time))
    return found


def facts_of(status: list[str]) -> dict[str, str]:
    """The rest of what it says: `owner`, `begun`, `kept`; empty where it does not know."""
    return {line.split(" ")[1]: line.split(" ", 2)[2] for line in status if line.startswith("k ")}


class Mirror:
    """Used by one thread at a time. Raises LostError with its line, OSError if nothing can be written here."""

    def __init__(self, run: RunDir) -> None:
        run.path.mkdir(parents=True, exist_ok=True)
        self.run = run
        self._places: dict[str, str] = {}
        self._copied: dict[str, FarFile] = {}
        # Behind the part of the log that is copied; only from the end of what was there at the beginning.
        self._log_offset: int | None = None
        run.log.unlink(missing_ok=True)

    @property
    def offset(self) -> int:
        """How much of the event file is here: after a crash too, for nothing else counts it."""
        return self.run.events.stat().st_size if self.run.events.exists() else 0

    def request(self, pid: int) -> str:
        log = _NOT_YET if self._log_offset is None else self._log_offset
        return f"p {pid} {self.offset} {log} {LIMIT}"

    def take(self, line: Line, files: dict[str, FarFile], data: dict[str, bytes]) -> bool:
        """Put what came behind what is here; whether all that there was is here now."""
        if not self._is_same(line, files.get("events.jsonl")):
            self._begin_anew()
            return False
        if block := data.get("events.jsonl"):
            _append(self.run.events, block)
        self._take_log(files.get("log.txt"), data.get("log.txt", b""))
        for name in ("run.json", "profile.toml"):
            self._copy(line, name, files.get(name))
        far = files.get("events.jsonl")
        return far is None or self.offset >= far.size

    def connected(self) -> None:
        """Nothing is known of the far files until they have been looked at again."""
        self._places.clear()

    def fetch(self, line: Line, path: str) -> None:
        """A picture of the run's `samples`. Raises ValueError with the reason if it cannot be had."""
        parts = PurePosixPath(path).parts
        if len(parts) < 2 or parts[0] != "samples" or ".." in parts or "\n" in path:
            raise ValueError("only pictures of its samples are fetched")
        reply = line.ask(f"r 0 {LARGEST_PICTURE} {path}")
        if reply.refused or path not in reply.data:
            raise ValueError(reply.refused or "it is empty")
        _replace(self.run.path / path, reply.data[path])

    def _is_same(self, line: Line, far: FarFile | None) -> bool:
        """Whether what is here is how the far file begins. A file that is gone for a moment takes nothing with it."""
        if far is None or self._places.get("events") == far.place:
            return far is None or far.size >= self.offset
        here, count = self.offset, min(self.offset, OVERLAP)
        if far.size < here:
            return False
        if count:
            reply = line.ask(f"r {here - count} {count} events.jsonl")
            with self.run.events.open("rb") as file:
                file.seek(here - count)
                if reply.data.get("events.jsonl") != file.read(count):
                    return False
        self._places["events"] = far.place
        return True

    def _begin_anew(self) -> None:
        """Another file, so that readers see that it is."""
        self._places.clear()
        _replace(self.run.events, b"")

    def _take_log(self, far: FarFile | None, block: bytes) -> None:
        if far is None:
            return
        changed = self._places.setdefault("log", far.place) != far.place
        if self._log_offset is None or changed or far.size < self._log_offset:
            self._places["log"] = far.place
            self._log_offset = max(far.size - LOG_TAIL, 0)
            left = f"[the first {self._log_offset:,} bytes are only there]\n" if self._log_offset else ""
            _replace(self.run.log, left.encode())
        elif block:
            _append(self.run.log, block)
            self._log_offset += len(block)

    def _copy(self, line: Line, name: str, far: FarFile | None) -> None:
        """A small file, whole, when it has changed."""
        if far is None or self._copied.get(name) == far:
            return
        reply = line.ask(f"r 0 {LIMIT} {name}")
        if name in reply.data:
            _replace(self.run.path / name, reply.data[name])
            self._copied[name] = far


def claim(host: str, name: str) -> tuple[RunDir, int]:
    """The folder for a run of `host`, and the descriptor that holds it: two that watch the same run must not write the
    same files. Raises OSError if there is none left."""
    parent = places.cache_folder() / "remote"
    for copy in range(1, _COPIES + 1):
        where = parent / (_plain(host) + (f"+{copy}" if copy > 1 else ""))
        where.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(where / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            continue
        return RunDir(where / name), descriptor
    raise OSError(f"{name} on {host} is watched {_COPIES} times already from here")


def _plain(host: str) -> str:
    return re.sub(r"[^\w@.-]+", "-", host).lstrip(".") or "host"


def _append(path: Path, block: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        view = memoryview(block)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)
