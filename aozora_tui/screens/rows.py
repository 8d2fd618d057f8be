"""A list of lines in columns, of which only changed lines are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.events import Click, Resize
from textual.geometry import Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip

from aozora_tui.keymap import bindings
from aozora_tui.screens.words import cursor_sign, cut
from aozora_tui.text import printable

STYLES = ("header", "cursor", "blurred", "plain", "dim", "live", "good", "attention", "bad")
GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """`width` 0 takes what the others leave."""

    title: str
    width: int
    right: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One entry: `key` names it, `cells` are (text, style) in the order of the columns."""

    key: str
    cells: tuple[tuple[str, str], ...]


class Rows(ScrollView, can_focus=True):
    """The cursor stays on the entry it is on, wherever new lines put that."""

    DEFAULT_CSS = """
    Rows { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; background: $background; }
    Rows > .rows--header { color: $foreground 60%; }
    Rows > .rows--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
    Rows > .rows--blurred { background: $block-cursor-blurred-background; }
    Rows > .rows--plain { color: $foreground; }
    Rows > .rows--dim { color: $foreground 60%; }
    Rows > .rows--live { color: $accent; text-style: bold; }
    Rows > .rows--good { color: $success; }
    Rows > .rows--attention { color: $warning; }
    Rows > .rows--bad { color: $error; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"rows--{style}" for style in STYLES}
    BINDINGS = bindings("list")
    ALLOW_SELECT = False

    cursor: var[int] = var(0)

    class Moved(Message):
        """The cursor is on another entry."""

    class Chosen(Message):
        """An entry was clicked while the cursor was on it."""

        def __init__(self, rows: Rows) -> None:
            super().__init__()
            self.rows = rows

        @property
        def control(self) -> Rows:
            return self.rows

    def __init__(self, columns: Sequence[Column], *, empty_text: str, id: str | None = None) -> None:
        super().__init__(id=id)
        self.columns, self.empty_text = tuple(columns), empty_text
        self.lines: tuple[Line, ...] = ()

    @property
    def key(self) -> str | None:
        """The entry under the cursor."""
        return self.lines[self.cursor].key if self.lines else None

    def set_lines(self, lines: Sequence[Line]) -> None:
        key, old = self.key, self.lines
        self.lines = tuple(lines)
        if len(old) != len(self.lines):
            self._measure()
        if key is not None:
            self.select(key)
        changed = [y for y, (a, b) in enumerate(zip(old, self.lines, strict=False)) if a != b]
        if len(old) != len(self.lines):
            self.refresh()
        for y in changed if len(old) == len(self.lines) else ():
            self._refresh_entry(y)

    def select(self, key: str) -> None:
        """Put the cursor on an entry, or as near as before if it is gone."""
        here = next((index for index, line in enumerate(self.lines) if line.key == key), None)
        self.cursor = min(self.cursor, max(len(self.lines) - 1, 0)) if here is None else here

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if y == 0:
            titles = tuple((column.title, "header") for column in self.columns)
            return self._strip(titles, width, "header", " ")
        index = y - 1 + round(self.scroll_y)
        if not self.lines and y == 1:
            return Strip([Segment(f"  {cut(self.empty_text, width - 2):<{width - 2}}", self._style("dim"))], width)
        if index >= len(self.lines):
            return Strip.blank(width, self.rich_style)
        at = index == self.cursor
        over = ("cursor" if self.has_focus else "blurred") if at else ""
        return self._strip(self.lines[index].cells, width, over, cursor_sign(here=self.has_focus) if at else " ")

    def watch_cursor(self, old: int, new: int) -> None:
        for index in (old, new):
            self._refresh_entry(index)
        page = max(self.size.height - 1, 1)
        top = round(self.scroll_y)
        if not top <= new < top + page:
            self.scroll_to(y=new if new < top else new - page + 1, animate=False, immediate=True)
        self.post_message(self.Moved())

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self._refresh_entry(self.cursor)

    def action_move(self, by: int) -> None:
        self.cursor = min(max(self.cursor + by, 0), max(len(self.lines) - 1, 0))

    def action_page(self, by: int) -> None:
        self.action_move(by * max(self.size.height - 2, 1))

    def action_jump(self, to: int) -> None:
        self.cursor = 0 if to == 0 else max(len(self.lines) - 1, 0)

    def on_resize(self, _event: Resize) -> None:
        self._measure()
        self.refresh()

    def on_click(self, event: Click) -> None:
        index = event.y - 1 + round(self.scroll_y)
        if 0 <= index < len(self.lines):
            if index == self.cursor:
                self.post_message(self.Chosen(self))
            self.cursor = index

    def _measure(self) -> None:
        self.virtual_size = Size(self.size.width, len(self.lines) + 1)

    def _refresh_entry(self, index: int) -> None:
        y = index + 1 - round(self.scroll_y)
        if 1 <= y < self.size.height:
            self.refresh_lines(index + 1, 1)

    def _strip(self, cells: Sequence[tuple[str, str]], width: int, over: str, mark: str) -> Strip:
        fixed = sum(column.width for column in self.columns) + GAP * len(self.columns)
        segments = [Segment(f"{mark} ", self._style("plain", over))]
        for column, (text, style) in zip(self.columns, cells, strict=True):
            room = column.width or max(width - 1 - fixed, 4)
            shown = cut(printable(text), room)
            blanks = " " * (room - cell_len(shown))
            padded = blanks + shown if column.right else shown + blanks
            segments.append(Segment(padded + " " * GAP, self._style(style, over)))
        return Strip(segments).adjust_cell_length(width, self._style("plain", over))

    def _style(self, style: str, over: str = "") -> Style:
        base = self.get_component_rich_style(f"rows--{style or 'plain'}")
        if over == "cursor":
            return base + self.get_component_rich_style("rows--cursor")
        if over == "blurred":
            return base + Style(bgcolor=self.get_component_rich_style("rows--blurred").bgcolor)
        return base
