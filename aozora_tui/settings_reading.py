"""What a person wrote into the settings file or the environment, checked: what is wrong is left out and told."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from aozora_tui.settings import FILE_NAME, VARIABLES
from aozora_tui.settings_environment import folder
from aozora_tui.settings_fields import Written, shorter
from engine.contract.decode import decode
from engine.contract.problems import Problem

MOST_BYTES = 1 << 20


def read_file(file: Path) -> tuple[dict[str, Any], Mapping[str, str], list[Problem]]:
    """What is right in the file: settings by dotted name, keys by id as they are written, not checked yet; and a
    problem for each thing that is not."""
    raw, problem = _parsed(file)
    if problem is not None:
        return {}, {}, [problem]
    written, problems = _sorted_out(raw)
    keys = written.pop("keys", {})
    values = {f"{part}.{name}": value for part, section in written.items() for name, value in section.items()}
    return values, keys, [in_file(one) for one in problems]


def check_keys(written: Mapping[str, str]) -> tuple[Mapping[str, str], list[Problem]]:
    """Those that can be used, and what is wrong with the others."""
    from aozora_tui.own_keys import read_keys

    keys, problems = read_keys(written)
    return keys.own, [in_file(one) for one in problems]


def _parsed(file: Path) -> tuple[dict[str, Any], Problem | None]:
    try:
        with file.open("rb") as opened:
            read = opened.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}, None
    except OSError as error:
        return {}, Problem(file.name, f"cannot be read ({error.strerror})", "Check the file.")
    if len(read) > MOST_BYTES:
        return {}, Problem(file.name, "is far too large for settings", "Look what it is.")
    try:
        return tomllib.loads(read.decode("utf-8-sig").replace("\r\n", "\n")), None
    except UnicodeDecodeError as error:
        return {}, Problem(file.name, f"is not a text in UTF-8 (byte {error.start:,})", "Save it as UTF-8.")
    except ValueError as error:
        return {}, Problem(file.name, f"is not valid TOML: {error}", "Correct that line.")
    except RecursionError:
        return {}, Problem(file.name, "is not valid TOML: it is nested too deeply", "Correct it.")


def _sorted_out(raw: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Every setting by itself: one that is wrong takes no other with it."""
    written: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for part, section in raw.items():
        if part not in Written.__struct_fields__ or not isinstance(section, dict):
            problems += map(_placed, decode(Written, {part: section})[1])
            continue
        written[part] = {}
        for name, value in (_flat(section) if part == "keys" else section).items():
            found = decode(Written, {part: {name: value}})[1]
            if not found and part == "folders":
                value, wrong = folder(f"{part}.{name}", value)
                found = [wrong] if wrong else []
            if not found:
                written[part][name] = value
            problems += map(shorter, found)
    return written, problems


def _flat(keys: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """`profile.save = "f2"` without quotes is a table in a table to TOML, and means the same."""
    found: dict[str, Any] = {}
    for name, value in keys.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def _placed(problem: Problem) -> Problem:
    """A setting that stands outside its section is told where it belongs."""
    part = next((name.partition(".")[0] for name in VARIABLES if name.endswith(f".{problem.path}")), "")
    return msgspec.structs.replace(problem, remedy=f"It belongs under [{part}].") if part else problem


def in_file(problem: Problem) -> Problem:
    return msgspec.structs.replace(problem, path=f"{FILE_NAME}: {problem.path}")
