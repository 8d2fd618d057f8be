"""From what a person types to the run they mean."""

from __future__ import annotations

import os
from pathlib import Path

from engine.contract import places, rundir
from engine.contract.rundir import RunDir


def is_run(folder: Path) -> bool:
    """Whether a run has left anything there."""
    return any((folder / name).exists() for name in ("events.jsonl", "run.json", "profile.toml"))


def find(said: str) -> RunDir:
    """The run of that name, or the folder of one anywhere. Raises ValueError with what is wrong with it."""
    runs_folder = places.runs_folder()
    here = os.sep not in said and not (runs_folder / said).is_dir() and is_run(Path(said))
    run = rundir.find(runs_folder, f".{os.sep}{said}" if here else said)
    if not is_run(run.path):
        raise ValueError(f"{run.path} is no run: it has no events.jsonl, run.json or profile.toml")
    return run
