"""A profile of one's own from what a run was told: that has every setting and whole paths. No Textual."""

from __future__ import annotations

from pathlib import Path

from aozora_tui.profile_names import bare, wrong_with
from aozora_tui.run_list import stem_of
from aozora_tui.text import printable
from engine.contract import places, rundir
from engine.contract.rundir import RunDir


def clone(run: RunDir, name: str | None = None) -> Path:
    """Write the run's profile as a new one called `name`, by default after the run's own; returns where it is.

    Raises ValueError, saying why, if the name cannot be or the run's profile cannot be read, OSError if it cannot be
    written. Nothing is overwritten.
    """
    from aozora_tui.profile_file import ProfileFile, free_path

    folder = places.profiles_folder()
    name = None if name is None else bare(name)
    if name is not None and (wrong := wrong_with(name, folder)):
        raise ValueError(f'"{printable(name)}" cannot be the name of the new profile: {wrong}')
    if not run.profile.is_file():
        raise ValueError(f"{run.name} has no profile.toml: it ended before it had written down what it was told")
    file = ProfileFile.open(run.profile)
    to = folder / f"{name}.toml" if name is not None else free_path(folder, _usual_name(run, folder))
    file.save_as(to)
    return to


def _usual_name(run: RunDir, folder: Path) -> str:
    """What the profile was called, as far as that is known; else what the run is."""
    info = rundir.read_info(run)
    names = (Path(info.profile_path).stem if info is not None else "", stem_of(run.name), run.name)
    return next((name for name in names if not wrong_with(name, folder, now=name)), "run")
