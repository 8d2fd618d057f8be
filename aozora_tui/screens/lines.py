"""Lists and tables of a profile as lines of text, one entry each: texts as they are, folders with their repeats in
front, points as their two numbers, a table's entries as `name = value`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any, ClassVar

import tomlkit
from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from aozora_tui.profile_file import number
from aozora_tui.toml_edit import spelt

KINDS = ("texts", "folders", "points", "table")
MOST_LINES = 6
LINE_END = "␤"  # stands for the end of a line inside one entry of a list
_BLANK = re.compile(r'"[\s"]*"')  # an entry of blanks alone, which would be a line without an entry


class Lines(TextArea, inherit_bindings=False):
    """Grows with its lines. Arrows that leave the text, the keys F1 to F12, and those of undo and redo are left to
    the form."""

    BINDINGS: ClassVar[list[BindingType]] = [
        binding
        for binding in Binding.make_bindings(TextArea.BINDINGS)
        if not re.fullmatch(r"f\d+|ctrl\+[yz]", binding.key)
    ]

    def __init__(self, text: str) -> None:
        super().__init__(text, compact=True, soft_wrap=False, tab_behavior="focus")
        self.cursor_blink = False
        self.highlight_cursor_line = False
        self.fit()

    def fit(self) -> None:
        """As high as the text is, up to a limit."""
        self.styles.height = self.lines_shown

    @property
    def lines_shown(self) -> int:
        """Its height in lines."""
        return min(max(self.document.line_count, 1), MOST_LINES)

    def action_cursor_down(self, select: bool = False) -> None:
        if not select and self.cursor_at_last_line:
            raise SkipAction
        super().action_cursor_down(select)

    def action_cursor_up(self, select: bool = False) -> None:
        if not select and self.cursor_at_first_line:
            raise SkipAction
        super().action_cursor_up(select)


def entry_lines(raw: Any, kind: str = "") -> list[str]:
    """A plain TOML list or table as lines; of texts one that would not be seen is in quotes."""
    if isinstance(raw, dict):
        return [name if value == {} else f"{name} = {_toml(value)}" for name, value in raw.items()]
    listed = raw if isinstance(raw, list | tuple) else []
    if kind == "texts":
        return [_quoted(str(entry)).replace("\n", LINE_END) for entry in listed]
    return [_line_of(entry).replace("\n", LINE_END) for entry in listed]


def entries(kind: str, text: str, before: Any) -> list[Any] | dict[str, Any]:
    """Lines as a plain TOML list or table; empty ones count for nothing, `""` is an empty text. `before` is what they
    were made from."""
    lines = [text.split("\n")[index] for index in entry_rows(text)]
    if kind == "table":
        return _table(lines)
    if kind == "folders":
        return _folders(lines, before)
    if kind == "points":
        return [[number(part) for part in re.split(r"[\s,\[\]]+", line) if part] for line in lines]
    return [(line[1:-1] if _BLANK.fullmatch(line) else line).replace(LINE_END, "\n") for line in lines]


def pair(line: str) -> tuple[str, Any]:
    """Name and value of a table's entry as it is written; of anything else the whole line and an empty table."""
    name, sign, text = (part.strip() for part in line.partition("="))
    try:
        value = tomllib.loads(f"value = {text}")["value"] if sign and name else {}
    except (ValueError, RecursionError):
        value = {}
    quoted = len(name) > 1 and name[0] == name[-1] and name[0] in "\"'"
    return (line.strip(), {}) if value == {} else (name[1:-1] if quoted else name, value)


def row_of(entry: str, text: str) -> int | None:
    """The line of a table's entry, by the name that `entries` gives it."""
    rows = entry_rows(text)
    names = entries("table", text, {})
    return rows[list(names).index(entry)] if entry in names and len(names) == len(rows) else None


def entry_rows(text: str) -> list[int]:
    """For each entry the index of its line."""
    return [index for index, line in enumerate(text.split("\n")) if line.strip()]


def value_text(raw: Any) -> str:
    """A plain TOML value that is no list."""
    if raw is None:
        return ""
    if isinstance(raw, bool):
        return "on" if raw else "off"
    return spelt(raw) if isinstance(raw, float) else str(raw)


def _quoted(text: str) -> str:
    return f'"{text}"' if not text.strip(" ") or _BLANK.fullmatch(text) else text


def _table(lines: Sequence[str]) -> dict[str, Any]:
    """A line that says no `name = value`, or a name once more, is kept whole as the name of an empty table: a value
    that no setting takes, so that the check finds it."""
    found: dict[str, Any] = {}
    for line in lines:
        name, value = pair(line)
        found.update({name: value} if name not in found else {line.strip(): {}})
    return found


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(part) for part in value)}]"
    return spelt(value) if isinstance(value, float) else tomlkit.item(value).as_string()


def _line_of(entry: Any) -> str:
    if isinstance(entry, dict):
        return f"{entry.get('repeats', 1)} x {entry.get('path', '')}"
    return " ".join(value_text(part) for part in entry) if isinstance(entry, list | tuple) else str(entry)


def _folders(lines: Sequence[str], before: Any) -> list[dict[str, Any]]:
    """Lines as entries; an entry that wrote its `repeats` down goes on doing so, even where the default would do."""
    old = [entry for entry in before if isinstance(entry, dict)] if isinstance(before, list | tuple) else []
    spelt_out = {_line_of(entry) for entry in old if "repeats" in entry}
    found = []
    for index, line in enumerate(lines):
        match = re.match(r"\s*(\d+)\s*x\s+(.*)", line.replace(LINE_END, "\n"))
        repeats, path = (int(match[1]), match[2].strip()) if match else (1, line.replace(LINE_END, "\n").strip())
        kept = line in spelt_out or (len(old) == len(lines) and "repeats" in old[index])
        found.append({"path": path, "repeats": repeats} if repeats != 1 or kept else {"path": path})
    return found
