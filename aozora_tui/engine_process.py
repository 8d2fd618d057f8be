"""The engine as a process of its own: how it is called, and from where."""

import os
import sys
from pathlib import Path

from engine.contract import places

# The engine, run by this very interpreter.
ENGINE = (sys.executable, "-m", "engine")
# It starts in the packages' own folder, so that a folder called `engine` where the person stands cannot be taken for
# ours.
PACKAGES = Path(places.__file__).resolve().parents[2]
_FOLDER_VARIABLES = ("AOZORA_DATA", "AOZORA_CACHE", "AOZORA_RUNS", "AOZORA_PROFILES")


def environment() -> dict[str, str]:
    """Ours; relative folders in it were meant from where the person stands."""
    folders = {name: os.environ[name] for name in _FOLDER_VARIABLES if os.environ.get(name)}
    return {**os.environ, **{name: str(Path(folder).expanduser().absolute()) for name, folder in folders.items()}}
