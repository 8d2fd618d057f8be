"""Settings that come from the environment. Where nothing but folders is set, hardly anything is imported."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from engine.contract.problems import Problem

OFF = ("0", "no", "off", "false")


def read_variable(name: str, variable: str, text: str) -> tuple[Any, Problem | None]:
    """A variable of the environment as the setting that it stands for."""
    if name == "look.glyphs":
        return ("unicode" if text.lower() in OFF else "ascii"), None
    if name in ("look.slow_link", "look.mouse"):
        return text.lower() not in OFF, None
    if name.startswith("folders."):
        return folder(variable, text, relative=True)
    from aozora_tui.settings_fields import read_look

    raw: Any = text
    if name == "look.tick":
        with contextlib.suppress(ValueError):
            raw = float(text)
    return read_look(name.removeprefix("look."), raw, variable)


def folder(where: str, text: str, *, relative: bool = False) -> tuple[str, Problem | None]:
    """A folder as an absolute path, empty for none. `relative`: it may start where the person stands; what the file
    names would be another folder each time."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        return "", Problem(where, f"there is nobody here called {text.split('/')[0][1:]}", "Write the whole path.")
    if text and not relative and not path.is_absolute():
        return "", Problem(where, f'"{text}" starts nowhere', "Write the whole path, or one from ~.")
    return str(path.absolute()) if text else "", None
