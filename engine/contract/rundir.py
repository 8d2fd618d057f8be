"""A run's folder: its names, its owner, the commands left in it, and what state it is in.

The engine holds a POSIX lock on `run.lock` while it lives; the kernel frees it at any death, even kill -9. pid, process
start time and boot id are only shown, and tell a reused pid.
"""

import contextlib
import fcntl
import os
import re
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from engine.contract import events

CommandName = Literal["stop", "save", "sample", "pause", "resume", "lr"]
State = Literal["starting", "running", "paused", "stopped", "finished", "failed", "crashed", "elsewhere"]
SILENT_SECONDS = 600.0
LIVE_STATES: frozenset[State] = frozenset({"starting", "running", "paused"})


class RunInfo(Struct, frozen=True, kw_only=True):
    """`run.json`: who works here. `token` names one start; a command for another start is refused. `profile_path` is
    where the profile was when the run began, absolute; empty in runs of older versions and if its name is no text."""

    name: str
    profile_name: str
    profile_digest: str
    token: str
    pid: int
    process_start: str
    boot_id: str
    host: str
    protocol: int
    versions: dict[str, str]
    created: float
    started: float
    device: str = ""
    profile_path: str = ""
    exit: int | None = None


class Command(Struct, frozen=True, kw_only=True):
    """`value` is `lr`'s: what the schedule's rate is multiplied with from now on."""

    command: CommandName
    token: str = ""
    value: Annotated[float, Meta(ge=0, le=1000)] | None = None


class LockedError(RuntimeError):
    """Another engine works in this run folder."""


@dataclass(frozen=True)
class RunDir:
    """The names inside one run folder."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def info(self) -> Path:
        return self.path / "run.json"

    @property
    def profile(self) -> Path:
        return self.path / "profile.toml"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        return self.path / "run.lock"

    @property
    def commands(self) -> Path:
        return self.path / "commands"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def exports(self) -> Path:
        return self.path / "exports"

    def make_parts(self) -> None:
        """The folders inside, those that are missing."""
        for part in (self.commands, self.checkpoints, self.samples, self.exports):
            part.mkdir(exist_ok=True)


def create(runs: Path, profile_name: str, now: float | None = None) -> RunDir:
    """A new run folder, named after the profile and the time; never one that exists."""
    stem = re.sub(r"[^\w.-]+", "-", profile_name).strip("-.") or "run"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    runs.mkdir(parents=True, exist_ok=True)
    for suffix in ["", *(f"-{n}" for n in range(2, 1000))]:
        folder = RunDir(runs / f"{stem}-{stamp}{suffix}")
        try:
            folder.path.mkdir()
        except FileExistsError:
            continue
        folder.make_parts()
        return folder
    raise FileExistsError(f"{runs / stem}-{stamp} and 998 like it exist already")


def all_runs(runs: Path) -> list[RunDir]:
    """Every run folder, newest first by the time in its name, then by name."""
    if not runs.is_dir():
        return []
    found = [RunDir(entry) for entry in runs.iterdir() if not entry.name.startswith(".") and _is_run(entry)]
    return sorted(found, key=lambda run: age_key(run.name), reverse=True)


def age_key(name: str) -> tuple[str, str]:
    """By which names of runs are sorted from the oldest to the newest: the time in it, then the name."""
    found = re.search(r"\d{8}-\d{6}", name)
    return found.group() if found else "", name


def _is_run(folder: Path) -> bool:
    """Not the pictures or models that somebody keeps beside the runs."""
    return any(os.path.lexists(folder / name) for name in ("run.json", "profile.toml", "events.jsonl", "commands"))


def find(runs: Path, name: str | None) -> RunDir:
    """The run called `name` (or its folder, or an unambiguous beginning of its name); the newest if None.

    Raises ValueError with what to do when there is none or more than one.
    """
    every = all_runs(runs)
    if name is None:
        if not every:
            raise ValueError(f"there are no runs in {runs}: start one with `aozora-tui train PROFILE`")
        return every[0]
    if os.sep in name or name in (".", ".."):
        folder = Path(name).expanduser().absolute()
        if folder.is_dir():
            return RunDir(folder)
        raise ValueError(f"{folder} is not a run folder: `aozora-tui runs` lists them")
    if exact := [run for run in every if run.name == name]:
        return exact[0]
    begins = [run for run in every if run.name.startswith(name)]
    if len(begins) == 1:
        return begins[0]
    if begins:
        raise ValueError(f"{name} fits {len(begins)} runs ({', '.join(r.name for r in begins[:4])}): write more of it")
    raise ValueError(f"there is no run called {name} in {runs}: `aozora-tui runs` lists them")


# -- the owner ---------------------------------------------------------------------------------------------------------


def acquire(run: RunDir) -> int:
    """Lock the folder for this process until it ends; returns the descriptor, which must stay open.

    Raises LockedError naming the owner.
    """
    descriptor = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = lock_owner(run)
        os.close(descriptor)
        raise LockedError(f"{run.path} is in use by process {owner}: stop that run first, or watch it") from None
    return descriptor


def lock_owner(run: RunDir) -> int | None:
    """The pid that holds the run's lock, or None. Asks without taking, so it never disturbs a starting engine."""
    layout, order = ("qqihh", "mac") if sys.platform == "darwin" else ("hhqqi4x", "linux")
    asked = (0, 0, 0, fcntl.F_WRLCK, 0) if order == "mac" else (fcntl.F_WRLCK, 0, 0, 0, 0)
    try:
        if not run.lock.is_file():
            return None
        with run.lock.open("rb") as file:
            answer = struct.unpack(layout, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(layout, *asked)))
    except OSError:
        return None
    kind, pid = (answer[3], answer[2]) if order == "mac" else (answer[0], answer[4])
    return None if kind == fcntl.F_UNLCK else pid


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """The kernel's start time of a process, in clock ticks; empty where it cannot be told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def this_host() -> str:
    """The name of this machine, as `RunInfo.host` has it."""
    return os.uname().nodename  # `socket` has it too, and takes 3 ms of every command's start


def new_token() -> str:
    return os.urandom(8).hex()


def read_info(run: RunDir) -> RunInfo | None:
    """`run.json`, or None while it is not there yet or if it is damaged."""
    try:
        if not run.info.is_file():  # a pipe would keep its reader waiting
            return None
        return msgspec.json.decode(run.info.read_bytes(), type=RunInfo)
    except (OSError, *events.UNREADABLE):
        return None


def state(run: RunDir, *, now: float | None = None) -> State:
    """What the run does now: from its lock, and from its last event if nobody holds that."""
    return judged(run, lambda: lock_owner(run) is not None, host=this_host(), now=now)


def judged(run: RunDir, is_held: Callable[[], bool], *, host: str, now: float | None = None) -> State:
    """The same as `host` sees it, which knows whether the lock is held."""
    info = read_info(run)
    now = time.time() if now is None else now
    if is_held():
        return _live_state(run)
    if info is None:
        return "starting" if now - run.path.stat().st_mtime < 20 else "crashed"
    ended = _ended(run, info)
    if ended == "crashed" and info.host != host:
        # Its lock cannot be seen from here. A box whose name has changed must not lock its own runs away for ever.
        last = events.last_event(run.events)
        return "elsewhere" if now - (last.time if last else info.started) < SILENT_SECONDS else "crashed"
    return ended


# A paused engine answers commands, and stays paused.
_SAID_WHILE_PAUSED = (events.Refused, events.Warned, events.Steered, events.Machine, events.Saved, events.Sampled)


def _live_state(run: RunDir) -> State:
    last = events.last_event(run.events, but_not=_SAID_WHILE_PAUSED)
    if last is None:
        return "starting"
    return "paused" if isinstance(last, events.Paused) else "running"


def _ended(run: RunDir, info: RunInfo) -> State:
    """`exit` is written last; where the disk refused it, the time tells this start's end from an earlier one's."""
    last = events.last_event(run.events)
    if last is None or (info.exit is None and last.time < info.started):
        return "crashed"
    if isinstance(last, events.Finished):
        return "finished" if last.reason == "finished" else "stopped"
    return "failed" if isinstance(last, events.Failed) else "crashed"


# -- commands ----------------------------------------------------------------------------------------------------------


def send(run: RunDir, command: CommandName, value: float | None = None) -> None:
    """Leave a command for the run's present engine. Raises ValueError if nobody is there to obey it."""
    info = read_info(run)
    if info is None or state(run) not in LIVE_STATES:
        raise ValueError(f"{run.name} is not running ({state(run)}): there is nobody to {command}")
    run.commands.mkdir(exist_ok=True)
    name = f"{time.time_ns()}-{command}.json"
    hidden = run.commands / f".{name}"
    hidden.write_bytes(msgspec.json.encode(Command(command=command, token=info.token, value=value)))
    hidden.rename(run.commands / name)


def take_commands(run: RunDir, token: str) -> tuple[list[Command], list[str]]:
    """Commands addressed to this start, in order, and the names of those refused (addressed to an earlier start, or
    unreadable). All are removed."""
    try:
        names = sorted(entry.name for entry in os.scandir(run.commands) if not entry.name.startswith("."))
    except FileNotFoundError:
        return [], []
    obeyed: list[Command] = []
    refused: list[str] = []
    for name in names:
        path = run.commands / name
        try:
            command = msgspec.json.decode(path.read_bytes(), type=Command)
        except (OSError, *events.UNREADABLE):
            refused.append(name)
        else:
            if command.token == token:
                obeyed.append(command)
            else:
                refused.append(name)
        try:
            path.unlink()
        except OSError:  # a folder, say: out of sight, or it would be refused again at every look
            with contextlib.suppress(OSError):
                path.rename(path.with_name(f".refused-{name}"))
    return obeyed, refused
