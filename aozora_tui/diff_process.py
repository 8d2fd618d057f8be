"""Comparing two checkpoints: the engine does it in a process of its own, since it takes torch."""

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from aozora_tui.engine_process import ENGINE, PACKAGES, environment
from aozora_tui.inspect_file import placed
from aozora_tui.text import printable, rate, size
from engine.contract import events
from engine.contract.comparison import Comparison, read_side

_LAST_WORDS = 8  # lines
_INTERRUPTED = 130
_WAKE_SECONDS = 0.5


class StatusLine:
    """One line on stderr that is written anew for each progress, and wiped at the end; nothing unless it is a terminal
    that can do that."""

    def __init__(self) -> None:
        able = os.environ.get("TERM", "dumb") != "dumb"
        self._stream = sys.stderr if able and sys.stderr is not None and sys.stderr.isatty() else None
        self._shown = ""

    def __enter__(self) -> "StatusLine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._put("")

    def show(self, event: events.Progress) -> None:
        """For example `comparing 3.1 GB of 13.9 GB  512 MB/s`."""
        if event.unit == "bytes":
            amount = f"{size(event.done)} of {size(event.total)}"
            pace = f"{size(round(event.rate))}/s" if event.rate else ""
        else:
            amount = f"{event.done} of {event.total} {event.unit}"
            pace = rate(event.rate)
        self._put(printable(f"{event.phase} {amount}  {pace}".rstrip()))

    def say(self, text: str) -> None:
        """Of what has no number."""
        self._put(printable(text))

    def _put(self, text: str) -> None:
        if self._stream is None or text == self._shown:
            return
        rest = " " * (len(self._shown) - len(text))
        self._stream.write(f"\r{text}{rest}" if text else f"\r{rest}\r")
        self._stream.flush()
        self._shown = text


def compare(
    a: Path,
    b: Path,
    *,
    every: bool,
    engine_command: Sequence[str] | None = None,
    progress: Callable[[events.Progress], None],
) -> tuple[Comparison, str]:
    """The result, and the JSON document it came as. Any exception, Ctrl-C too, ends the engine first.

    Raises CheckpointError, with one sentence, if a side cannot be read, and OSError if the engine fails otherwise.
    """
    paths = [placed(path).absolute() for path in (a, b)]
    for path in paths:
        read_side(path)  # what is wrong with a file is told at once, not after torch has been loaded
    command = [*(engine_command or ENGINE), "diff", *map(str, paths), *(["--all"] if every else [])]
    with tempfile.TemporaryFile() as result:  # a pipe of 64 KiB would have to be emptied while stderr is read
        last_words, code = _run(command, result.fileno(), progress)
        result.seek(0)
        document = result.read()
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code != 0:
        raise OSError("\n".join(last_words) or f"the comparison ended with exit code {code} and without a word")
    return msgspec.json.decode(document, type=Comparison), document.decode().rstrip("\n")


def _run(command: Sequence[str], output: int, progress: Callable[[events.Progress], None]) -> tuple[list[str], int]:
    """(its last words, exit code). In our own process group: Ctrl-C and Ctrl-Z at the keyboard reach it as well."""
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        cwd=PACKAGES,
        env=environment(),
    )
    last_words: list[str] = []
    try:
        assert child.stderr is not None
        for line in _lines(child.stderr.fileno()):
            event = events.decode(line)
            if isinstance(event, events.Progress):
                progress(event)
            elif line.strip():
                words = printable(line.decode(errors="replace").rstrip())
                last_words = [*last_words, words][-_LAST_WORDS:]
        return last_words, child.wait()
    finally:
        child.kill()
        child.wait()
        if child.stderr is not None:
            child.stderr.close()


def _lines(descriptor: int) -> Iterator[bytes]:
    """Until the other end closes. Never blocked for long: Python acts on a Ctrl-C that comes just before it blocks only
    when it wakes, and nothing else need ever wake it."""
    rest = b""
    while True:
        if not select.select([descriptor], [], [], _WAKE_SECONDS)[0]:
            continue
        block = os.read(descriptor, 1 << 16)
        if not block:
            break
        *whole, rest = (rest + block).split(b"\n")
        yield from whole
    if rest:
        yield rest
