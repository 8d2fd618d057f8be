"""How things are written on every screen: signs with and without Unicode, sizes, states in words."""

from __future__ import annotations

from pathlib import Path

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from aozora_tui.runs import Standing
from aozora_tui.terminal import ascii_only
from aozora_tui.text import home_path
from engine.contract.rundir import LIVE_STATES

# Told apart by the sign, said by the word; colour comes last.
_SIGNS: dict[Standing, tuple[str, str]] = {
    "starting": ("·", "."),
    "running": ("●", ">"),
    "paused": ("=", "="),
    "stopped": ("-", "-"),
    "finished": ("✓", "+"),
    "failed": ("!", "!"),
    "crashed": ("!", "!"),
    "elsewhere": ("?", "?"),
    "unreadable": ("!", "!"),
}
_STYLES: dict[Standing, str] = {
    "starting": "live",
    "running": "live",
    "paused": "attention",
    "stopped": "plain",
    "finished": "good",
    "failed": "bad",
    "crashed": "bad",
    "elsewhere": "attention",
    "unreadable": "bad",
}
FAINT = "$foreground 60%"  # the style of what matters less
_ASCII = {"\u203a": ">", "\u2039": "<", "·": "-", "…": "~", "✓": "+"}


def plain(text: str) -> str:
    """Our own signs as ASCII, if the terminal needs that; a person's own text is left alone by not calling this."""
    return "".join(_ASCII.get(char, char) for char in text) if ascii_only() else text


def cursor_sign(*, here: bool = True) -> str:
    """Stands before the line that has the cursor; a fainter sign where the list itself has not the focus."""
    return plain("\u203a" if here else "\u00b7")


def state_text(state: Standing) -> str:
    """`● running`."""
    return f"{_SIGNS[state][ascii_only()]} {state}"


def state_style(state: Standing) -> str:
    return _STYLES[state]


def is_live(state: Standing) -> bool:
    return state in LIVE_STATES


def same(shown: object, content: Content) -> bool:
    """Alike in text and in style: `==` looks at the text alone."""
    return isinstance(shown, Content) and content.is_same(shown)


def cut(text: str, width: int) -> str:
    """At most `width` columns of a terminal, the loss shown at the end."""
    if cell_len(text) <= width:
        return text
    if text.isascii():
        return (text[: max(width - 1, 0)] + plain("…"))[: max(width, 0)]
    # A character of two columns may leave one free.
    return (set_cell_size(text, max(width - 1, 0)).rstrip(" ") + plain("…"))[: max(width, 0)]


def cut_path(path: Path, width: int) -> str:
    """At most `width` characters of a path, `~` for home, its end kept: that is what tells paths apart."""
    text = home_path(path)
    if len(text) <= width:
        return text
    return (plain("…") + text[len(text) - width + 1 :])[: max(width, 0)] if width > 1 else text[:width]


def middle(text: str, width: int) -> str:
    """At most `width` characters, both ends kept: of a path, where it begins and what it is called."""
    if len(text) <= width:
        return text
    end = max((width - 1) * 2 // 3, 1)
    return text[: max(width - 1 - end, 0)] + plain("\u2026") + text[len(text) - end :]


def counted(number: int, thing: str) -> str:
    """`1 problem`, `3 problems`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
