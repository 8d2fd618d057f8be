"""Following a run to its end, line by line, and what that end means for the exit code."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Literal

from aozora_tui import plain, runs
from aozora_tui.remote import links
from aozora_tui.text import printable
from engine.contract import events, rundir
from engine.contract.rundir import RunDir, State

POLL_SECONDS = 0.2
Told = tuple[bytes, events.AnyEvent | None]
EXIT_FAILED, EXIT_WRONG = 1, 2


class LineTail:
    """Reads a growing file by offset: whole lines as they are, so that a JSON stream keeps what we do not know."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self._inside = False  # of a line that is too long to be kept
        self._file = 0  # its inode: another file in its place is read from its beginning

    def read(self, limit: int = 1 << 20) -> list[bytes]:
        """The whole lines appended since the last call, about `limit` bytes of them at most; longer ones are left
        out."""
        if not self.path.is_file():  # a pipe would keep its reader waiting
            return []
        try:
            with self.path.open("rb") as file:
                seen = os.fstat(file.fileno())
                if seen.st_size < self.offset or self._file not in (0, seen.st_ino):
                    self.offset, self._inside = 0, False
                self._file = seen.st_ino
                file.seek(self.offset)
                while lines := file.read(limit):
                    end = lines.rfind(b"\n") + 1
                    if end == 0 and len(lines) < limit:
                        break
                    self.offset += end or len(lines)
                    whole = lines[:end].split(b"\n")[self._inside : -1]
                    self._inside = end == 0
                    if whole:
                        return whole
                    file.seek(self.offset)
        except FileNotFoundError:
            pass
        return []


@dataclass(frozen=True)
class Ending:
    """How the following ended. `state` is the run's, or "unread" if nobody reads our output any more; `final` is the
    engine's last word, if it had one; `code` the engine's own exit code, if we started it."""

    state: State | Literal["unread"]
    final: events.Failed | events.Finished | None = None
    code: int | None = None

    @property
    def exit_code(self) -> int:
        if self.code == EXIT_WRONG:
            return EXIT_WRONG
        return EXIT_FAILED if self.state in ("failed", "crashed") else 0


class Interrupts:
    """While it is entered, the first Ctrl-C or SIGTERM only leaves its number in `received`; a second Ctrl-C raises
    KeyboardInterrupt."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def leave(self) -> None:
        """Raises KeyboardInterrupt if a signal has come: between two rounds, where nothing can swallow it."""
        if self.received is not None:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the handler's signature
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


def follow(
    run: RunDir,
    write: Callable[[str], bool],
    *,
    json: bool = False,
    offset: int = 0,
    each_round: Callable[[], None] = lambda: None,
) -> Ending:
    """Write the run's events from `offset` on, until it ends or `write` says False (nobody reads any more).

    `json` passes the engine's own lines on, torn ones left out; else see `plain.fold`. A failure is not written as a
    plain line: it is the caller's to report, from the ending. `each_round` is called at least every 0.2 s.
    """
    view = plain.View(run=run.name, folder=links.folder(run))

    def take(told: Sequence[Told]) -> bool:
        nonlocal view
        for line, event in told:
            said = [line.decode("utf-8", "replace")] if json and events.is_whole(line) else []
            if event is not None and not json:
                view, said = plain.fold(view, event)
            if not all(write(text) for text in said if not isinstance(event, events.Failed) or json):
                return False
        return True

    return attend(run, take, offset=offset, each_round=each_round)


def attend(
    run: RunDir,
    take: Callable[[Sequence[Told]], bool],
    *,
    offset: int = 0,
    each_round: Callable[[], None] = lambda: None,
) -> Ending:
    """Give `take` the run's lines from `offset` on with the events they are, until it ends or `take` says False."""
    runs.require_files(run)
    tail = LineTail(run.events, offset)
    final: events.Failed | events.Finished | None = None
    over = False
    while True:
        each_round()
        told = [(line, events.decode(line)) for line in tail.read()]
        for _, event in told:
            final = _final(event, final)
        if not take(told):
            return Ending("unread")
        if told:
            continue
        if over:
            return _ending(run, final)
        # What was written between the last read and the death is read in one more round.
        over = not _is_live(run, final)
        if not over:
            time.sleep(POLL_SECONDS)


def ending_of(run: RunDir) -> Ending:
    """How a run stands that was not followed here: its last event counts if that is an end."""
    last, state = events.last_event(run.events), runs.state_now(run)
    # The end of an earlier start says nothing about a later one that left no word.
    final = last if isinstance(last, events.Failed | events.Finished) and state != "crashed" else None
    return Ending(state, final, runs.exit_code(run))


def ask_to_stop(run: RunDir) -> None:
    """Have the engine that this process started save and stop: by command once it reads them, before that by signal."""
    info = rundir.read_info(run)
    if info is None or rundir.lock_owner(run) != info.pid:
        runs.terminate(run)
        return
    with contextlib.suppress(ValueError):  # it ended at this very moment
        rundir.send(run, "stop")


def report(run: RunDir, ending: Ending) -> list[str]:
    """What the person must know about a bad end, and what to do; nothing about a good one."""
    if ending.exit_code == 0:
        return []
    if isinstance(ending.final, events.Failed):
        return [f"{run.name} {line}" if not index else line for index, line in enumerate(plain.failure(ending.final))]
    if ending.code == EXIT_WRONG:
        return [f"{run.name} could not start:", *(f"  {line}" for line in _log(run))]
    lines = [f"{run.name} crashed: the engine ended without a word (killed, out of memory, or the power was cut)."]
    if log := _log(run):
        lines += [f"  {links.folder(run) / run.log.name} ends with:", *(f"    {line}" for line in log)]
    if not runs.why_not_resume(run):
        lines.append(f"  `{links.typed(run, 'resume')}` goes on from {starting_point(run)}.")
    return lines


def starting_point(run: RunDir) -> str:
    """Where a restarted run begins, in words."""
    step = runs.newest_checkpoint(run)
    return "the start, for it has no checkpoint yet" if step is None else f"the checkpoint of step {step}"


def _log(run: RunDir) -> list[str]:
    return [printable(line) for line in runs.log_tail(run)]


def _final(
    event: events.AnyEvent | None, before: events.Failed | events.Finished | None
) -> events.Failed | events.Finished | None:
    if isinstance(event, events.Started):
        return None
    return event if isinstance(event, events.Failed | events.Finished) else before


def _is_live(run: RunDir, final: events.Failed | events.Finished | None) -> bool:
    state = runs.state_now(run)
    # Of another machine nothing is known but what it writes: it lives until it has said its last word.
    return state in rundir.LIVE_STATES or (state == "elsewhere" and final is None)


def _ending(run: RunDir, final: events.Failed | events.Finished | None) -> Ending:
    code = runs.exit_code(run)
    if code is None:
        state = runs.state_now(run)
        return Ending(state, None if state == "crashed" else final)
    if final is None:
        return Ending("crashed", None, code)
    if isinstance(final, events.Failed):
        return Ending("failed", final, code)
    return Ending("finished" if final.reason == "finished" else "stopped", final, code)
