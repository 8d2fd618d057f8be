"""A panel over the tree: layers by kind, each with its box, or selections to take as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from aozora_tui.keymap import bindings
from aozora_tui.screens.ask import panel_key
from aozora_tui.screens.layers_lines import percent
from aozora_tui.screens.layers_model import Chosen, Trees
from aozora_tui.screens.panel import Panel
from aozora_tui.screens.rows import Column, Line, Rows
from engine.contract.layer_kinds import KINDS, PRESETS, Kind
from engine.contract.layers import human
from engine.contract.spelling import Spelling

_SPACE = [binding for binding in bindings("tree") if getattr(binding, "id", "") == "tree.toggle"]


@dataclass(frozen=True)
class _Sum:
    """Of a set of the UNet's tensors."""

    tensors: int
    parameters: int


class LayersMenu(Panel[Chosen | None]):
    """Gives the new choice, or None for esc."""

    DEFAULT_CSS = """
    LayersMenu { align: center middle; background: transparent; }
    LayersMenu #ask Rows { height: auto; background: $surface; margin-bottom: 1; }
    """
    BINDINGS = [*bindings("ask"), *_SPACE]  # noqa: RUF012  (as Textual has it)
    AUTO_FOCUS = "Rows"

    def __init__(self, trees: Trees, chosen: Chosen) -> None:
        super().__init__()
        self.trees, self.chosen = trees, chosen

    @property
    def rows(self) -> Rows:
        return self.query_one(Rows)

    def action_cancel(self) -> None:
        self.dismiss(None)

    def action_accept(self) -> None:
        self.dismiss(self.chosen)

    def action_toggle_layer(self) -> None:
        """For panels with boxes."""

    def on_rows_chosen(self) -> None:
        self.action_toggle_layer()

    def sum(self, mask: int) -> _Sum:
        sizes = self.trees.unet.sizes
        return _Sum(mask.bit_count(), sum(size for bit, size in enumerate(sizes) if mask >> bit & 1))

    def named(self, *keys: tuple[str, str]) -> list[tuple[str, str]]:
        """Commands of the keymap and what they do here, by the keys to press."""
        return [(panel_key(self, id), label) for id, label in keys]

    def framed(self, title: str, rows: Rows, keys: Sequence[tuple[str, str]]) -> ComposeResult:
        rows.styles.max_height = max(self.app.size.height * 8 // 10 - 7, 4)  # and its frame, title and keys
        with Vertical(id="ask"):
            yield Static(Content.styled(title, "bold"), id="ask-title")
            yield rows
            parts = [part for key, label in keys for part in ((key, "bold $accent"), f" {label}   ")]
            yield Static(Content.assemble(*parts), id="ask-keys")


class KindsMenu(LayersMenu):
    """Space trains or freezes all layers of a kind."""

    def compose(self) -> ComposeResult:
        columns = (Column("", 3), Column("kind", 0), Column("tensors", 7, right=True), Column("size", 7, right=True))
        rows = Rows((*columns, Column("trained", 7, right=True)), empty_text="")
        keys = self.named(("tree.toggle", "toggle"), ("ask.accept", "done"), ("ask.cancel", "leave all as it was"))
        yield from self.framed("Layers by kind, all over the UNet", rows, keys)

    def on_mount(self) -> None:
        self._show()

    def action_toggle_layer(self) -> None:
        self.chosen = self.trees.toggle_all(self.chosen, KINDS[self.rows.cursor].patterns)
        self._show()

    def _show(self) -> None:
        self.rows.set_lines([self._line(kind) for kind in KINDS])

    def _line(self, kind: Kind) -> Line:
        meant = self.trees.speller.selected(Spelling(kind.patterns))
        every, on = self.sum(meant), self.sum(meant & self.chosen.unet)
        box = "[ ]" if not on.tensors else "[x]" if on.tensors == every.tensors else "[-]"
        style = {"[x]": "good", "[-]": "attention"}.get(box, "dim")
        share = percent(on.parameters, every.parameters) if on.tensors else "-"
        numbers = (f"{every.tensors:,}", human(every.parameters), share)
        return Line(kind.label, ((box, style), (kind.label, "plain"), *((text, "plain") for text in numbers)))


class PresetsMenu(LayersMenu):
    """Enter takes the selection under the cursor."""

    def compose(self) -> ComposeResult:
        columns = (Column("selection", 22), Column("", 0), Column("size", 7, right=True), Column("UNet", 6, right=True))
        yield from self.framed(
            "Selections to begin with",
            Rows(columns, empty_text=""),
            self.named(("ask.accept", "take it"), ("ask.cancel", "cancel")),
        )

    def on_mount(self) -> None:
        lines = []
        for preset in PRESETS:
            size = self.sum(self.trees.speller.selected(preset.spelling)).parameters
            share = percent(size, self.trees.unet.parameters)
            cells = ((preset.label, "plain"), (preset.about, "dim"), (human(size), "plain"), (share, "plain"))
            lines.append(Line(preset.label, cells))
        self.rows.set_lines(lines)

    def on_rows_chosen(self) -> None:
        self.action_accept()

    def action_accept(self) -> None:
        self.dismiss(self.trees.take(self.chosen, PRESETS[self.rows.cursor].spelling))
