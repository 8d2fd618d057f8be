"""The program on a pseudo-terminal that reads as slowly as one likes, and what it shows there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Sequence

import pyte
from processes import until


class Terminal:
    """Reads in a thread, at most `rate` bytes a second (None: all there is; 0: nothing), what `command` draws."""

    def __init__(self, command: Sequence[str], *, size: tuple[int, int] = (120, 40), rate: int | None = None) -> None:
        self.size, self.rate = size, rate
        self.received = bytearray()
        self.stopped = threading.Event()
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            with contextlib.suppress(OSError):
                # Of the environment as Python has it: readline, once loaded, has told C another size.
                os.execvpe(command[0], list(command), dict(os.environ))
            os._exit(127)
        self.resize(*size)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, columns: int, rows: int) -> None:
        self.size = columns, rows
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.end, keys.encode())

    def shown(self, since: int = 0) -> str:
        """The screen that comes of the bytes from number `since` on."""
        screen = pyte.Screen(*self.size)
        # pyte takes Textual's `CSI > 1 u` for a move of the cursor.
        text = bytes(self.received[since:]).replace(b"\x1b[>", b"\x1b[?")
        pyte.ByteStream(screen).feed(text)
        return "\n".join(line.rstrip() for line in screen.display)

    def wait_for(self, words: str, *, since: int = 0, seconds: float = 20) -> str:
        deadline = time.monotonic() + seconds
        while words not in (text := self.shown(since)):
            assert time.monotonic() < deadline, f"not seen within {seconds} s: {words!r}\n{text}"
            time.sleep(0.05)
        return text

    def hang_up(self) -> None:
        """As a lost connection does."""
        self.stopped.set()
        self._reader.join()
        os.close(self.end)

    def exit_code(self, seconds: float = 20) -> int:
        status: list[int] = []

        def over() -> bool:
            pid, told = os.waitpid(self.pid, os.WNOHANG)
            status.extend([told] if pid else [])
            return bool(pid)

        until(over, seconds)
        self.pid = 0
        return os.waitstatus_to_exitcode(status[0])

    def close(self) -> None:
        if not self.stopped.is_set():
            self.hang_up()
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def _read(self) -> None:
        while not self.stopped.is_set():
            rate = self.rate
            if rate == 0:
                time.sleep(0.02)
                continue
            if not select.select([self.end], [], [], 0.05)[0]:
                continue
            try:
                block = os.read(self.end, 65536 if rate is None else max(rate // 50, 1))
            except OSError:  # nobody is at the other end
                return
            if b"\x1b[?2026$p" in block:  # whether frames can be put together: most terminals say yes
                os.write(self.end, b"\x1b[?2026;2$y")
            self.received += block
            if rate is not None:
                time.sleep(len(block) / rate)
