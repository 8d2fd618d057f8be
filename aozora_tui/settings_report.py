"""The settings as a report, and as a file to begin with."""

from __future__ import annotations

from typing import Any

import msgspec

from aozora_tui import text
from aozora_tui.key_names import shown
from aozora_tui.keymap import SCOPES
from aozora_tui.settings import Settings
from aozora_tui.settings_fields import Folders, Look, Notify
from engine.contract import places
from engine.contract.decode import as_toml, choices, expected, unwrap

_HEAD = """\
# Settings of Aozora TUI. What has a # before it is the default: take the # away and change it.
# The command line counts before the environment, that before this file. `aozora-tui settings` says what holds.
"""
_KEYS = """\
[keys]
# Which keys do what: one or several, commas between them, as "f2,ctrl+x". A key may mean one thing only on a screen.
# While you type in a field letters are text: what you need there should have a key such as F2 too.
"""


def effective(settings: Settings) -> list[tuple[str, Any, str]]:
    """(name, value, where it comes from) of everything; of the keys only a person's own."""
    found: list[tuple[str, Any, str]] = []
    look = settings.look
    values = {f"look.{name}": getattr(look, name) for name in Look.__struct_fields__}
    values |= {f"folders.{name}": str(_folder(name)) for name in Folders.__struct_fields__}
    notify = settings.notify
    values |= {f"notify.{name}": getattr(notify, name) for name in Notify.__struct_fields__}
    values["notify.webhook"] = _without_secret(notify.webhook)
    values["look.tick"] = settings.tick
    for name, value in values.items():
        source = settings.source(name)
        if name == "look.tick" and settings.tick != look.tick:
            source = "look.slow_link"
        found.append((name, value, source))
    return found + [(f"keys.{id}", keys, "file") for id, keys in settings.own_keys.items()]


def lines(settings: Settings) -> list[str]:
    """The file, what is wrong, and a table of what holds."""
    path = settings.file
    missing = path is not None and not path.exists()
    said = [f"{path}{' (there is none yet: `aozora-tui settings --edit` makes it)' if missing else ''}"]
    said += [f"  {problem.severity}: {problem}" for problem in settings.problems]
    rows = [(name, in_words(name, value), source) for name, value, source in effective(settings)]
    return [text.printable(line) for line in [*said, "", *text.table([("SETTING", "VALUE", "FROM"), *rows])]]


def document(settings: Settings) -> dict[str, Any]:
    """The same for programs."""
    return {
        "file": str(settings.file),
        "exists": settings.file is not None and settings.file.exists(),
        "settings": {name: {"value": value, "from": source} for name, value, source in effective(settings)},
        "problems": msgspec.to_builtins(settings.problems),
    }


def in_words(name: str, value: Any) -> str:
    """A value as a person reads it."""
    if name.startswith("keys."):
        return ", ".join(shown(key) for key in str(value).split(","))
    if name == "look.tick":
        return f"{value:g} s"
    if isinstance(value, tuple):
        value = " ".join(value)
    return ("on" if value else "off") if isinstance(value, bool) else str(value) or "none"


def example() -> str:
    """A file with everything in it, each line a comment."""
    parts = [_HEAD]
    for part, kind in (("look", Look), ("folders", Folders), ("notify", Notify)):
        body = [f"[{part}]", f"# {kind.__doc__}"] if part != "look" else [f"[{part}]"]
        for field in msgspec.structs.fields(kind):
            bare, meta = unwrap(field.type)
            unit = (meta.extra or {}).get("unit")
            takes = f" It takes {expected(field.type)}{f' {unit}' if unit else ''}."
            takes = takes if choices(bare) or unit else ""
            body += text.folded(f"# {meta.description}{takes}", 120, indent="# ")
            body.append(f"#{field.name} = {as_toml(field.default)}")
        parts.append("\n".join(body) + "\n")
    keys = [_KEYS.rstrip("\n")]
    for listed in SCOPES.values():
        for key in listed:
            written = ",".join("comma" if name == "," else name for name in key.names)
            keys.append(f"{f'#{as_toml(key.id)} = {as_toml(written)}':<46} # {key.help}")
    return "\n".join([*parts, "\n".join(keys) + "\n"])


def _without_secret(address: str) -> str:
    """Of a webhook's address whoever knows its path can write there: reports are pasted into issues."""
    scheme, _, rest = address.partition("://")
    place, slash, _ = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{'...' if slash else ''}" if rest else ""


def _folder(name: str) -> Any:
    known = {"runs": places.runs_folder, "profiles": places.profiles_folder, "cache": places.cache_folder}
    return known.get(name, places.data_folder)()
