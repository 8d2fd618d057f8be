"""The profile: what a run is told. Reading, checking and writing it; its fields are in `sections`."""

import hashlib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.contract import places
from engine.contract.contradictions import objective_contradictions
from engine.contract.decode import decode
from engine.contract.problems import Problem, ProfileError, errors
from engine.contract.sections import Profile

NOTEPADS_MARK = "\ufeff"


def decode_profile(raw: dict[str, Any]) -> tuple[Profile | None, list[Problem]]:
    """Plain TOML values as a profile, with every problem of types, ranges and impossible pairs."""
    profile, problems = decode(Profile, raw)
    return (profile, problems + contradictions(profile)) if profile else (None, problems)


def contradictions(profile: Profile) -> list[Problem]:
    """Settings that are each valid and together impossible or unwise."""
    found = objective_contradictions(profile.objective)
    if profile.data.resolution < profile.data.bucket_step:
        text = f"is smaller than one bucket step ({profile.data.bucket_step})"
        found.append(Problem("data.resolution", text, "Raise it, or lower data.bucket_step."))
    if profile.save.every > profile.train.steps:
        text = f"is beyond the last step ({profile.train.steps}): nothing is saved before the end"
        found.append(Problem("save.every", text, "Lower it, or write 0 if that is meant.", "warning"))
    return found


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
            _drop(raw, re.findall(r"[^.\[\]]+", problem.path))
        raw.setdefault("model", {}).setdefault("base", "missing")
        raw.setdefault("data", {}).setdefault("folders", [{"path": "missing"}])
    except (ValueError, LookupError, AttributeError, RecursionError):
        return None
    return decode_profile(raw)[0]


def _drop(raw: Any, path: Sequence[str]) -> None:
    """Take one setting out. Raises LookupError, ValueError or AttributeError where the path leads nowhere."""
    for part in path[:-1]:
        raw = raw[int(part)] if isinstance(raw, list) else raw.get(part, {})
    if isinstance(raw, dict):
        raw.pop(path[-1], None)


def load(path: Path) -> Profile:
    """The profile in `path`. Raises ProfileError with every problem that forbids a run."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ProfileError(str(path), [Problem(str(path), "does not exist", "Check the name.")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(str(path), [Problem(str(path), f"cannot be read ({error})", "Check the file.")]) from None
    profile, problems = parse(text, str(path))
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


def differences(old: Profile, new: Profile) -> list[tuple[str, Any, Any]]:
    """(path, old value, new value) of every setting in which two profiles differ."""
    found = []
    for section in old.__struct_fields__:
        before, after = getattr(old, section), getattr(new, section)
        for name in before.__struct_fields__:
            values = getattr(before, name), getattr(after, name)
            if values[0] != values[1]:
                found.append((f"{section}.{name}", *values))
    return found


def dump(profile: Profile) -> str:
    """The profile as TOML with every default written out."""
    import tomli_w

    return tomli_w.dumps(msgspec.to_builtins(profile))


def digest(profile: Profile) -> str:
    """Short hash of every setting: two runs with the same digest were told the same."""
    return hashlib.blake2b(msgspec.json.encode(profile, order="deterministic"), digest_size=8).hexdigest()
