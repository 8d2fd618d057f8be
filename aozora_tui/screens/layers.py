"""The UNet as a tree: what is trained, in three states, and the patterns that say so."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static, Tree
from textual.widgets.tree import TreeNode

from aozora_tui.keymap import bindings
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.words import cut
from aozora_tui.terminal import ascii_only
from engine.contract.layers import Layer, human, patterns_for

COUNT_COLUMN = 58
BOX_WIDTH = 4


@dataclass
class Item:
    """One line. `chosen` counts the trained tensors at and below the layer."""

    layer: Layer
    depth: int
    chosen: int = 0

    @property
    def box(self) -> str:
        if self.chosen == 0:
            return "[ ]"
        return "[x]" if self.chosen == len(self.layer.tensors) else "[-]"


class LayerTree(Tree[Item], inherit_bindings=False):
    """Space trains or freezes a layer with all that is below it."""

    BINDINGS = bindings("tree")
    auto_expand = False

    class Toggled(Message):
        """What is trained has changed."""

    def __init__(self, root: Layer, trained: AbstractSet[str]) -> None:
        super().__init__(root.label, Item(root, 0), id="tree")
        self.trained = set(trained)
        self.show_guides = not ascii_only()
        self._fill(self.root)
        self.root.expand()
        self._count(self.root)

    def choose(self, names: AbstractSet[str]) -> None:
        """Train exactly these tensors."""
        self.trained = set(names)
        self._count(self.root)
        self.post_message(self.Toggled())

    def action_toggle_layer(self) -> None:
        node = self.cursor_node
        if node is None or node.data is None:
            return
        below = set(node.data.layer.tensors)
        self.choose(self.trained - below if below <= self.trained else self.trained | below)

    def action_open(self) -> None:
        node = self.cursor_node
        if node is None:
            return
        if node.allow_expand and not node.is_expanded:
            node.expand()
        elif node.children:
            self.move_cursor(node.children[0])

    def action_close(self) -> None:
        node = self.cursor_node
        if node is None:
            return
        if node.is_expanded and node.allow_expand and node is not self.root:
            node.collapse()
        elif node.parent is not None:
            self.move_cursor(node.parent)

    def render_label(self, node: TreeNode[Item], base_style: Style, style: Style) -> Text:
        item = node.data
        assert item is not None
        sign = ("- " if node.is_expanded else "+ ") if node.allow_expand else "  "
        count = human(item.layer.parameters)
        room = COUNT_COLUMN - item.depth * self.guide_depth - len(sign) - BOX_WIDTH
        text = f"{sign}{item.box} {cut(item.layer.label, room - 8):<{room - 8}}{count:>8}"
        dim = Style(dim=True) if item.chosen == 0 else Style()
        return Text(text, style=base_style + style + dim, no_wrap=True)

    def get_label_width(self, node: TreeNode[Item]) -> int:
        depth = node.data.depth if node.data else 0
        return COUNT_COLUMN - depth * self.guide_depth

    def _fill(self, node: TreeNode[Item]) -> None:
        assert node.data is not None
        for layer in node.data.layer.children:
            item = Item(layer, node.data.depth + 1)
            child = node.add(layer.label, item, allow_expand=bool(layer.children))
            self._fill(child)

    def _count(self, node: TreeNode[Item]) -> None:
        """Count anew below `node`, repainting the lines whose box changed."""
        item = node.data
        assert item is not None
        before = item.box
        item.chosen = sum(name in self.trained for name in item.layer.tensors)
        if item.box != before:
            node.refresh()
        for child in node.children:
            self._count(child)


class LayersScreen(AozoraScreen[list[str] | None]):
    """Gives the patterns for `layers.train`, or None if nothing should change."""

    scopes: ClassVar[tuple[str, ...]] = ("layers", "tree")
    BINDINGS = bindings("layers")
    AUTO_FOCUS = "#tree"

    def __init__(self, root: Layer, trained: AbstractSet[str]) -> None:
        super().__init__()
        self.root_layer, self._before = root, frozenset(trained)

    def body(self) -> Iterable[Widget]:
        yield LayerTree(self.root_layer, self._before)
        yield Static(id="patterns", markup=False)

    @property
    def layer_tree(self) -> LayerTree:
        return self.query_one(LayerTree)

    @property
    def patterns(self) -> list[str]:
        return patterns_for(self.root_layer, self.layer_tree.trained)

    def on_mount(self) -> None:
        self._show()

    def on_layer_tree_toggled(self) -> None:
        self._show()

    def action_apply(self) -> None:
        if self.layer_tree.trained:
            self.dismiss(self.patterns)
        else:
            self.say("Nothing is left to train: select at least one layer.", "warning")

    def action_cancel(self) -> None:
        self.dismiss(None)

    def action_all(self) -> None:
        self.layer_tree.choose(set(self.root_layer.tensors))

    def action_none(self) -> None:
        self.layer_tree.choose(set())

    def action_invert(self) -> None:
        self.layer_tree.choose(set(self.root_layer.tensors) - self.layer_tree.trained)

    def _show(self) -> None:
        layer, trained = self.root_layer, self.layer_tree.trained
        chosen = sum(size for name, size in zip(layer.tensors, layer.sizes, strict=True) if name in trained)
        share = 100 * chosen / max(layer.parameters, 1)
        self.set_title(
            ("Trained layers  ", "bold"),
            f"{human(chosen)} of {human(layer.parameters)}, {share:.1f} %",
            ("  changed" if trained != self._before else "", "$warning"),
        )
        patterns = self.patterns
        written = "  ".join(patterns) if patterns else "nothing"
        self.set_line("#patterns", Content.assemble(("layers.train  ", "$foreground 60%"), written))
