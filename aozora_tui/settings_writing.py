"""One setting, written into the settings file for its owner: all else in there stays as it is."""

from __future__ import annotations

import contextlib
import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tomlkit
from msgspec import structs
from tomlkit.exceptions import TOMLKitError

from aozora_tui import settings_report
from aozora_tui.settings import OWN_THEME, Settings
from aozora_tui.settings_file import path_of
from aozora_tui.toml_edit import same, scalar
from engine.contract.atomic import write_text

Scalar = bool | int | float | str
_MARK = "\ufeff"  # that some editors put before a text
_THEME = "look.theme"


class Kept(NamedTuple):
    """The settings as they are now, and what to say."""

    settings: Settings
    said: str


def keep_theme(settings: Settings, theme: str) -> Kept:
    """Write a theme down for the next starts; the file is made if there is none. Raises OSError if it cannot be
    written, ValueError if what stands there is nothing that can be changed: with what to do."""
    file = path_of(settings)
    write(file, "look", "theme", theme, default=OWN_THEME)
    if settings.again is None:
        return Kept(settings, f"{theme} is kept in {file.name}")
    found: Settings = settings.again()
    others = {name: one for name, one in settings.values.items() if name != _THEME}
    now = {_THEME: found.values[_THEME]} if _THEME in found.values else {}
    settings = structs.replace(settings, values={**others, **now})
    if settings.look.theme == theme:
        return Kept(settings, f"{theme} is kept in {file.name}")
    return Kept(settings, f"{theme} until the app is closed: {found.source(_THEME)} counts before {file.name}")


def write(file: Path, section: str, name: str, value: Scalar, *, default: Scalar | None = None) -> None:
    """Write one value, whole or not at all; a `default` only over another value. Comments, order and spelling of the
    rest stay; where the default stands as a comment, the value comes right after it. Raises as `keep_theme` does."""
    text = _read(file)
    if text is None and value == default:
        return
    text = settings_report.example() if text is None else text
    mark, newline = _MARK if text.startswith(_MARK) else "", "\r\n" if "\r\n" in text else "\n"
    plain = text.removeprefix(_MARK).replace("\r\n", "\n")
    before = _parsed(file, plain)
    held = before.get(section, {})
    if not isinstance(held, dict):
        raise ValueError(f"{file.name}: {section} is no table: write it as [{section}], then choose again")
    if same(held.get(name, default), value):
        return
    wanted = {**before, section: {**held, name: value}}
    for after in _written(plain, (section, name), value, before):
        if _is_right(plain, after, wanted):
            write_text(file, mark + after.replace("\n", newline))
            return
    # Never at the price of something else in it.
    raise ValueError(f"{file.name} is written in a way that only you can change: put {_line(name, value)} there")


def _read(file: Path) -> str | None:
    """None if there is no file."""
    try:
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.name} is not a text in UTF-8 (byte {error.start:,}): save it as UTF-8") from None


def _parsed(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"{file.name} is not valid TOML: {error}; correct that first") from None
    except RecursionError:
        raise ValueError(f"{file.name} is not valid TOML: it is nested too deeply; correct that first") from None


def _written(text: str, path: tuple[str, str], value: Scalar, before: Mapping[str, Any]) -> Iterator[str]:
    """The text with the value, in the ways that there are, the best first."""
    section, name = path
    text = text if text.endswith("\n") or not text else f"{text}\n"
    if section not in before:
        blank = "\n" if text and not text.endswith("\n\n") else ""
        yield f"{text}{blank}[{section}]\n{_line(name, value)}\n"
        return
    if name not in before[section]:
        yield from _inserted(text, section, name, value)
    with contextlib.suppress(TOMLKitError):
        document = tomlkit.parse(text)
        table: Any = document[section]
        table[name] = scalar(value, table.get(name))
        yield document.as_string()


def _inserted(text: str, section: str, name: str, value: Scalar) -> Iterator[str]:
    """With one more line: behind the comment that says the default, else behind the last entry, before comments that
    belong to what follows."""
    lines = text.split("\n")
    header = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]\s*(#.*)?")
    first = next((at for at, line in enumerate(lines) if header.fullmatch(line)), None)
    if first is None:
        return
    end = next((at for at in range(first + 1, len(lines)) if re.match(r"\s*\[", lines[at])), len(lines))
    default = re.compile(rf"\s*#\s*{re.escape(name)}\s*=")
    said = [at for at in range(first + 1, end) if default.match(lines[at])]
    entries = [at for at in range(first, end) if re.match(r"\s*[^\s#]", lines[at])]
    place = (said or entries)[-1] + 1
    yield "\n".join([*lines[:place], _line(name, value), *lines[place:]])


def _line(name: str, value: Scalar) -> str:
    return f"{name} = {scalar(value, None).as_string()}"


def _is_right(before: str, after: str, wanted: Mapping[str, Any]) -> bool:
    """Whether the text says what it shall, and what stood there stands there still but for one line."""
    changes = difflib.unified_diff(before.split("\n"), after.split("\n"), n=0, lineterm="")
    gone = [line for line in list(changes)[2:] if line.startswith("-") and line != "-"]
    try:
        return tomllib.loads(after) == wanted and len(gone) <= 1
    except ValueError:
        return False
