"""A run's log as lines, however long: what a terminal would have shown of what libraries wrote. No Textual."""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

BLOCK = 4 << 20  # bytes taken in by one read
LONGEST = 1 << 14  # bytes of one line that are looked at, from its end: a progress bar may redraw itself for days
CHUNK = 2000  # lines searched between two looks at whether anybody still waits
TAB = 8
_STEERING = re.compile(r"\x1b\[([0-9;?]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|[\x00-\x1f\x7f-\x9f]")


class Level(IntEnum):
    """How loud a line is, judged by its words: libraries write in many forms."""

    PLAIN = 0
    WARNING = 1
    ERROR = 2


# What a loud line has somewhere: found in a block far faster than the pattern that then judges the line.
_SIGNS = (b"rror", b"ERROR", b"arning", b"WARN", b"xception", b"CRITICAL", b"FATAL", b"fatal:", b"raceback (")
_LOUD = re.compile(
    rb"(?P<error>\b(?:ERROR|CRITICAL|FATAL)\b|\b[A-Z]\w*(?:Error|Exception)\b|\bTraceback \(|^\s*[Ee]rror:|\bfatal:)"
    rb"|\bWARN(?:ING)?\b|\b[A-Z]\w*Warning\b|^\s*[Ww]arning:"
)


def _opened(path: Path) -> BinaryIO:
    """Raises FileNotFoundError if it is not there, OSError for what would keep its reader waiting, as a pipe."""
    if path.exists() and not path.is_file():
        raise OSError(None, "it is no file", str(path))
    return path.open("rb")


class Tail:
    """The last lines of a growing file, for a glance: of a long one its beginning is never read."""

    def __init__(self, path: Path, *, window: int = 1 << 16) -> None:
        self.path, self.window = path, window
        self._size = -1

    def read(self, count: int) -> list[str] | None:
        """The last lines; None if nothing was appended since the last call."""
        if not self.path.is_file():
            return None
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size == self._size:
                    return None
                self._size = size
                file.seek(max(0, size - self.window))
                raw = file.read(self.window)
        except FileNotFoundError:
            return None
        return [line for part in raw.split(b"\n") if (line := shown(part))][-count:]


class LogText:
    """A growing text file by the offsets of its lines; only what is asked for is read again. A file that shrank is
    another one, and is read anew. What nobody ended with a newline yet is the last line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.starts: array[int] = array("Q")
        self.levels = bytearray()
        self.end = 0  # bytes taken in
        self._open = False  # whether the last line still has no newline

    def __len__(self) -> int:
        return len(self.starts)

    def read(self, limit: int = BLOCK) -> bool:
        """Take in at most `limit` of the bytes that were appended; whether anything changed. Raises OSError for what
        cannot be read; a file that is not there is empty."""
        try:
            with _opened(self.path) as file:
                size = os.fstat(file.fileno()).st_size
                if shrank := size < self.end:
                    self.forget()
                if size == self.end:
                    return shrank
                file.seek(self.end)
                self._take(file.read(limit))
                return True
        except FileNotFoundError:
            gone = bool(self.starts)
            self.forget()
            return gone

    def lines(self, first: int, count: int) -> list[str]:
        """Lines as they are shown, fewer where there are no more."""
        with self._opened() as file:
            return [shown(self._raw(file, index)) for index in range(max(first, 0), min(first + count, len(self)))]

    def find(
        self, pattern: re.Pattern[str], start: int, *, back: bool, wanted: Callable[[], bool] = lambda: True
    ) -> int | None:
        """The first line from `start` on, or back, that the pattern is found in, going round the ends; None if there is
        none, or once nobody has `wanted` it any more."""
        total = len(self)
        if not total:
            return None
        spans = [(0, start + 1), (start + 1, total)] if back else [(start, total), (0, start)]
        with self._opened() as file:
            for low, high in spans:
                for begin, end in _chunks(low, high, back=back):
                    if not wanted():
                        return None
                    order = range(begin, end)
                    if self._may_match(file, pattern, begin, end):
                        for index in reversed(order) if back else order:
                            if pattern.search(shown(self._raw(file, index))):
                                return index
        return None

    def count(self, pattern: re.Pattern[str], *, wanted: Callable[[], bool] = lambda: True) -> list[int]:
        """Every line that the pattern is found in; as far as it got when nobody `wanted` it any more."""
        found: list[int] = []
        with self._opened() as file:
            for begin, end in _chunks(0, len(self), back=False):
                if not wanted():
                    break
                if self._may_match(file, pattern, begin, end):
                    lines = ((index, shown(self._raw(file, index))) for index in range(begin, end))
                    found += [index for index, line in lines if pattern.search(line)]
        return found

    def _take(self, block: bytes) -> None:
        begin = self.end
        if not self._open:
            self.starts.append(begin)
            self.levels.append(Level.PLAIN)
        at = block.find(b"\n")
        while at >= 0:
            self.starts.append(begin + at + 1)
            at = block.find(b"\n", at + 1)
        self.levels.extend(bytes(len(self.starts) - len(self.levels)))
        self._judge(block, begin)
        self.end = begin + len(block)
        self._open = not block.endswith(b"\n")
        if not self._open:  # the next line has not begun
            self.starts.pop()
            self.levels.pop()

    def _judge(self, block: bytes, begin: int) -> None:
        """The levels of the lines in `block`. A word that was torn by the end of a read is not seen."""
        for sign in _SIGNS:
            at = block.find(sign)
            while at >= 0:
                start = max(block.rfind(b"\n", 0, at) + 1, at - LONGEST)
                stop = block.find(b"\n", at)
                stop = len(block) if stop < 0 else stop
                found = _LOUD.findall(block[start : min(stop, at + LONGEST)])
                if found:
                    line = bisect_right(self.starts, begin + at) - 1
                    level = Level.ERROR if any(found) else Level.WARNING
                    self.levels[line] = max(self.levels[line], level)
                at = block.find(sign, stop)

    def _opened(self) -> BinaryIO:
        return self.path.open("rb") if self.starts else open(os.devnull, "rb")  # noqa: PTH123

    def _span(self, index: int) -> tuple[int, int]:
        return self.starts[index], self.starts[index + 1] if index + 1 < len(self.starts) else self.end

    def _raw(self, file: BinaryIO, index: int) -> bytes:
        begin, end = self._span(index)
        begin = max(begin, end - LONGEST)
        file.seek(begin)
        return file.read(end - begin)

    def _may_match(self, file: BinaryIO, pattern: re.Pattern[str], begin: int, end: int) -> bool:
        """False only if none of these lines has it: most can be judged together."""
        start, stop = self._span(begin)[0], self._span(end - 1)[1]
        if stop - start > BLOCK:
            return True
        file.seek(start)
        raw = file.read(stop - start)
        if b"\r" in raw or b"\x1b" in raw or b"\t" in raw or b"\b" in raw or pattern.flags & re.MULTILINE == 0:
            return True
        return pattern.search(raw.decode("utf-8", "replace")) is not None


def _chunks(low: int, high: int, *, back: bool) -> Iterator[tuple[int, int]]:
    begins = range(low, high, CHUNK)
    return ((begin, min(begin + CHUNK, high)) for begin in (reversed(begins) if back else begins))


def pattern_of(words: str) -> re.Pattern[str]:
    """A regular expression, or the words as they are where they are none; capitals count once one is typed."""
    flags = re.MULTILINE | (0 if any(char.isupper() for char in words) else re.IGNORECASE)
    try:
        return re.compile(words, flags)
    except (re.error, OverflowError, RecursionError):
        return re.compile(re.escape(words), flags)


def shown(raw: bytes) -> str:
    """What stands on a line of a terminal at the end: carriage returns write over it, backspaces go back, the line may
    be erased. A move up is taken for a return: nested progress bars end as the last of them. Colours are left out."""
    text = raw.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    if text.isprintable():
        return text.rstrip()
    cells: list[str] = []
    column, at = 0, 0
    for found in _STEERING.finditer(text):
        column = _write(cells, column, text[at : found.start()])
        column = _steer(cells, column, found)
        at = found.end()
    _write(cells, column, text[at:])
    line = "".join(cells).rstrip()
    return line if line.isprintable() else "".join(map(_visible, line))


def _visible(char: str) -> str:
    """Blanks of other kinds are blanks; what is neither seen nor a blank may not reach the terminal."""
    return char if char.isprintable() else " " if char.isspace() else "\ufffd"


def _write(cells: list[str], column: int, text: str) -> int:
    if column > len(cells):
        cells.extend(" " * (column - len(cells)))
    cells[column : column + len(text)] = text
    return column + len(text)


def _steer(cells: list[str], column: int, found: re.Match[str]) -> int:
    """Obey what is no letter; where the next one goes."""
    sign, numbers, final = found[0], found[1] or "", found[2]
    number = int(numbers) if numbers.isdecimal() and len(numbers) < 5 else 0
    if sign == "\r" or final in ("A", "F"):
        return 0
    if sign == "\b":
        return max(column - 1, 0)
    if sign == "\t":
        return (column // TAB + 1) * TAB
    if final == "K":
        if number == 0:
            del cells[column:]
        else:
            cells[: len(cells) if number == 2 else column + 1] = " " * (len(cells) if number == 2 else column + 1)
        return column
    if final == "G":
        return min(max(number, 1), LONGEST) - 1
    if final == "C":
        return min(column + max(number, 1), LONGEST)
    if final == "D":
        return max(column - max(number, 1), 0)
    return column
