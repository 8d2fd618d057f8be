"""The settings file in a person's own editor."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from aozora_tui import settings_report
from aozora_tui.settings import FILE_NAME, Settings
from engine.contract import places
from engine.contract.atomic import write_text


def made(settings: Settings) -> Path:
    """The file, made if there is none: everything is in it, as a comment. Raises OSError if it cannot be."""
    path = settings.file or places.config_folder() / FILE_NAME
    if not path.exists():
        write_text(path, settings_report.example())
    return path


def edit(path: Path) -> None:
    """Wait until the editor is closed. Raises ValueError if there is none, or it could not be started."""
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not command:
        raise ValueError(f"no editor is set: `export EDITOR=nano`, for example, or open {path} yourself")
    try:
        subprocess.run([*shlex.split(command), str(path)], check=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"the editor {command} could not be started ({error}): set EDITOR to another") from None
