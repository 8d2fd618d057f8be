"""Runs seen from outside the engine: start one, restart one, say how it stands. No Textual, no torch.

The engine is started in a session of its own, with no pipe to this process: closing the terminal, killing the app or
filling its output cannot reach it. What it says is read from the run folder.
"""

import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from aozora_tui import run_notes, run_tail
from aozora_tui.engine_process import ENGINE, PACKAGES, environment
from aozora_tui.remote import links
from aozora_tui.text import printable
from engine.contract import events, places, rundir
from engine.contract.rundir import RunDir, State

if TYPE_CHECKING:
    import subprocess

# What a list of runs says of each: one whose folder cannot be read must not take the others with it.
Standing = State | Literal["unreadable"]

_WINDOW = 1 << 16
_YOUNG = 60.0  # seconds, in which an engine may be on its way to its lock

# Engines that this process started: an ended child stays a zombie until its parent asks for its exit code.
_children: dict[Path, "subprocess.Popen[bytes]"] = {}
_exit_codes: dict[Path, int] = {}


class RunSummary(Struct, frozen=True, kw_only=True):
    """One run in a list. `age` is in seconds since the last event, or since the folder was made if there is none;
    `steps` is 0 and `loss` None until known. `failure` and `remedy` are filled for a run that failed, crashed or cannot
    be read; `factor`, on the learning rate by command, in `list_summaries` alone: it takes the whole file. `tags` and
    `note` are the person's, `notes_trouble` says why they cannot be read; `bytes` is what the folder takes on the disk,
    where that was asked for."""

    name: str
    state: Standing
    step: int
    steps: int
    loss: float | None
    age: float
    folder: str
    last_event: float | None
    failure: str = ""
    remedy: str = ""
    factor: float = 1.0
    tags: tuple[str, ...] = ()
    note: str = ""
    notes_trouble: str = ""
    bytes: int | msgspec.UnsetType = msgspec.UNSET


def launch(profile: Path, *, engine_command: Sequence[str] | None = None) -> RunDir:
    """Reserve a run folder and start an engine on `profile` in it; returns at once, see `wait_until_started`.

    Raises OSError if the folder cannot be made or the process cannot be started.
    """
    run = rundir.create(places.runs_folder(), profile.stem)
    _spawn(run, [*(engine_command or ENGINE), "train", str(profile.absolute()), "--run", str(run.path)])
    return run


def resume(run: RunDir, *, engine_command: Sequence[str] | None = None) -> None:
    """Restart a stopped, failed or crashed run from its newest checkpoint, or from step 0 if it has none.

    Raises ValueError, saying what to do instead, if the run cannot be restarted.
    """
    if reason := why_not_resume(run):
        raise ValueError(reason)
    if (link := links.of(run)) is not None:
        link.resume()
        return
    _spawn(run, [*(engine_command or ENGINE), "train", "--resume", str(run.path)])


def why_not_resume(run: RunDir) -> str:
    """One sentence that says why a run cannot be restarted and what to do instead; empty if it can."""
    state = state_now(run)
    if state in rundir.LIVE_STATES:
        hint = "`aozora-tui resume` lets it go on" if state == "paused" else "`aozora-tui watch` shows it"
        return f"{run.name} is {state} already: {hint}"
    if state == "elsewhere":
        info = rundir.read_info(run)
        host = info.host if info else "another machine"
        return f"{run.name} was started on {host} and may be live there: resume it on that machine"
    if state == "finished":
        return f"{run.name} has finished: start a new run with `aozora-tui train PROFILE`"
    if not run.profile.is_file():
        return f"{run.name} has no profile.toml, so it never began: start it anew with `aozora-tui train PROFILE`"
    return ""


def newest_checkpoint(run: RunDir) -> int | None:
    """The step of the newest complete checkpoint, by its manifest; None if there is none."""
    if (link := links.of(run)) is not None:
        return link.checkpoint()
    complete = [manifest.parent.name for manifest in run.checkpoints.glob("step-*/manifest.json")]
    return max((int(digits) for name in complete if (digits := name.removeprefix("step-")).isdecimal()), default=None)


def child_is_running(run: RunDir) -> bool:
    """Whether this process started the run's engine and that has not ended."""
    child = _children.get(run.path)
    return child is not None and child.poll() is None


def exit_code(run: RunDir) -> int | None:
    """How the run's engine ended, if this process started it and it has; else None."""
    child = _children.get(run.path)
    return _exit_codes.get(run.path) if child is None else child.poll()


def terminate(run: RunDir) -> None:
    """Ask the engine that this process started to save and stop, by SIGTERM: for the moments before it can read
    commands."""
    if child_is_running(run):
        _children[run.path].terminate()


def reap() -> dict[str, int]:
    """Collect the engines of this process that have ended: run name to exit code. Call now and then."""
    ended = {path: code for path, child in _children.items() if (code := child.poll()) is not None}
    for path in ended:
        del _children[path]
    _exit_codes.update(ended)
    return {path.name: code for path, code in ended.items()}


def wait_until_started(run: RunDir, timeout: float) -> bool:
    """Wait until an engine holds the run's lock or has ended, at most `timeout` seconds. False if it ended badly."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and rundir.lock_owner(run) is None:
        if exit_code(run) is not None:
            break
        time.sleep(0.02)
    return rundir.lock_owner(run) is not None or not exit_code(run)


def state_now(run: RunDir, *, now: float | None = None) -> State:
    """`rundir.state`, with what only the parent knows: an engine of ours that has no lock yet, or ended before it.

    Raises OSError or ValueError if the folder is not what a run's should be.
    """
    require_files(run)
    if (link := links.of(run)) is not None:
        return link.state(now)
    state = rundir.state(run, now=now)
    if rundir.lock_owner(run) is not None:
        return state
    if child_is_running(run):
        info = rundir.read_info(run)
        # Without the lock, but already the owner: it has let go and is about to end.
        return state if info is not None and info.pid == _children[run.path].pid else "starting"
    return "crashed" if state in rundir.LIVE_STATES and exit_code(run) is not None else state


def summary(run: RunDir, *, now: float | None = None) -> RunSummary:
    """How the run stands. Reads the end of its events, and its beginning if that does not say how many steps."""
    require_files(run)
    clock = time.time() if now is None else now
    recent = run_tail.recent(run.events)
    step, loss = run_tail.where(recent)
    state = state_now(run, now=clock)
    last = recent[-1].time if recent else None
    failure, remedy = _trouble(run, state, recent)
    notes = run_notes.read(run)
    return RunSummary(
        name=run.name,
        state=state,
        step=step,
        steps=run_tail.steps(run.events, recent),
        loss=loss,
        age=max(0.0, clock - (run.path.stat().st_mtime if last is None else last)),
        folder=str(run.path),
        last_event=last,
        failure=failure,
        remedy=remedy,
        tags=notes.tags,
        note=notes.note,
        notes_trouble=notes.trouble,
    )


def list_summaries(folder: Path, *, now: float | None = None) -> list[RunSummary]:
    """Every run in `folder`, newest first; one that is deleted meanwhile is left out."""
    from aozora_tui.run_history import rate_factor

    found = [(run, look_at(run, now=now)) for run in rundir.all_runs(folder)]
    return [msgspec.structs.replace(summary, factor=rate_factor(run)) for run, summary in found if summary is not None]


def look_at(run: RunDir, *, now: float | None = None) -> RunSummary | None:
    """`summary`, or "unreadable" with the reason if that cannot be had; None if the folder is gone."""
    try:
        return summary(run, now=now)
    except UnicodeEncodeError:
        reason = "the name of its folder is no text"
    except (OSError, ValueError) as error:
        if not run.path.exists():
            return None
        reason = str(error)
    notes = run_notes.read(run)
    return RunSummary(
        name=printable(run.name),
        state="unreadable",
        step=0,
        steps=0,
        loss=None,
        age=0.0,
        folder=printable(str(run.path)),
        last_event=None,
        failure=f"the run cannot be read: {printable(reason)}",
        remedy="Mend or remove that folder.",
        tags=notes.tags,
        note=notes.note,
        notes_trouble=notes.trouble,
    )


def live(folder: Path) -> list[RunDir]:
    """The runs in `folder` whose engine lives, newest first; what cannot be read is passed over."""
    return [run for run in rundir.all_runs(folder) if may_live(run) and standing(run) in rundir.LIVE_STATES]


def may_live(run: RunDir) -> bool:
    """False if the run's engine certainly does not live: cheap, for going through many."""
    if child_is_running(run) or (run.lock.is_file() and rundir.lock_owner(run) is not None):
        return True
    try:
        return not run.info.is_file() and time.time() - run.path.stat().st_mtime < _YOUNG
    except OSError:
        return False


def standing(run: RunDir) -> Standing:
    """`state_now`, for lists: a folder that cannot be read is "unreadable"."""
    try:
        return state_now(run)
    except (OSError, ValueError):
        return "unreadable"


def require_files(run: RunDir) -> None:
    """Raises OSError, saying which, unless the run's files are files: a pipe would hang whoever opens it. Raises
    ValueError if the folder's name is bytes that are no text: it can be neither shown nor sent."""
    str(run.path).encode()
    for path in (run.events, run.info, run.lock, run.log):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(mode):
            raise OSError(f"{path.name} is a {'folder' if stat.S_ISDIR(mode) else 'pipe or device'}, not a file")


def signature(run: RunDir) -> tuple[int, ...]:
    """Changes whenever an ended run does: with its events, or with another start."""
    found: list[int] = []
    for name in ("events.jsonl", "run.json"):
        try:
            seen = os.stat(f"{run.path}/{name}")  # noqa: PTH116  (a third of the time, and lists ask it of every run)
            found += (seen.st_size, seen.st_mtime_ns)
        except OSError:
            found += (-1, -1)
    return tuple(found)


def log_tail(run: RunDir, lines: int = 8) -> list[str]:
    """The last lines of the engine's log, for a run that ended without a word."""
    try:
        with run.log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _WINDOW))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def _spawn(run: RunDir, command: list[str]) -> None:
    import subprocess

    _exit_codes.pop(run.path, None)
    with run.log.open("ab") as log:
        _children[run.path] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd=PACKAGES,
            env=environment(),
            start_new_session=True,
        )


def _trouble(run: RunDir, state: State, recent: Sequence[events.AnyEvent]) -> tuple[str, str]:
    if state == "failed":
        failed = next((event for event in reversed(recent) if isinstance(event, events.Failed)), None)
        return (failed.text, failed.remedy) if failed else ("", "")
    if state == "crashed":
        text = "the engine ended without a word: killed, out of memory, or the power was cut"
        if newest_checkpoint(run) is None:
            return text, f"It had saved no checkpoint: `aozora-tui resume {run.name}` begins it again."
        return text, f"`aozora-tui resume {run.name}` goes on from its last checkpoint."
    return "", ""
