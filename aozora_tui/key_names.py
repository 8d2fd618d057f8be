"""What keys are called: by Textual, by a person, and on a key bar."""

from __future__ import annotations

import difflib
import re
import string
import unicodedata

# Signs that Textual calls otherwise than Unicode does.
_SHORT_NAMES = {
    "solidus": "slash",
    "reverse_solidus": "backslash",
    "commercial_at": "at",
    "hyphen_minus": "minus",
    "plus_sign": "plus",
    "low_line": "underscore",
}
_OTHER_NAMES = {
    "esc": "escape",
    "return": "enter",
    "del": "delete",
    "ins": "insert",
    "pgup": "pageup",
    "pgdn": "pagedown",
    "pgdown": "pagedown",
    "bs": "backspace",
    "spacebar": "space",
    "control": "ctrl",
    "option": "alt",
}
_MODIFIERS = ("ctrl", "alt", "shift")


def sign_name(sign: str) -> str:
    """The name that Textual gives to the key of a sign: `?` is `question_mark`; letters and digits are themselves."""
    if sign.isalnum():
        return sign
    name = unicodedata.name(sign, sign).lower().replace("-", "_").replace(" ", "_")
    return _SHORT_NAMES.get(name, name)


SIGNS = {sign_name(sign): sign for sign in string.punctuation}
_PLAIN = "up down left right home end pageup pagedown insert delete backspace enter tab space escape"
WORDS = frozenset((*_PLAIN.split(), *(f"f{number}" for number in range(1, 25)), *SIGNS))


def shown(key: str) -> str:
    """`question_mark` as `?`, `f2` as `F2`, `D` as it is."""
    if len(key) in (2, 3) and key[0] == "f" and key[1:].isdecimal():
        return key.upper()
    if key == "escape":
        return "esc"
    modifiers, plus, last = key.rpartition("+")
    return f"{modifiers}{plus}{SIGNS.get(last, last)}"


def read_key(written: str) -> str:
    """A key as a person writes it (`F2`, `ctrl+x`, `?`, `esc`) as Textual names it.

    Raises ValueError with the name that may have been meant, or without one.
    """
    parts = [written] if len(written) == 1 else re.split(r"\s*[+-]\s*(?=.)", written)
    modifiers, last = sorted({_word(part) for part in parts[:-1]}), parts[-1]
    if set(modifiers) - {"shift"}:
        last = last.lower()
    last = sign_name(last) if len(last) == 1 else _word(last)
    if modifiers == ["shift"] and last.isalpha() and len(last) == 1:
        return last.upper()  # that is how a terminal sends it
    right = len(last) == 1 or last in WORDS
    wrong = [modifier for modifier in modifiers if modifier not in _MODIFIERS]
    if right and not wrong:
        return "+".join([*modifiers, last])
    near = [last] if right else difflib.get_close_matches(last, WORDS, 1, 0.6)
    for modifier in modifiers:
        near += [modifier] if modifier in _MODIFIERS else difflib.get_close_matches(modifier, _MODIFIERS, 1, 0.5)
    raise ValueError("+".join([*near[1:], near[0]]) if len(near) == len(modifiers) + 1 else "")


def _word(written: str) -> str:
    return _OTHER_NAMES.get(written.lower(), written.lower())


def is_text(key: str) -> bool:
    """Whether a text field takes the key as a letter."""
    return len(key) == 1 or key in SIGNS or key == "space"
