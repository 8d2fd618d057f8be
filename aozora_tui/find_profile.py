"""From what a person types to the profile they mean."""

import difflib
import os
from pathlib import Path

from engine.contract import places


def find_profile(text: str) -> Path:
    """The file `text` names: a path, or the bare name of an own profile or, after those, of a shipped one.

    Raises ValueError with the nearest names if there is none.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path.absolute()
    if os.sep in text or path.is_dir():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"{path} {what}: name a profile, a .toml file")
    named = names()
    name = text.removesuffix(".toml")
    if name in named:
        return named[name]
    near = difflib.get_close_matches(name, named, 1, 0.6)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(named) or 'none'}"
    raise ValueError(f"there is no profile called {text}: {hint}")


def shipped(name: str) -> Path:
    """A recipe that comes with the program."""
    return places.shipped_profiles_folder() / f"{name}.toml"


def names() -> dict[str, Path]:
    """Every profile that a bare name can mean. An own profile hides a shipped one of the same name."""
    folders = (places.shipped_profiles_folder(), places.profiles_folder())
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.toml"))}
