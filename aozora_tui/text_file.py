"""A small text file that others write too: read as they left it, written back as they spell it. No Textual."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from engine.contract.atomic import write_atomically
from engine.contract.profile import MOST_BYTES, NOTEPADS_MARK

Stamp = tuple[int, int, int]
_END = re.compile(r"\r\n|\r|\n")


class ReadOnlyError(PermissionError):
    """The file says of itself that it is not to be written."""


@dataclass(frozen=True)
class Found:
    """What the disk held at one moment: `raw` with the mark and the line ends that the file has; `stamp` says when it
    was written, None for what is on no disk."""

    raw: str
    stamp: Stamp | None = None

    @cached_property
    def text(self) -> str:
        """With plain line ends, and no mark."""
        return plain(self.raw)

    def spelt(self, text: str) -> str:
        """Another text as this file would hold it: its mark, and for each line the end that it has there; for one that
        is new the end that most lines have."""
        if text == self.text:
            return self.raw
        mark = NOTEPADS_MARK if self.raw.startswith(NOTEPADS_MARK) else ""
        ends = _END.findall(self.raw)
        usual = max(("\n", "\r\n", "\r"), key=ends.count)
        if len(set(ends)) < 2:
            return mark + text.replace("\n", usual)
        lines = text.split("\n")
        new = [usual] * (len(lines) - 1)  # what follows the last end is no line, or has none
        compared = difflib.SequenceMatcher(None, self.text.split("\n"), lines, autojunk=False)
        for kind, old, old_end, at, at_end in compared.get_opcodes():
            if kind == "equal" or (kind == "replace" and old_end - old == at_end - at):
                known = ends[old:old_end][: len(new) - at]
                new[at : at + len(known)] = known
        found = mark + "".join(line + end for line, end in zip(lines, [*new, ""], strict=True))
        # An empty line's end may have come to stand right after another, and be taken for a part of that.
        return found if plain(found) == text else mark + text.replace("\n", usual)


def plain(text: str) -> str:
    """Without the mark that some editors put before a text, and with plain line ends: as the engine reads it."""
    return text.removeprefix(NOTEPADS_MARK).replace("\r\n", "\n").replace("\r", "\n")


def read(path: Path) -> Found:
    """Raises OSError, and UnicodeDecodeError if it is no text. What somebody writes meanwhile changes the stamp."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no file")  # a pipe would keep its reader waiting
    if found.st_size > MOST_BYTES:
        raise OSError(f"it has {found.st_size:,} bytes")
    return Found(path.read_bytes().decode("utf-8"), _stamp(found))


def stamp_of(path: Path) -> Stamp | None:
    """Another one says that somebody wrote; None: there is no such file. Raises OSError if that cannot be known."""
    try:
        return _stamp(path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(path: Path, raw: str, *, before: Callable[[], object], read_only: bool = False) -> Found:
    """Write a file whole or not at all; `before` is called when only the last, short act is left to be done, and what
    it raises ends it. A link stays a link. A file with several names keeps them: it alone is written in its place.

    Returns what was written; who has written since then has another stamp. Raises ReadOnlyError, unless `read_only`
    says to write it all the same, and OSError.
    """
    try:
        target = path.resolve()
    except RuntimeError:
        raise OSError(f"{path} is a link that leads to itself") from None
    try:
        there = target.stat()
    except FileNotFoundError:
        there = None
    if there is not None and not read_only and not (there.st_mode & 0o222 and os.access(target, os.W_OK)):
        raise ReadOnlyError(f"{path.name} is read-only")
    data = raw.encode()
    if there is not None and there.st_nlink > 1:
        before()
        return Found(raw, _write_in_place(target, data))
    stamps: list[Stamp | None] = []

    def fill(file: BinaryIO) -> None:
        file.write(data)

    def last_look(temporary: Path) -> None:
        before()
        stamps.append(stamp_of(temporary))

    write_atomically(target, fill, check=last_look)
    return Found(raw, stamps[0])


def _write_in_place(target: Path, data: bytes) -> Stamp:
    """A profile is so small that it goes to the disk in one piece; where the disk refuses, the old text stays."""
    with target.open("r+b") as file:
        old = file.read()
        try:
            _put(file, data)
        except OSError:
            with contextlib.suppress(OSError):
                _put(file, old)
            raise
        return _stamp(os.fstat(file.fileno()))


def _put(file: BinaryIO, data: bytes) -> None:
    file.seek(0)
    file.write(data)
    file.truncate()
    file.flush()
    os.fsync(file.fileno())


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_size, found.st_ino
