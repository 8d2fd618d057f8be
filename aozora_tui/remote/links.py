"""Runs that are mirrored from another machine, by their folder here: what only their connection can tell or do.

Of any other run everything goes the usual way.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol

from engine.contract import rundir
from engine.contract.rundir import CommandName, RunDir, State

Kind = Literal["plain", "good", "warning", "error"]


class Link(Protocol):
    """A connection to a run elsewhere. Only `fetch` waits; what comes of a command is said by `take_said` later."""

    host: str
    folder: str

    def state(self, now: float | None = None) -> State:
        """How the run stands, as of the last answer. Raises FileNotFoundError if its folder is gone."""
        ...

    def checkpoint(self) -> int | None:
        """The step of its newest complete checkpoint."""
        ...

    def send(self, command: CommandName, value: float | None) -> None:
        """Raises ValueError if it cannot be sent now."""
        ...

    def resume(self) -> None:
        """Start an ended run again, there. Raises ValueError if that cannot be asked now."""
        ...

    def fetch(self, path: str, seconds: float) -> bool:
        """Have a file of the run's `samples` copied into the mirror; whether it came in time. This one waits."""
        ...

    def release(self) -> None:
        """Nobody waits any more: the app ends."""
        ...

    def news(self) -> str:
        """What is wrong with the connection now; empty if nothing is."""
        ...

    def take_said(self) -> list[tuple[str, Kind]]:
        """What there is to say about commands, once."""
        ...


BRING_SECONDS = 60.0
_links: dict[Path, Link] = {}


def add(run: RunDir, link: Link) -> None:
    _links[run.path] = link


def remove(run: RunDir) -> None:
    _links.pop(run.path, None)


def of(run: RunDir) -> Link | None:
    return _links.get(run.path)


def every() -> Iterable[Link]:
    return _links.values()


def send(run: RunDir, command: CommandName, value: float | None = None) -> None:
    """Leave a command for the run's engine, wherever it is. Raises ValueError or OSError if that cannot be."""
    if (link := of(run)) is not None:
        link.send(command, value)
    else:
        rundir.send(run, command, value)


def folder(run: RunDir) -> Path:
    """The run's folder as it is shown: `box:/home/me/runs/x`, as scp takes it, for one elsewhere."""
    link = of(run)
    return run.path if link is None else Path(f"{link.host}:{link.folder}")


def place(run: RunDir, path: Path) -> Path:
    """A path inside the run's folder as it is shown."""
    return folder(run) / path.relative_to(run.path) if path.is_relative_to(run.path) else path


def title(run: RunDir) -> str:
    """The run's name, with the machine if it is another."""
    link = of(run)
    return run.name if link is None else f"{run.name} on {link.host}"


def typed(run: RunDir, command: str) -> str:
    """What to type here for a command to the run."""
    link = of(run)
    if link is None:
        return f"aozora-tui {command} {run.name}"
    if command == "watch":
        return f"aozora-tui watch --host {link.host} {run.name}"
    return f"ssh {link.host} aozora-tui {command} {run.name}"


def bring(path: Path, seconds: float = BRING_SECONDS) -> bool:
    """Have a picture of a run elsewhere copied, if it is not here, and wait for it, in a thread; whether it is here."""
    if path.is_file():
        return True
    for run, link in list(_links.items()):
        if path.is_relative_to(run):
            return link.fetch(path.relative_to(run).as_posix(), seconds)
    return False
