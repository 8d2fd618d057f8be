"""A file in a person's own editor."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable
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
    try:
        command = shlex.split(named)
        with suspended():
            subprocess.run([*command, str(path)], check=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"the editor {named} could not be started ({error}): set EDITOR to another") from None
