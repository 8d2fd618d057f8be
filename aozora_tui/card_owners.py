"""Whose process is it that uses a card: one of our runs, or one that a run started. No Textual."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from aozora_tui import runs
from engine.contract import places, rundir
from engine.contract.rundir import RunDir

DEEPEST = 16  # generations that are gone through
PROC = Path("/proc")


def live_runs(mine: RunDir | None = None) -> dict[int, str]:
    """Process ids of the engines that live here, with what to call each: `mine` is "this run"."""
    found = {}
    for run in runs.live(places.runs_folder()):
        try:
            info = rundir.read_info(run)
        except (OSError, ValueError):
            continue
        if info is not None:
            found[info.pid] = f"run {run.name}"
    if mine is not None and (pid := pid_of(mine)) is not None:
        found[pid] = "this run"
    return found


def pid_of(run: RunDir) -> int | None:
    """Of the run's engine, if it lives on this machine."""
    return rundir.lock_owner(run) if run.lock.is_file() else None


def owners(pids: Iterable[int], engines: Mapping[int, str], proc: Path = PROC) -> dict[int, str]:
    """Of these processes those that are an engine or descend from one, with what that is called."""
    found = {}
    for pid in pids:
        seen = pid
        for _ in range(DEEPEST):
            if seen in engines:
                found[pid] = engines[seen]
                break
            seen = _parent(seen, proc)
            if seen <= 1:
                break
    return found


def _parent(pid: int, proc: Path) -> int:
    """0 if it cannot be known. The name of a process may hold brackets and blanks, and ends at the last one."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 and fields[1].isdecimal() else 0
