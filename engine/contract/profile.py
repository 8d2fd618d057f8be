"""The profile: what a run is told. Reading, checking and writing it; its fields are in `sections`."""

import hashlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.contract import places
from engine.contract.contradictions import contradictions
from engine.contract.decode import decode, path_parts
from engine.contract.problems import Problem, ProfileError, errors
from engine.contract.sections import Profile

NOTEPADS_MARK = "\ufeff"
MOST_BYTES = 1 << 20
_CHECKPOINTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
# The choice that a curve belongs to.
_CHOICES = {"objective.timestep_curve": ("objective", "timesteps"), "schedule.curve": ("schedule", "shape")}


def decode_profile(raw: dict[str, Any]) -> tuple[Profile | None, list[Problem]]:
    """Plain TOML values as a profile, with every problem of types, ranges and impossible pairs."""
    profile, problems = decode(Profile, raw)
    return (profile, problems + contradictions(profile)) if profile else (None, problems)


def parse(text: str, source: str) -> tuple[Profile | None, list[Problem]]:
    """TOML text as a profile, or None with every problem. `source` names the file in messages."""
    try:
        raw = tomllib.loads(text.removeprefix(NOTEPADS_MARK))
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        return None, [Problem(source, f"is not valid TOML: {error}", "Correct that line.")]
    except RecursionError:
        return None, [Problem(source, "is not valid TOML: it is nested too deeply", "Correct it.")]
    return decode_profile(raw)


def salvage(text: str, problems: Sequence[Problem]) -> Profile | None:
    """What a wrong profile says where it is right, the rest as if it were not written: so that the paths it names can
    be checked in the same breath. None if too little is left."""
    try:
        raw = tomllib.loads(text.removeprefix(NOTEPADS_MARK))
        for problem in problems:
            _drop(raw, path_parts(problem.path))
        for curve, (section, choice) in _CHOICES.items():
            if any(problem.path.startswith(curve) for problem in problems):
                _forget_curve(raw[section], choice)
        raw.setdefault("model", {}).setdefault("base", "missing")
        for folder in raw.setdefault("data", {}).setdefault("folders", [{}]):
            folder.setdefault("path", "missing")
    except (ValueError, LookupError, AttributeError, RecursionError):
        return None
    return decode_profile(raw)[0]


def _forget_curve(section: dict[str, Any], choice: str) -> None:
    """A curve that cannot be read is not one without points."""
    if section.get(choice) == "curve":
        del section[choice]


def _drop(raw: Any, path: Sequence[str]) -> None:
    """Take one setting out, a list as a whole unless its entries are tables. Raises LookupError, ValueError or
    AttributeError where the path leads nowhere."""
    name = path[-1]
    for part in path[:-1]:
        inner = raw[int(part)] if isinstance(raw, list) else raw.get(part, {})
        if isinstance(inner, list) and not all(isinstance(entry, dict) for entry in inner):
            name = part
            break
        raw = inner
    if isinstance(raw, dict):
        raw.pop(name, None)


def read_text(path: Path) -> str:
    """What stands in `path`. Raises ProfileError for what cannot be a profile, without reading it."""
    source = str(path)
    try:
        with path.open("rb") as file:
            # A device has no size, and no end either.
            read = b"" if path.suffix.lower() in _CHECKPOINTS else file.read(MOST_BYTES + 1)
        if path.suffix.lower() in _CHECKPOINTS or len(read) > MOST_BYTES:
            remedy = "`aozora-tui inspect` says what a checkpoint is; a profile is a .toml file."
            raise ProfileError(source, [Problem(source, "is no profile", remedy)])
        return read.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise ProfileError(source, [Problem(source, "does not exist", "Check the name.")]) from None
    except OSError as error:
        raise ProfileError(source, [Problem(source, f"cannot be read ({error.strerror})", "Check the file.")]) from None
    except UnicodeDecodeError as error:
        problem = Problem(
            source, f"is not a text in UTF-8 ({error.reason} at byte {error.start:,})", "Save it as UTF-8."
        )
        raise ProfileError(source, [problem]) from None


def load(path: Path) -> Profile:
    """The profile in `path`. Raises ProfileError with every problem that forbids a run."""
    profile, problems = parse(read_text(path), str(path))
    if profile is None or errors(problems):
        raise ProfileError(str(path), errors(problems))
    return profile


def resolved(profile: Profile, base: Path) -> Profile:
    """The same profile with every path absolute; relative ones start at `base`. What a run folder keeps."""

    def absolute(text: str) -> str:
        return str(places.expand(text, base)) if text else ""

    folders = tuple(msgspec.structs.replace(folder, path=absolute(folder.path)) for folder in profile.data.folders)
    data = msgspec.structs.replace(profile.data, folders=folders, cache=absolute(profile.data.cache))
    model = profile.model
    named = {name: absolute(getattr(model, name)) for name in ("base", "vae", "tokenizer")}
    model = msgspec.structs.replace(model, **named)
    return msgspec.structs.replace(profile, model=model, data=data)


def dump(profile: Profile) -> str:
    """The profile as TOML with every default written out."""
    import tomli_w

    return tomli_w.dumps(msgspec.to_builtins(profile))


def digest(profile: Profile) -> str:
    """Short hash of every setting: two runs with the same digest were told the same."""
    return hashlib.blake2b(msgspec.json.encode(profile, order="deterministic"), digest_size=8).hexdigest()
