"""`watch --host`: connect while ssh can still ask, choose the run, copy what is there, and keep that up to date."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

from aozora_tui.remote import links
from aozora_tui.remote.line import Line, LostError
from aozora_tui.remote.link import Link
from aozora_tui.remote.losses import pauses
from aozora_tui.remote.mirror import Mirror, claim
from aozora_tui.terminal import complain
from aozora_tui.text import printable, size
from engine.contract import rundir
from engine.contract.rundir import RunDir

_NAMED = 8  # runs in a sentence


@contextmanager
def connected(
    host: str,
    name: str | None,
    *,
    folder: str = "",
    remote_command: str = "aozora-tui",
    tick: float = 1.0,
    between: Callable[[], Iterator[float]] = pauses,
) -> Iterator[RunDir]:
    """The mirror of a run of `host`, kept up to date meanwhile: the one called `name`, which may be its folder there,
    or the newest in `folder`, by default where runs are there. Raises ValueError if there is no such run, OSError if
    there is no connection."""
    try:
        line = Line(host, asking=True)
        try:
            where = _find(line, name, folder)
        except BaseException:
            line.close()
            raise
    except LostError as error:
        raise LostError(f"{host} cannot be reached: {error}") from None
    run, held = claim(host, PurePosixPath(where).name)
    link = Link(Mirror(run), line, where, tick=tick, remote_command=remote_command, between=between)
    try:
        with _Progress(link.run.name, host) as told:
            link.catch_up(told, complain)
        links.add(run, link)
        link.start()
        yield run
    finally:
        links.remove(run)
        link.close()
        os.close(held)


def listed(host: str, folder: str = "") -> list[str]:
    """The names of the runs of a host, the newest first. Raises as `connected` does."""
    try:
        line = Line(host, asking=True)
        try:
            names = line.ask(f"f {folder}").names
        finally:
            line.close()
    except LostError as error:
        raise LostError(f"{host} cannot be reached: {error}") from None
    return [printable(name) for name in sorted(names, key=rundir.age_key, reverse=True)]


def choose(names: Sequence[str], name: str | None, where: str) -> str:
    """The run that is meant; `where` is said if there is none. Raises ValueError with what there is."""
    every = sorted((one for one in names if one.isprintable()), key=rundir.age_key, reverse=True)
    if not every:
        raise ValueError(f"there are no runs in {where}: say where they are with --remote-runs")
    if name is None or name in every:
        return every[0] if name is None else name
    begins = [one for one in every if one.startswith(name)]
    if len(begins) == 1:
        return begins[0]
    listed = ", ".join((begins or every)[:_NAMED]) + (" ..." if len(begins or every) > _NAMED else "")
    if begins:
        raise ValueError(f"{name} fits {len(begins)} runs in {where}, write more of it: {listed}")
    raise ValueError(f"there is no run called {name} in {where}; there are: {listed}")


def _find(line: Line, name: str | None, folder: str) -> str:
    """The run's folder there, absolute."""
    if any("\n" in text for text in (name or "", folder)):
        raise ValueError("a name with a line break cannot be sent")
    if name is not None and "/" in name:
        where = name
    else:
        reply = line.ask(f"f {folder}")
        told = printable(f"{line.host}:{reply.told}")
        where = f"{reply.told}/{choose(reply.names, name, told)}"
    reply = line.ask(f"o {where}")
    if reply.refused or not PurePosixPath(reply.told).name or not reply.told.isprintable():
        raise ValueError(f"{line.host}: {printable(reply.refused or where)}: `ssh {line.host} ls` shows what is there")
    return reply.told


class _Progress:
    """A line on the terminal while the history is copied, gone afterwards."""

    def __init__(self, name: str, host: str) -> None:
        self._what = printable(f"reading {name} from {host}")
        self._shown = False

    def __enter__(self) -> Callable[[int, int], None]:
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _tell(self, here: int, there: int) -> None:
        if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            sys.stderr.write(f"\r{self._what}: {size(here)} of {size(there)}\x1b[K")
            sys.stderr.flush()
            self._shown = True


class Told:
    """The connection's news for those who read lines: each loss and each return, once, on stderr."""

    def __init__(self, run: RunDir) -> None:
        self._link = links.of(run)
        self._lost = False

    def look(self) -> None:
        if self._link is None:
            return
        news = self._link.news()
        if bool(news) != self._lost:
            self._lost = bool(news)
            complain(news or f"connected to {self._link.host} again; nothing is missing")
