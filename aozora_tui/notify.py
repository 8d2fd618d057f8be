"""Word of a watched run's end or trouble to where the person is: the terminal, a command of theirs, a webhook.

Only what happens while it is watched is told, and each event once: what the file held before is history.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aozora_tui import runs
from aozora_tui.remote import links
from aozora_tui.settings_fields import NotableEvent, Notify
from aozora_tui.text import duration, printable, sentence
from engine.contract import events, rundir
from engine.contract.events import AnyEvent, Tail
from engine.contract.rundir import RunDir

COMMAND_SECONDS = 30.0
WEBHOOK_SECONDS = 10.0
AGAIN_SECONDS = 2.0  # until the one other try
LOOK_SECONDS = 1.0
LONGEST_TEXT = 400
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Notice:
    """`text` is one printable line that names the run."""

    run: str
    event: NotableEvent
    text: str
    time: float


class Notices:
    """`write` puts a sequence on the terminal, None where there is none; `complain` says what did not work, once for
    each way. `look` is to be called often, `close` waits for what is under way."""

    def __init__(
        self,
        wanted: Notify,
        *,
        write: Callable[[str], object] | None,
        complain: Callable[[str], object],
        environment: Mapping[str, str] = os.environ,
        again_seconds: float = AGAIN_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._wanted, self._write, self._complain = wanted, write, complain
        self._environment, self._again_seconds = environment, again_seconds
        self._look_seconds, self._next_look = look_seconds, 0.0
        self._watched: dict[RunDir, _Watched] = {}
        self._outbox: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()
        self._failures: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._told: set[str] = set()
        self._sender: threading.Thread | None = None

    def watch(self, run: RunDir) -> None:
        """From now on; a run that is watched already goes on being so."""
        self._watched.setdefault(run, _Watched(run))

    def look(self, *, at_once: bool = False) -> None:
        """Send what has happened since the last look, at most once a second."""
        if not at_once and time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._look_seconds
        for watched in self._watched.values():
            for notice in watched.news():
                if notice.event in self._wanted.on:
                    self._send(notice)
        with contextlib.suppress(queue.Empty):
            while True:
                way, text = self._failures.get_nowait()
                if way not in self._told:
                    self._told.add(way)
                    self._complain(f"notify.{way} did not work: {text}")

    def close(self, seconds: float) -> None:
        """A last look, and at most so long for what is being sent."""
        self.look(at_once=True)
        if self._sender is not None:
            self._outbox.put(None)
            self._sender.join(seconds)
            self.look(at_once=True)

    def _send(self, notice: Notice) -> None:
        if self._write is not None and (sequence := terminal_sequence(self._wanted, notice, self._environment)):
            self._write(sequence)
        if not (self._wanted.command or self._wanted.webhook):
            return
        if self._sender is None:
            self._sender = threading.Thread(target=self._deliver, daemon=True, name="notifications")
            self._sender.start()
        self._outbox.put(notice)

    def _deliver(self) -> None:
        """In a thread: a webhook that hangs holds up no screen, and a command neither."""
        while (notice := self._outbox.get()) is not None:
            if self._wanted.command and (failure := run_command(self._wanted.command, notice, self._environment)):
                self._failures.put(("command", failure))
            if self._wanted.webhook and (failure := post(self._wanted.webhook, notice, pause=self._again_seconds)):
                self._failures.put(("webhook", failure))


def terminal_sequence(wanted: Notify, notice: Notice, environment: Mapping[str, str]) -> str:
    """A bell, or OSC 9, which tmux passes on only when it is wrapped (and `allow-passthrough` is on)."""
    if wanted.terminal == "bell":
        return "\a"
    if wanted.terminal == "off":
        return ""
    message = f"\x1b]9;{notice.text}\x07"
    return f"\x1bPtmux;\x1b{message}\x1b\\" if environment.get("TMUX") else message


def run_command(
    argv: tuple[str, ...], notice: Notice, environment: Mapping[str, str], *, seconds: float = COMMAND_SECONDS
) -> str:
    """Run the person's command to its end; why it failed, empty if it did not. No shell reads anything of it."""
    told = {"AOZORA_RUN": notice.run, "AOZORA_EVENT": notice.event, "AOZORA_TEXT": notice.text}
    try:
        done = subprocess.run(
            [os.path.expanduser(argv[0]), *argv[1:]],  # noqa: PTH111  (a name without a folder is looked up)
            env={**environment, **told},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=seconds,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{argv[0]} had not ended after {seconds:g} s and was killed"
    except (OSError, ValueError) as error:
        return f"{argv[0]} could not be started: {getattr(error, 'strerror', None) or error}"
    if done.returncode == 0:
        return ""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return printable(f"{argv[0]} ended with code {done.returncode}" + (f": {said[-1]}" if said else ""))


def post(url: str, notice: Notice, *, seconds: float = WEBHOOK_SECONDS, pause: float = AGAIN_SECONDS) -> str:
    """Send JSON to the webhook, a second time after `pause` if the first went wrong on the way or over there; why it
    failed, without the address, which may be a secret. Empty if it did not."""
    failure, again = _post(url, notice, seconds)
    if failure and again:
        time.sleep(pause)
        failure, _ = _post(url, notice, seconds)
    return failure


def _post(url: str, notice: Notice, seconds: float) -> tuple[str, bool]:
    """Why it failed, and whether another try may help."""
    import http.client
    import urllib.error
    import urllib.request

    body: dict[str, Any] = {
        "run": notice.run,
        "event": notice.event,
        "text": notice.text,  # what Slack and Mattermost show
        "content": notice.text,  # what Discord shows
        "time": notice.time,
    }
    headers = {"Content-Type": "application/json", "User-Agent": "aozora-tui"}
    try:
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=seconds):
            return "", False
    except urllib.error.HTTPError as error:
        with error:
            return f"it answered {error.code} {printable(str(error.reason))}", error.code >= 500 or error.code == 429
    except urllib.error.URLError as error:
        return f"it cannot be reached: {printable(str(error.reason))}", True
    except (OSError, http.client.HTTPException) as error:
        return f"it cannot be reached: {printable(str(error)) or type(error).__name__}", True
    except ValueError:
        return "its address is none", False


class _Watched:
    """One run since it is watched."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._tail = Tail(run.events)
        self._file, self._tail.offset = _end(run)
        self._live = self._standing() in rundir.LIVE_STATES

    def news(self) -> list[Notice]:
        found = [notice for event in self._events() if (notice := _notice(self._run, event)) is not None]
        standing = self._standing()
        if self._live and standing == "crashed":
            text = "the engine ended without a word: killed, out of memory, or the power was cut"
            found.append(_made(self._run, "failed", f"crashed: {text}", time.time()))
        self._live = standing in rundir.LIVE_STATES
        return found

    def _events(self) -> list[AnyEvent]:
        file, end = _end(self._run)
        if self._file and file != self._file:  # copied anew from the other machine: it is the same history
            self._tail = Tail(self._run.events)
            self._tail.offset = end
        self._file = file
        return self._tail.read()

    def _standing(self) -> runs.Standing:
        return runs.standing(self._run)


def _end(run: RunDir) -> tuple[int, int]:
    """The event file's inode and where its last whole line ends; zeros if there is none."""
    try:
        with run.events.open("rb") as file:
            seen = os.fstat(file.fileno())
            start = max(0, seen.st_size - _BLOCK)
            file.seek(start)
            whole = file.read(_BLOCK).rfind(b"\n") + 1
            return seen.st_ino, start + whole if whole else seen.st_size
    except OSError:
        return 0, 0


def _notice(run: RunDir, event: AnyEvent) -> Notice | None:
    match event:
        case events.Finished():
            text = f"{event.reason} at step {event.step:,} after {duration(event.seconds)}"
            return _made(run, "finished", text, event.time)
        case events.Failed():
            return _made(run, "failed", f"failed: {sentence(event.text)} {event.remedy}", event.time)
        case events.Warned():
            return _made(run, "warning", f"warns: {sentence(event.text)} {event.remedy}", event.time)
    return None


def _made(run: RunDir, event: NotableEvent, text: str, at: float) -> Notice:
    said = printable(" ".join(f"{links.title(run)} {text}".split()))
    return Notice(run.name, event, said if len(said) <= LONGEST_TEXT else f"{said[: LONGEST_TEXT - 3]}...", at)
