"""The thread that keeps a mirror up to date: asks, copies, delivers commands, and connects again for ever."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from aozora_tui.remote.line import Line, LostError, Reply, SilentError
from aozora_tui.remote.links import Kind
from aozora_tui.remote.losses import pauses, reason
from aozora_tui.remote.mirror import FarFile, Mirror, facts_of, files_of
from aozora_tui.text import duration, printable
from engine.contract import rundir
from engine.contract.rundir import Command, CommandName, RunDir, State

SLOW = 5.0  # seconds without an answer until that is said
RESUME_PATIENCE = 150.0
QUIET_LOOKS = 5  # without news, until it is asked less often
QUIET_FACTOR = 3.0


@dataclass(frozen=True)
class _Seen:
    """As of an answer after which everything told so far was here."""

    held: bool
    kept: int | None
    gone: bool = False


@dataclass(frozen=True)
class _Errand:
    """A request for the far side and how it is called when it fails."""

    request: str
    name: str
    path: str = ""


class Link:
    """See `links.Link`. `folder` is the run's there; `tick` how often it is asked, in seconds; `between` the pauses
    before each try to connect again."""

    def __init__(
        self,
        mirror: Mirror,
        line: Line,
        folder: str,
        *,
        tick: float,
        remote_command: str,
        between: Callable[[], Iterator[float]] = pauses,
    ) -> None:
        self.host, self.folder = line.host, folder
        self._mirror, self._line = mirror, line
        self._tick, self._remote_command = tick, remote_command
        self._between = between
        self._node = line.node
        self._files: dict[str, FarFile] = {}
        self._facts: dict[str, str] = {}
        self._seen = _Seen(held=False, kept=None)
        self._lost: tuple[float, str] | None = None
        self._silent = False
        self._asked: float | None = None  # since when an answer is due
        self._errands: queue.SimpleQueue[_Errand] = queue.SimpleQueue()
        self._wanted: dict[str, threading.Event] = {}
        self._said: queue.SimpleQueue[tuple[str, Kind]] = queue.SimpleQueue()
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve_for_ever, daemon=True, name=f"link to {self.host}")

    # -- for the screens -----------------------------------------------------------------------------------------------

    @property
    def run(self) -> RunDir:
        return self._mirror.run

    def state(self, now: float | None = None) -> State:
        seen = self._seen
        if seen.gone:
            raise FileNotFoundError(2, "is gone", f"{self.host}:{self.folder}")
        return rundir.judged(self.run, lambda: seen.held, host=self._node, now=now)

    def checkpoint(self) -> int | None:
        return self._seen.kept

    def send(self, command: CommandName, value: float | None) -> None:
        info, state = rundir.read_info(self.run), self.state()
        if info is None or state not in rundir.LIVE_STATES:
            raise ValueError(f"{self.run.name} is not running ({state}): there is nobody to {command}")
        self._require_connection()
        text = msgspec.json.encode(Command(command=command, token=info.token, value=value)).decode()
        self._go(_Errand(f"c {time.time_ns()}-{command}.json {text}", command))

    def resume(self) -> None:
        self._require_connection()
        self._go(_Errand(f"a {self._remote_command}", "resume"))

    def fetch(self, path: str, seconds: float) -> bool:
        if self._lost is None and not self._over.is_set():
            arrived = self._wanted.setdefault(path, threading.Event())
            self._go(_Errand("", "picture", path))
            arrived.wait(seconds)
        return (self.run.path / path).is_file()

    def release(self) -> None:
        for arrived in list(self._wanted.values()):
            arrived.set()

    def news(self) -> str:
        now = time.monotonic()
        if (lost := self._lost) is not None:
            return f"Connection to {self.host} lost {duration(now - lost[0])} ago, trying again: {lost[1]}"
        asked = self._asked
        if asked is not None and now - asked > SLOW:
            return f"{self.host} has not answered for {duration(now - asked)}"
        return ""

    def take_said(self) -> list[tuple[str, Kind]]:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._said.get_nowait())
        return found

    # -- beginning and end ---------------------------------------------------------------------------------------------

    def catch_up(self, progress: Callable[[int, int], None], lost: Callable[[str], object] = lambda _: None) -> None:
        """Copy all that is there now, before the thread begins, however often the connection breaks. `progress` is told
        bytes here and there, `lost` why it is made again."""
        entered = False
        while True:
            try:
                if not entered:
                    self._enter()
                while not self._look():
                    far = self._files.get("events.jsonl")
                    progress(self._mirror.offset, far.size if far else 0)
            except LostError as error:
                self._lose(error)
                lost(self.news())
                self._reconnect()
                entered = True
            else:
                self._lost = None
                return

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._wake.set()
        self.release()
        self._line.close()
        if self._thread.is_alive():
            self._thread.join(5.0)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _serve_for_ever(self) -> None:
        while not self._over.is_set():
            try:
                self._serve()
            except OSError as error:  # the line is lost, or the mirror cannot be written
                self._lose(error)
            if not self._over.is_set():
                self._reconnect()

    def _serve(self) -> None:
        quiet = 0
        while not self._over.is_set():
            before = self._mirror.offset
            whole = self._look()
            self._lost = None
            errands = self._run_errands()
            quiet = quiet + 1 if self._mirror.offset == before and not errands else 0
            if whole:
                self._wake.wait(self._tick * (QUIET_FACTOR if quiet > QUIET_LOOKS else 1))
                self._wake.clear()

    def _look(self) -> bool:
        """Ask once and copy what is new; whether everything that was told is here."""
        info = rundir.read_info(self.run)
        reply = self._ask(self._mirror.request(info.pid if info else 0))
        if reply.refused:
            self._seen = _Seen(held=False, kept=None, gone=True)
            return True
        if reply.status is not None:
            try:
                self._files, self._facts = files_of(reply.status), facts_of(reply.status)
            except (ValueError, IndexError):
                raise LostError("what it answers is not understood") from None
        whole = self._mirror.take(self._line, self._files, reply.data)
        after = rundir.read_info(self.run)
        if whole and after is not None and (info is None or after.pid != info.pid):
            return False  # it was asked about another process
        if whole:
            kept = self._facts.get("kept", "")
            self._seen = _Seen(held=self._is_held(after), kept=int(kept) if kept.isdecimal() else None)
        return whole

    def _is_held(self, info: rundir.RunInfo | None) -> bool:
        """Somebody holds the run's lock there; or, where nothing tells of locks, its process is that one still."""
        if self._facts.get("owner"):
            return True
        begun = self._facts.get("begun", "")
        return bool(begun) and info is not None and (begun, self._line.boot) == (info.process_start, info.boot_id)

    def _ask(self, request: str) -> Reply:
        self._asked = time.monotonic()
        try:
            return self._line.ask(request)
        finally:
            self._asked = None

    def _run_errands(self) -> bool:
        done = False
        while (errand := self._next_errand()) is not None:
            done = True
            try:
                self._do(errand)
            except ValueError as error:
                if not errand.path:  # whoever waits for a picture sees that it is missing
                    self._say(f"{errand.name} of {self.run.name}: {error}", "warning")
            except LostError:
                if not errand.path:
                    self._say(f"The connection broke: whether {errand.name} has arrived is not known", "warning")
                raise
            finally:
                self._answer(errand)
        return done

    def _answer(self, errand: _Errand) -> None:
        if (arrived := self._wanted.pop(errand.path, None)) is not None:
            arrived.set()

    def _do(self, errand: _Errand) -> None:
        if errand.path:
            if not (self.run.path / errand.path).is_file():
                self._mirror.fetch(self._line, errand.path)
            return
        if errand.name == "resume":  # takes its time: nobody shall think the machine was gone
            reply = self._line.ask(errand.request, patience=RESUME_PATIENCE)
        else:
            reply = self._ask(errand.request)
        if reply.refused:
            raise ValueError(printable(reply.refused))

    def _next_errand(self) -> _Errand | None:
        try:
            return self._errands.get_nowait()
        except queue.Empty:
            return None

    def _go(self, errand: _Errand) -> None:
        self._errands.put(errand)
        self._wake.set()

    def _lose(self, error: OSError) -> None:
        self._line.close()
        self._silent = isinstance(error, SilentError)
        if self._lost is None:
            self._lost = (time.monotonic(), "")
        self._lost = (self._lost[0], reason(error))
        while (errand := self._next_errand()) is not None:
            self._answer(errand)
            if not errand.path:
                self._say(f"The connection is lost: {errand.name} was not sent", "warning")

    def _reconnect(self) -> None:
        for pause in self._between():
            self._wake.clear()
            self._over.wait(pause)
            if self._over.is_set():
                return
            try:
                self._line = Line(self.host, asking=False, alone=self._silent)
                self._enter()
                return
            except OSError as error:
                self._lose(error)

    def _enter(self) -> None:
        self._mirror.connected()
        self._files, self._facts = {}, {}
        if self._over.is_set():
            self._line.close()
        reply = self._ask(f"o {self.folder}")
        if reply.refused:
            self._seen = _Seen(held=False, kept=None, gone=True)

    def _require_connection(self) -> None:
        if self._lost is not None:
            raise ValueError(f"Nothing was sent: the connection to {self.host} is lost. Try again when it is back")

    def _say(self, text: str, kind: Kind) -> None:
        self._said.put((text, kind))
