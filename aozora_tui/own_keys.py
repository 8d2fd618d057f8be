"""A person's own keys: checked against each other and against the table, and laid over it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from aozora_tui.key_names import is_text, read_key, shown
from aozora_tui.keymap import ALONE, SCOPES, TOGETHER
from aozora_tui.keys.key import Key
from engine.contract.decode import key_path
from engine.contract.problems import Problem

# Another key in disguise: a terminal sends the same for both.
_DISGUISED = {
    "ctrl+m": "enter",
    "ctrl+i": "tab",
    "ctrl+h": "backspace",
    "ctrl+j": "a line feed",
    "ctrl+left_square_bracket": "esc",
}
# Who else wants it, and so often keeps it.
_EATEN = {
    "ctrl+a": "screen",
    "ctrl+b": "tmux",
    "ctrl+s": "the terminal's flow control",
    "ctrl+q": "the terminal's flow control, or VS Code",
    "ctrl+o": "some terminals",
    "ctrl+p": "VS Code",
    "ctrl+z": "the shell's job control",
    **dict.fromkeys(("f1", "f3", "f5", "f11"), "VS Code"),
    **dict.fromkeys(("alt+left", "alt+right", "alt+up", "alt+down"), "macOS"),
}
# What edits the text instead, while a text field has the focus.
EDITING = frozenset(f"ctrl+{letter}" for letter in "acdefkuvwxyz") | {"backspace", "delete", "enter", "left", "right"}


@dataclass(frozen=True)
class Keys:
    """The table with a person's own keys in it: `own` by id, as Textual names them, for example `f2,ctrl+x`."""

    own: Mapping[str, str] = field(default_factory=dict)

    def scope(self, name: str) -> tuple[Key, ...]:
        """A part of the table, its keys as they are pressed here."""
        return tuple(replace(key, keys=self.own.get(key.id, key.keys)) for key in SCOPES[name])

    def name(self, id: str) -> str:
        """What to press for a command, as a person reads it; for sentences such as `press {name} to copy it`."""
        key = _table()[id]
        return shown(self.own.get(id, key.keys).split(",")[0])

    def listed(self, id: str) -> tuple[str, ...]:
        """All keys of a command, as Textual names them."""
        return tuple(self.own.get(id, _table()[id].keys).split(","))

    def name_while_typing(self, id: str) -> str:
        """What to press for it even where letters are text; where no key of it works there, its first one."""
        keys = self.listed(id)
        return shown(
            next((key for key in reversed(keys) if not is_text(key) and key not in EDITING - {"ctrl+c"}), keys[0])
        )


def groups() -> tuple[tuple[str, ...], ...]:
    """Every set of scopes in which a key may mean one thing only."""
    grouped = {scope for scopes in TOGETHER for scope in scopes} | {"app", *ALONE}
    screens = [*TOGETHER, *((scope,) for scope in SCOPES if scope not in grouped)]
    return (*((*scopes, "app") for scopes in screens), *((scope,) for scope in ALONE))


def read_keys(written: Mapping[str, str]) -> tuple[Keys, list[Problem]]:
    """What stands under [keys], as far as it can be used: entries that are wrong, or whose key does something else
    where it would be pressed, are left out with a problem each; a key that may never arrive is a warning."""
    own: dict[str, str] = {}
    problems: list[Problem] = []
    for id, text in written.items():
        keys, problem = _read_entry(id, text)
        if problem is None:
            own[id] = keys
        else:
            problems.append(problem)
    while (found := _first_clash(own)) is not None:
        id, problem = found
        del own[id]
        problems.append(problem)
    return Keys(own), problems + [warning for id, keys in own.items() for warning in _warnings(id, keys)]


def _table() -> dict[str, Key]:
    return {key.id: key for keys in SCOPES.values() for key in keys}


def _read_entry(id: str, text: str) -> tuple[str, Problem | None]:
    path, table = key_path("keys", id), _table()
    if id not in table:
        near = difflib.get_close_matches(id, table, 1, 0.6)
        remedy = f"Did you mean `{near[0]}`?" if near else "`aozora-tui settings --example` lists every command."
        return "", Problem(path, "there is no such command", remedy)
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        remedy = 'Write one, as "f2", or several, as "f2,ctrl+x"; the comma itself is "comma".'
        return "", Problem(path, "a key without a name", remedy)
    keys = []
    for part in parts:
        try:
            keys.append(read_key(part))
        except ValueError as meant:
            remedy = f'Did you mean "{meant}"?' if str(meant) else 'Write it as "f2", "ctrl+x", "G" or "?".'
            return "", Problem(path, f'there is no key called "{part}"', remedy)
    if id.startswith("ask.") and any(map(is_text, keys)):
        return "", Problem(path, "letters and signs are answers in a panel", 'Take another key, as "f2".')
    return ",".join(dict.fromkeys(keys)), None


def _first_clash(own: Mapping[str, str]) -> tuple[str, Problem] | None:
    """The last written entry of which a key means something else too where it holds, and the sentence for that."""
    for id in reversed(list(own)):
        others = _holding_with(id)
        for name in own[id].split(","):
            for other in others:
                # Some keys of the table are shared on purpose: what has the focus takes them first.
                shared = name in other.keys.split(",") and name in _table()[id].keys.split(",")
                if name in own.get(other.id, other.keys).split(",") and not shared:
                    text = f'"{shown(name)}" is the key of `{other.id}` there ({other.help.rstrip(".")})'
                    stays = ", ".join(_table()[id].names)
                    return id, Problem(key_path("keys", id), text, f"Take another; until then it stays {stays}.")
    return None


def _holding_with(id: str) -> list[Key]:
    """Every other command that is to be had where this one is."""
    scope = id.partition(".")[0]
    scopes = dict.fromkeys(name for group in groups() if scope in group for name in group)
    return [key for name in scopes for key in SCOPES[name] if key.id != id]


def _warnings(id: str, keys: str) -> list[Problem]:
    if keys == _table()[id].keys:
        return []
    path, listed = key_path("keys", id), keys.split(",")
    found = [Problem(path, text, "Have another one beside it.", "warning") for key in listed if (text := _risk(key))]
    wanted_in_text = any(re.fullmatch(r"f\d+", key) for key in _table()[id].keys.split(","))
    if wanted_in_text and all(is_text(key) or key in EDITING for key in listed):
        text = f"{' and '.join(map(shown, listed))} cannot be reached while a text field has the focus"
        found.append(Problem(path, text, "Add a key such as F2.", "warning"))
    return found


def _risk(key: str) -> str:
    """Why a key may not arrive, or nothing."""
    if key in _DISGUISED:
        return f"{shown(key)} is {_DISGUISED[key]} to a terminal"
    if key in _EATEN:
        return f"{shown(key)} may not arrive: {_EATEN[key]} takes it"
    if key in ("ctrl+enter", "shift+enter") or key.startswith("ctrl+shift+"):
        return f"{shown(key)} arrives from few terminals only (Kitty's protocol)"
    return ""
