"""The trees as lines that fold: a cursor, a box, what is trained, and at what rate."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

from textual.app import ComposeResult
from textual.events import Click, MouseScrollDown, MouseScrollUp, Resize
from textual.geometry import Region
from textual.message import Message
from textual.widget import Widget

from aozora_tui.keymap import bindings
from aozora_tui.screens.layers_lines import HEADINGS, bar, name_cells, number_cells, rate_cells, without_size
from aozora_tui.screens.layers_model import Counted, Node, Tally, Trees
from aozora_tui.screens.layers_sheet import Sheet
from aozora_tui.widgets.cells import Cell

WHEEL = 3
NUMBERS, NARROW = 25, 72  # columns


@dataclass(frozen=True)
class Seen:
    """What one line depends on."""

    opened: bool | None  # None: there is nothing to unfold
    cursor: str
    found: bool


class LayerTree(Widget, can_focus=True):
    """Shows a tally; space asks its screen to train or freeze the layer under the cursor."""

    DEFAULT_CSS = """
    LayerTree { height: 1fr; layout: horizontal; padding: 0 1; }
    LayerTree > #layer-numbers { width: 25; }
    LayerTree > #layer-rates { width: 13; }
    LayerTree.-close > #layer-numbers { width: 17; }
    LayerTree.-close > #layer-rates { width: 11; }
    """
    BINDINGS = bindings("tree")
    ALLOW_SELECT = False

    class Toggled(Message):
        """The box under the cursor was pressed."""

        def __init__(self, node: Node) -> None:
            super().__init__()
            self.node = node

    class Moved(Message):
        """The cursor is on another line."""

    def __init__(self, trees: Trees, tally: Tally) -> None:
        super().__init__(id="tree")
        self._trees, self._tally = trees, tally
        self._open = {0}
        self._at = self._top = 0
        self._found: frozenset[int] = frozenset()
        self._visible = self._unfolded()
        self._sheets = (
            Sheet(self._names, id="layer-names"),
            Sheet(self._numbers, id="layer-numbers"),
            Sheet(self._rates, id="layer-rates"),
        )

    def compose(self) -> ComposeResult:
        yield from self._sheets

    @property
    def cursor_node(self) -> Node:
        return self._trees.nodes[self._at]

    @property
    def trained(self) -> frozenset[str]:
        """The names of the UNet's tensors that are trained."""
        return self._trees.speller.chosen(self._tally.learning & self._trees.speller.every)

    @property
    def lines(self) -> tuple[Node, ...]:
        """Every line that can be scrolled to."""
        return tuple(self._trees.nodes[index] for index in self._visible)

    def box(self, node: Node) -> str:
        return self._tally.of(node).box

    def show(self, tally: Tally) -> None:
        self._tally = tally
        self._draw()

    def mark(self, found: Collection[int]) -> None:
        """Show these lines as found."""
        self._found = frozenset(found)
        self._draw()

    def go_to(self, index: int) -> None:
        """Put the cursor on a line, unfolding what is around it."""
        parent = self._trees.nodes[index].parent
        if index not in self._visible:
            while parent >= 0:
                self._open.add(parent)
                parent = self._trees.nodes[parent].parent
            self._visible = self._unfolded()
        self._move_to(index)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def action_toggle_layer(self) -> None:
        self.post_message(self.Toggled(self.cursor_node))

    def action_move(self, by: int) -> None:
        self._move_to(self._visible[min(max(self._place + by, 0), len(self._visible) - 1)])

    def action_page(self, by: int) -> None:
        self.action_move(by * max(self._page - 1, 1))

    def action_jump(self, to: int) -> None:
        self._move_to(self._visible[to])

    def action_open(self) -> None:
        node = self.cursor_node
        if node.layer.children and self._at not in self._open:
            self._refold(self._open | {self._at})
        elif node.layer.children:
            self._move_to(self._at + 1)

    def action_close(self) -> None:
        node = self.cursor_node
        if self._at in self._open:
            self._refold(self._open - {self._at})
        elif node.parent >= 0:
            self._move_to(node.parent)

    def action_open_all(self) -> None:
        """With all below it."""
        self._refold(self._open | {index for index in self._below() if self._trees.nodes[index].layer.children})

    def action_close_all(self) -> None:
        """A line without parts closes what it is a part of."""
        node = self.cursor_node
        if self._at not in self._open and node.parent >= 0:
            self._move_to(node.parent)
        self._refold(self._open - set(self._below()))

    # -- mouse ---------------------------------------------------------------------------------------------------------

    def on_click(self, event: Click) -> None:
        offset = event.screen_offset - self.content_region.offset
        if not 1 <= offset.y <= len(self._visible) - self._top:
            return
        index = self._visible[self._top + offset.y - 1]
        node = self._trees.nodes[index]
        self._move_to(index)
        column = offset.x - 2 * node.depth - 2  # of the fold's sign, the box, the label
        if 0 <= column < 2 and node.layer.children:
            self._refold(self._open ^ {index})
        elif 2 <= column < 5:
            self.action_toggle_layer()

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_move(WHEEL)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_move(-WHEEL)

    # -- drawing -------------------------------------------------------------------------------------------------------

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Textual repaints a widget that gains or loses the focus: what of it changes, the sheets know better."""
        return super().refresh(
            *regions, repaint=repaint and (layout or bool(regions)), layout=layout, recompose=recompose
        )

    def on_resize(self, event: Resize) -> None:
        """The names need the room more than the sizes do."""
        self.set_class(event.size.width < NARROW, "-close")

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self._draw()

    @property
    def _page(self) -> int:
        return max(self.content_size.height - 1, 1)

    @property
    def _place(self) -> int:
        return bisect_left(self._visible, self._at)

    def _below(self) -> range:
        return range(self._at, self.cursor_node.end)

    def _unfolded(self) -> list[int]:
        found, index = [], 0
        while index < len(self._trees.nodes):
            found.append(index)
            index = index + 1 if index in self._open else self._trees.nodes[index].end
        return found

    def _refold(self, opened: Iterable[int]) -> None:
        self._open = set(opened)
        self._visible = self._unfolded()
        self._draw()

    def _move_to(self, index: int) -> None:
        moved, self._at = index != self._at, index
        self._draw()
        if moved:
            self.post_message(self.Moved())

    def _draw(self) -> None:
        for sheet in self._sheets:
            sheet.redraw()

    def _shown(self) -> list[tuple[Node, Counted]]:
        """The lines in the window, which follows the cursor: no further than needed, for then most of its lines are on
        the screen already; where none of them would be, the cursor's is put into the middle."""
        page, place = self._page, self._place
        top = min(max(self._top, place - page + 1), place)
        self._top = top if abs(top - self._top) < page else place - page // 2
        self._top = max(min(self._top, len(self._visible) - page), 0)
        nodes = [self._trees.nodes[index] for index in self._visible[self._top : self._top + page]]
        return [(node, self._tally.of(node)) for node in nodes]

    def _names(self, width: int, _height: int) -> list[list[Cell]]:
        lines = [name_cells(node, counted, self._seen(node.index), width) for node, counted in self._shown()]
        return [HEADINGS[0], *lines]

    def _numbers(self, width: int, _height: int) -> list[list[Cell]]:
        rows = [HEADINGS[1], *(number_cells(node, counted) for node, counted in self._shown())]
        return rows if width >= NUMBERS else [without_size(row) for row in rows]

    def _rates(self, width: int, _height: int) -> list[list[Cell]]:
        shown = self._shown()
        thumb = bar(self._top, self._page, len(self._visible))
        lines = [
            rate_cells(self._tally.factors(node), counted, width, bar=y in thumb)
            for y, (node, counted) in enumerate(shown)
        ]
        return [HEADINGS[2], *lines]

    def _seen(self, index: int) -> Seen:
        opened = index in self._open if self._trees.nodes[index].layer.children else None
        cursor = ("cursor" if self.has_focus else "blurred") if index == self._at else ""
        return Seen(opened, cursor, index in self._found)
