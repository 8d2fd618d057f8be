"""Where the settings file is, and what a new one holds."""

from __future__ import annotations

from pathlib import Path

from aozora_tui import settings_report
from aozora_tui.settings import FILE_NAME, Settings
from engine.contract import places
from engine.contract.atomic import write_text


def path_of(settings: Settings) -> Path:
    """Where the file is, or would be."""
    return settings.file or places.config_folder() / FILE_NAME


def made(settings: Settings) -> Path:
    """The file, made if there is none: everything is in it, as a comment. Raises OSError if it cannot be."""
    path = path_of(settings)
    if not path.exists():
        write_text(path, settings_report.example())
    return path
