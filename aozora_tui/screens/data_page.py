"""Lines that scroll and send only the cells that changed: a page of text, and the list of pictures.

They scroll by themselves: Textual's own scrolling lays the whole screen out anew whenever the number of lines changes,
which a scan does four times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import ClassVar

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.events import Click, Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from aozora_tui.keymap import bindings
from aozora_tui.screens.words import counted, cursor_sign, cut, plain
from aozora_tui.widgets.cells import Cell, cells, changed

# Parts of text with their styles: one of the names below, or colours as rich writes them.
Parts = tuple[tuple[str, str], ...]
STYLES = ("", "dim", "head", "good", "attention", "bad", "bar", "cursor", "blurred")
MARGIN = 1
BUCKET = 9  # columns: 1024x1024


class Drawn(Widget):
    """`line(index)` is wanted for what is in view only. The last line of the widget says what is below."""

    DEFAULT_CSS = """
    Drawn { width: 1fr; height: 1fr; background: $background; }
    Drawn > .drawn--dim { color: $foreground 60%; }
    Drawn > .drawn--head { color: $primary; text-style: bold; }
    Drawn > .drawn--good { color: $success; }
    Drawn > .drawn--attention { color: $warning; }
    Drawn > .drawn--bad { color: $error; }
    Drawn > .drawn--bar { color: $primary; }
    Drawn > .drawn--cursor {
        background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold;
    }
    Drawn > .drawn--blurred { background: $block-cursor-blurred-background; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"drawn--{style}" for style in STYLES if style}
    ALLOW_SELECT = False
    indent: ClassVar[int] = MARGIN  # of the last line

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.top = 0
        self._rows: list[tuple[Cell, ...]] = []

    @property
    def room(self) -> tuple[int, int]:
        """Columns and rows for text."""
        return max(self.size.width - 2 * MARGIN, 10), max(self.size.height - 1, 1)

    @property
    def count(self) -> int:
        """Of lines."""
        raise NotImplementedError

    def line(self, index: int) -> Parts:
        """With its margin."""
        raise NotImplementedError

    def last_line(self) -> str:
        """What stands at the bottom."""
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        row = self._rows[y] if y < len(self._rows) else ()
        runs = [(style, "".join(char for char, _ in run)) for style, run in groupby(row, key=itemgetter(1))]
        strip = Strip([Segment(text, self._style(style)) for style, text in runs])
        return strip.adjust_cell_length(self.size.width, self.rich_style)

    def scroll_by(self, by: int) -> None:
        self.top = min(max(self.top + by, 0), max(self.count - self.room[1], 0))
        self.draw()

    def on_resize(self, _event: Resize) -> None:
        self._rows = []
        self.draw()

    def draw(self) -> None:
        """Send the spans of cells that differ from what is shown."""
        before, self._rows = self._rows, [self._row(y) for y in range(self.size.height)]
        regions = []
        for y, row in enumerate(self._rows):
            old = before[y] if y < len(before) else ()
            if (span := changed(old, row)) is not None:
                # Where a character takes two cells, its place in the row is not its place on the screen.
                start, stop = (0, self.size.width) if _wide(old) or _wide(row) else span
                regions.append(Region(start, y, stop - start, 1))
        if regions:
            self.refresh(*regions)

    def _row(self, y: int) -> tuple[Cell, ...]:
        if y == self.room[1]:
            return cells([(" " * self.indent, ""), (self.last_line(), "dim")], self.size.width)
        index = self.top + y
        return cells(self.line(index) if index < self.count else (), self.size.width)

    def _style(self, name: str) -> Style:
        if not name:
            return self.rich_style
        if name in STYLES:
            return self.get_component_rich_style(f"drawn--{name}")
        return Style.parse(name)


class Page(Drawn):
    """A text. The place stays when new lines come, unless they are another page's."""

    class Resized(Message):
        """The lines were made for another width or height."""

    def __init__(self, more: Callable[[], str], *, id: str) -> None:
        """`more` names the key that shows more lines."""
        super().__init__(id=id)
        self.lines: tuple[Parts, ...] = ()
        self._more = more

    @property
    def count(self) -> int:
        return len(self.lines)

    def line(self, index: int) -> Parts:
        return ((" " * MARGIN, ""), *self.lines[index])

    def last_line(self) -> str:
        below = self.count - self.top - self.room[1]
        return plain(f"… {counted(below, 'more line')}: {self._more()}") if below > 0 else ""

    def set_lines(self, lines: Sequence[Parts], *, anew: bool = False) -> None:
        """`anew`: it is another page, seen from its beginning."""
        self.lines = tuple(lines)
        self.scroll_by(-self.top if anew else 0)

    def on_resize(self, _event: Resize) -> None:
        self.post_message(self.Resized())


class Pictures(Drawn, can_focus=True):
    """The list: `entries` are indices into what `named` gives (name, bucket, whether enlarged) of. The cursor stays on
    its picture when entries come or go, if it can."""

    BINDINGS = bindings("list")
    indent = 2 * MARGIN

    class Moved(Message):
        """The cursor is on another picture."""

    def __init__(self, named: Callable[[int], tuple[str, str, bool]], *, id: str) -> None:
        super().__init__(id=id)
        self._named = named
        self.entries: Sequence[int] = ()
        self.cursor = 0
        self.empty_text = ""

    @property
    def index(self) -> int | None:
        """The picture under the cursor."""
        return self.entries[self.cursor] if self.entries else None

    def index_at(self, place: int) -> int | None:
        """The picture at a place of the list."""
        return self.entries[place] if place < len(self.entries) else None

    @property
    def count(self) -> int:
        return len(self.entries)

    def set_entries(self, entries: Sequence[int]) -> None:
        before = self.index
        self.entries = entries
        if before is not None and self.index_at(self.cursor) != before:
            self.cursor = entries.index(before) if before in entries else 0
        self.cursor = min(self.cursor, max(len(entries) - 1, 0))
        self._follow()
        if self.index != before:
            self.post_message(self.Moved())

    def line(self, index: int) -> Parts:
        name, bucket, enlarged = self._named(self.entries[index])
        room = max(self.size.width - BUCKET - 5, 4)
        here = index == self.cursor
        over = ("cursor" if self.has_focus else "blurred") if here else ""
        sign = cursor_sign(here=self.has_focus) if here else " "
        text = f"{sign} {ending(name, room):<{room}}  "
        size = f"{bucket:>{BUCKET}}{'!' if enlarged else ' '}"
        return (text, over), (size, over or ("attention" if enlarged else "dim"))

    def last_line(self) -> str:
        return f"{self.cursor + 1:,} of {self.count:,}" if self.entries else cut(self.empty_text, self.room[0])

    def action_move(self, by: int) -> None:
        before = self.cursor
        self.cursor = min(max(self.cursor + by, 0), max(self.count - 1, 0))
        self._follow()
        if self.cursor != before:
            self.post_message(self.Moved())

    def action_page(self, by: int) -> None:
        self.action_move(by * max(self.room[1] - 1, 1))

    def action_jump(self, to: int) -> None:
        self.action_move(-self.count if to == 0 else self.count)

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self.draw()

    def on_click(self, event: Click) -> None:
        if event.y < self.room[1] and self.top + event.y < self.count:
            self.action_move(self.top + event.y - self.cursor)

    def _follow(self) -> None:
        """Scroll so that the cursor is in view."""
        rows = self.room[1]
        self.scroll_by(min(self.cursor - self.top, 0) or max(self.cursor - self.top - rows + 1, 0))


def _wide(row: tuple[Cell, ...]) -> bool:
    return cell_len("".join(char for char, _ in row)) != len(row)


def ending(text: str, room: int) -> str:
    """At most `room` characters, the end kept: that is what tells names apart."""
    return text if len(text) <= room else plain("…") + text[len(text) - room + 1 :]


def wrapped(text: str, width: int, *, indent: str = "") -> list[str]:
    """Lines of at most `width` cells, the later ones indented. Folded between words; a word that is longer is broken,
    and so are scripts that put no blanks between words. `5 %` stays whole."""
    lines, line = [], ""
    for word in text.replace(" %", "\N{NO-BREAK SPACE}%").split(" "):
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= width:
            line = joined
            continue
        if line.strip():
            lines.append(line)
        *broken, line = chop_cells((indent if lines else "") + word, max(width, 4)) or [""]
        lines += broken
    lines += [line] if line.strip() or not lines else []
    return [each.replace("\N{NO-BREAK SPACE}%", " %") for each in lines]


def paragraph(text: str, width: int, style: str = "", *, indent: str = "") -> list[Parts]:
    """As parts."""
    return [((line, style),) for line in wrapped(text, width, indent=indent)]
