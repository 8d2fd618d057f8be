"""Where things live on this machine, and how a profile's paths are read."""

import os
from pathlib import Path

APP = "aozora-tui"


def config_folder() -> Path:
    """Where `settings.toml` is. `AOZORA_CONFIG` overrides the platform's user config folder."""
    if override := _override("AOZORA_CONFIG"):
        return override
    import platformdirs

    return platformdirs.user_config_path(APP, appauthor=False)


def data_folder() -> Path:
    """Runs and the demo's files. `AOZORA_DATA` overrides the platform's user data folder."""
    if override := _override("AOZORA_DATA"):
        return override
    import platformdirs

    return platformdirs.user_data_path(APP, appauthor=False)


def cache_folder() -> Path:
    """Encoded pictures and captions; safe to delete. `AOZORA_CACHE` overrides."""
    if override := _override("AOZORA_CACHE"):
        return override
    import platformdirs

    return platformdirs.user_cache_path(APP, appauthor=False)


def runs_folder() -> Path:
    """One folder a run. `AOZORA_RUNS` overrides; else `runs` in the data folder."""
    return _override("AOZORA_RUNS") or data_folder() / "runs"


def profiles_folder() -> Path:
    """A person's own profiles. `AOZORA_PROFILES` overrides; else `profiles` in the data folder."""
    return _override("AOZORA_PROFILES") or data_folder() / "profiles"


def _override(variable: str) -> Path | None:
    """The folder that a variable of the environment names, absolute; None if it names none."""
    if not (named := os.environ.get(variable)):
        return None
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError:  # ~somebody who has no account here
        return Path(named).absolute()


def shipped_profiles_folder() -> Path:
    """The recipes that come with the program: beside the packages in a checkout, inside them in a wheel."""
    root = Path(__file__).resolve().parents[2]
    packaged = root / "aozora_tui" / "profiles"
    return packaged if packaged.is_dir() else root / "profiles"


def demo_folder() -> Path:
    """The demo's checkpoint, tokenizer and pictures."""
    return data_folder() / "demo"


def expand(text: str, base: Path) -> Path:
    """A profile's path as an absolute one: `{data}` and `{cache}` stand for the folders above, `~` for home,
    and a relative path starts at `base`, the profile's own folder."""
    replaced = text.replace("{data}", str(data_folder())).replace("{cache}", str(cache_folder()))
    try:
        path = Path(replaced).expanduser()
    except RuntimeError:  # ~somebody who has no account here
        path = Path(replaced)
    return path if path.is_absolute() else (base / path).absolute()
