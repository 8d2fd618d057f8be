"""A file in a person's own editor."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.app import App


def edit(path: Path) -> None:
    """Wait until the editor is closed. Raises ValueError, with what to do, if there is none or it cannot be started."""
    _edit(path, contextlib.nullcontext)


def edit_behind(app: App[Any], path: Path) -> None:
    """The same from within the app, which waits behind the editor: nothing of it may be awaited meanwhile, since what
    it draws then goes nowhere, and soon blocks. Raises ValueError, too, where the terminal cannot be lent."""
    from textual.app import SuspendNotSupported

    try:
        _edit(path, app.suspend)
    except SuspendNotSupported:
        raise ValueError("this terminal cannot be lent to an editor: open the file in another one") from None


def _edit(path: Path, suspended: Callable[[], AbstractContextManager[object]]) -> None:
    import subprocess

    named = next((value for name in ("VISUAL", "EDITOR") if (value := os.environ.get(name, "").strip())), "")
    if not named:
        raise ValueError("no editor is set: `export EDITOR=nano`, for example, and start again")
    failed: Exception | None = None
    command = _command(named)
    with suspended(), _deaf_to_ctrl_c():
        # Raised further from in here, it would keep the app from taking the terminal back.
        try:
            subprocess.run([*command, str(path)], check=False)
        except (OSError, ValueError) as error:
            failed = error
    if failed is not None:
        raise _not_started(named, str(failed))


def _command(named: str) -> list[str]:
    """Looked for before the terminal is lent: so the screen does not flicker for nothing."""
    try:
        command = shlex.split(named)
    except ValueError as error:
        raise _not_started(named, str(error)) from None
    if shutil.which(command[0]) is None:
        raise _not_started(named, "there is no such program")
    return command


def _not_started(named: str, why: str) -> ValueError:
    return ValueError(f"the editor {named} could not be started ({why}): set EDITOR to another")


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """The terminal sends ctrl+c to the editor and to whoever waits behind it: only the editor is meant."""
    try:
        # A handler, for what is ignored stays ignored in the editor too.
        before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    except ValueError:  # not the main thread, which alone hears of it
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
