"""What a profile may be called. No Textual."""

from __future__ import annotations

from pathlib import Path

_LONGEST = 120  # bytes; the names of its runs add the time


def bare(name: str) -> str:
    """What was typed, without the ending that every profile has."""
    return name.strip().removesuffix(".toml")


def wrong_with(name: str, folder: Path, *, now: str = "") -> str:
    """What forbids a profile of that name in `folder`, or "". `now` is the name it has already."""
    if not name:
        return "write a name"
    if name.startswith(".") or "/" in name or not name.isprintable():
        return "a name has no / and does not begin with a point"
    if len(name.encode()) > _LONGEST:
        return f"a name has {_LONGEST} bytes at the most"
    if name != now and (folder / f"{name}.toml").exists():
        return f"there is a profile called {name} already"
    return ""
