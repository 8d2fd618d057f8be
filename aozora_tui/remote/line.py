"""One connection: the system's `ssh`, a POSIX shell at its other end, requests and answers in turn. It blocks."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

from aozora_tui.terminal import complain
from aozora_tui.text import printable

FAR_SIDE = Path(__file__).with_name("far.sh")
PATIENCE = 45.0  # seconds without a byte where an answer is due; ssh itself notices a dead peer after as many
BLOCK = 1 << 16
LONGEST_LINE = 1 << 16
_HELLO = b"aozora-lines 1 "
# What the person's own configuration says about keys, agents, jump hosts and ports counts; forwardings and commands of
# it are for logins.
_OPTIONS = (
    *("-T", "-x", "-a"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3", "-o", "ConnectTimeout=20"),
    *("-o", "Compression=yes", "-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none"),
    # A shared connection of the person's is used, but theirs never hangs on ours.
    *("-o", "ControlMaster=no"),
)


class LostError(ConnectionError):
    """The connection is gone; the text says why, in ssh's words where it had some."""


class SilentError(LostError):
    """Nothing is answered: what carries the connection may be dead."""


@dataclass
class Reply:
    """`status` is None if nothing has changed since the last one; `refused` is why a request was not done."""

    status: list[str] | None = field(default_factory=list)
    data: dict[str, bytes] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    told: str = ""
    refused: str = ""


class Line:
    """`asking`: ssh may ask for a passphrase or about a host key, and its warnings go to stderr; that is over once the
    far side has answered. `alone`: not through a shared connection, which may be dead and not know it. Raises
    LostError, from every method, when there is no connection (any more)."""

    def __init__(self, host: str, *, asking: bool, alone: bool = False) -> None:
        if host.startswith("-") or not host:
            raise ValueError(f"{host!r} is no host: write it as for ssh, user@box")
        batch = () if asking else ("-o", "BatchMode=yes")
        shared = ("-o", "ControlPath=none") if alone else ()
        self.host = host
        self.boot, self.node = "", ""
        self._last_words = ""
        self._buffer = b""
        self._relaying = asking
        try:
            self._ssh = subprocess.Popen(
                ["ssh", *_OPTIONS, *batch, *shared, "--", host, "exec sh"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=not asking,  # without a terminal it cannot ask into the app's screen
            )
        except FileNotFoundError:
            raise LostError("there is no ssh here: install OpenSSH's client") from None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            # In braces it is read to its end before it begins: what follows is for itself, not for the shell.
            self._write(b"{\n" + FAR_SIDE.read_bytes() + b"}\n")
            self._greet(None if asking else PATIENCE)
        except BaseException:
            self.close()
            raise
        self._relaying = False

    def ask(self, request: str, *, patience: float = PATIENCE) -> Reply:
        """Send one request and wait for its whole answer."""
        assert "\n" not in request
        self._write(f"{request}\n".encode())
        reply = Reply()
        while (line := self._line(patience)) != ".":
            kind, _, rest = line.partition(" ")
            if kind == "=":
                reply.status = None
            elif kind in ("s", "k") and reply.status is not None:
                reply.status.append(line)
            elif kind == "d":
                count, _, name = rest.partition(" ")
                if not count.isdecimal():
                    raise LostError("what it answers is not understood")
                reply.data[name] = self._bytes(int(count), patience)
            elif kind == "n":
                reply.names.append(rest)
            elif kind == "t":
                reply.told = rest
            elif kind == "!":
                reply.refused = rest
        return reply

    def close(self) -> None:
        """At once; a request that waits in another thread is lost."""
        with contextlib.suppress(OSError):
            self._ssh.kill()
        self._ssh.wait()
        for stream in (self._ssh.stdin, self._ssh.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()

    def _greet(self, patience: float | None) -> None:
        """Past whatever the login says."""
        while True:
            line = self._raw_line(patience)
            if line.startswith(_HELLO):
                self.boot, _, self.node = line.removeprefix(_HELLO).decode("utf-8", "replace").strip().partition(" ")
                return

    def _line(self, patience: float | None) -> str:
        return self._raw_line(patience).decode("utf-8", "surrogateescape").rstrip("\n")

    def _raw_line(self, patience: float | None) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LONGEST_LINE:
                raise LostError("what answers there is not a shell")
            self._fill(patience)
        line, self._buffer = self._buffer[: end + 1], self._buffer[end + 1 :]
        return line

    def _bytes(self, count: int, patience: float | None) -> bytes:
        blocks, missing = [self._buffer[:count]], count - len(self._buffer)
        self._buffer = self._buffer[count:]
        while missing > 0:
            self._fill(patience)
            blocks.append(self._buffer[:missing])
            self._buffer, missing = self._buffer[missing:], missing - len(self._buffer)
        return b"".join(blocks)

    def _fill(self, patience: float | None) -> None:
        assert self._ssh.stdout is not None
        try:
            ready, _, _ = select.select([self._ssh.stdout], [], [], patience)
            if not ready:
                raise SilentError(f"no answer for {patience:.0f} s")
            block = os.read(self._ssh.stdout.fileno(), BLOCK)
        except ValueError:  # closed by another thread
            block = b""
        if not block:
            raise LostError(self._why())
        self._buffer += block

    def _write(self, data: bytes) -> None:
        assert self._ssh.stdin is not None
        try:
            self._ssh.stdin.write(data)
        except (OSError, ValueError):
            raise LostError(self._why()) from None

    def _why(self) -> str:
        """ssh's last words; it tells them before it ends."""
        self._listener.join(1.0)
        return self._last_words or "the connection was closed"

    def _listen(self) -> None:
        assert self._ssh.stderr is not None
        with self._ssh.stderr as stream:
            for raw in stream:
                said = printable(raw.decode("utf-8", "replace").strip())
                if said:
                    self._last_words = said
                    if self._relaying:
                        complain(said)
