"""One engine in one run folder: its events, its commands, its signals."""

import contextlib
import os
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Literal

import msgspec

from engine.contract import events, rundir
from engine.contract.health import Finding, Watch
from engine.contract.rundir import RunDir

POLL_SECONDS = 0.2
REPORT_SECONDS = 0.5


class StopRequested(Exception):  # noqa: N818 - a request, not an error
    """Unwinds a phase that has nothing to save. What it had finished stays."""


class Emitter:
    """Appends events to the run's file, and copies them to stdout as long as somebody reads there.

    The file is the truth. A full pipe drops whole lines, a closed one is forgotten; neither stops the engine.
    """

    def __init__(self, stdout: int | None) -> None:
        self._pipe = stdout
        self._unsent = b""
        self._file: int | None = None
        self._torn = False
        if stdout is not None:
            kind = os.fstat(stdout).st_mode
            if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):  # never a terminal: the shell shares the flag
                os.set_blocking(stdout, False)

    def attach(self, path: Path) -> None:
        """From here on events go to `path` too. A line torn by an earlier death is ended first."""
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def emit(self, event: events.Event) -> events.Event:
        """Stamp and write; the event with its stamp. Never raises for what the disk or a reader does."""
        stamped = msgspec.structs.replace(event, time=time.time())
        line = events.encode(stamped)
        self._append(line)
        self._copy(line)
        return stamped

    def _append(self, line: bytes) -> None:
        if self._file is None:
            return
        data = b"\n" + line if self._torn else line
        try:
            self._torn = os.write(self._file, data) < len(data)
        except OSError as error:  # a full disk must not end a training run; the log says it once the disk has room
            self._torn = True
            with contextlib.suppress(OSError):
                sys.stderr.write(f"event not written: {error}\n")

    def _copy(self, line: bytes) -> None:
        if self._pipe is None:
            return
        try:
            if self._unsent:
                self._unsent = self._unsent[os.write(self._pipe, self._unsent) :]
            if not self._unsent:
                self._unsent = line[os.write(self._pipe, line) :]
        except BlockingIOError:
            pass
        except OSError:  # the reader is gone
            self._pipe = None


class Session:
    """What a phase needs to know of the outside: `check` at every safe point, `emit` for what happened."""

    def __init__(self, run: RunDir, emitter: Emitter, token: str) -> None:
        self.run = run
        self.token = token
        self._write = emitter.emit
        self._watch: Watch | None = Watch()
        self.stopping: Literal["", "command", "SIGTERM", "SIGINT"] = ""
        self.save_requested = False
        self.sample_requested = False
        self.rate_requested: float | None = None
        self.paused = False
        self._polled = 0.0
        self._reported = 0.0

    def emit(self, event: events.Event) -> None:
        """Write it, and a warning of what it shows to be wrong with the run."""
        for finding in self._findings(self._write(event)):
            self.warn(finding.code, finding.text, finding.remedy)

    def _findings(self, event: events.Event) -> tuple[Finding, ...]:
        """A rule that fails costs the watching, never the run."""
        if self._watch is None:
            return ()
        try:
            return self._watch.take(event)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            self._watch = None
            with contextlib.suppress(OSError):
                traceback.print_exc()
            return ()

    def listen(self) -> None:
        """Take over the signals: TERM and INT stop, HUP and PIPE are nothing to a run."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the handler's signature
        if self.stopping in ("SIGTERM", "SIGINT"):
            os._exit(130 if number == signal.SIGINT else 1)
        self.stopping = "SIGINT" if number == signal.SIGINT else "SIGTERM"

    def poll(self, *, now: bool = False) -> None:
        """Read the command folder, at most every 0.2 s unless `now`."""
        clock = time.monotonic()
        if not now and clock - self._polled < POLL_SECONDS:
            return
        self._polled = clock
        obeyed, refused = rundir.take_commands(self.run, self.token)
        for name in refused:
            text = f"{name} was addressed to an earlier start of this run, or is not a command"
            self.emit(events.Refused(command=name, text=text))
        for each in obeyed:
            if each.command != "lr":
                self._obey(each.command)
            elif each.value is None:
                self.emit(events.Refused(command="lr", text="it names no factor"))
            else:
                self.rate_requested = each.value

    def _obey(self, command: rundir.CommandName) -> None:
        if command == "stop":
            self.stopping = self.stopping or "command"
        elif command == "save":
            self.save_requested = True
        elif command == "sample":
            self.sample_requested = True
        elif command == "resume" and not self.paused:
            self.emit(events.Refused(command=command, text="the run is not paused"))
        else:
            self.paused = command == "pause"

    def should_stop(self) -> bool:
        self.poll()
        return bool(self.stopping)

    def check(self) -> None:
        """Raises StopRequested if a stop was asked for."""
        if self.should_stop():
            raise StopRequested

    def phase(self, name: events.PhaseName, step: int | None = None) -> None:
        self.poll(now=True)
        self.emit(events.Phase(name=name, step=step))
        self._reported = 0.0

    def may_report(self) -> bool:
        """True at most twice a second: for events that tell only that the engine lives."""
        clock = time.monotonic()
        if clock - self._reported < REPORT_SECONDS:
            return False
        self._reported = clock
        return True

    def progress(self, phase: events.PhaseName, unit: str) -> Callable[[int, int], None]:
        """A reporter of (done, total) for one phase: at most two events a second, and the last one always."""
        began = time.monotonic()

        def report(done: int, total: int) -> None:
            if not self.may_report() and done < total:
                return
            clock = time.monotonic()
            rate = done / (clock - began) if clock > began else None
            self.emit(events.Progress(phase=phase, done=done, total=total, unit=unit, rate=rate))

        return report

    def warn(self, code: str, text: str, remedy: str) -> None:
        self.emit(events.Warned(code=code, text=text, remedy=remedy))
