"""A real pseudo-terminal with a screen that can be read, for driving the app as a person does."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pyte


class Terminal:
    """`command` in a pty of `columns` x `rows`. Everything it paints goes into a pyte screen."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], columns: int = 80, rows: int = 24
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.received = bytearray()
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], list(command), dict(environment))
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def read(self, seconds: float) -> None:
        """Paint what arrives within `seconds`, or until the program has ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._master], [], [], left)[0]:
                return
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the other end is closed
                return
            if not data:
                return
            self.received += data
            if b"\x1b[?2026$p" in data:  # Textual asks for synchronized output; say that this terminal has none
                os.write(self._master, b"\x1b[?2026;0$y")
            self._stream.feed(data)

    def wait_for(self, seen: str | Callable[[str], bool], seconds: float = 60) -> str:
        """Paint until `seen` is on the screen. Fails with the screen as it is."""
        there = seen if callable(seen) else lambda text: seen in text
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read(0.1)
            if there(self.text):
                return self.text
        raise AssertionError(f"not seen within {seconds} s: {seen}\n{self.text}")

    def cut(self) -> int:
        """Close the terminal under the program, as a lost connection does. Returns its exit status."""
        os.close(self._master)
        return self.exit_code()

    def exit_code(self, seconds: float = 20) -> int:
        """Wait for the program's end; one that stays is killed and reported as a failure."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            select.select([], [], [], 0.05)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"the program did not end within {seconds} s\n{self.text}")
