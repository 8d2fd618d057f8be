"""Which layers are trained, and at what rate: the trees of the UNet and the text encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, TypeAlias

from textual import work
from textual.containers import Horizontal
from textual.widget import Widget
from textual.worker import Worker, WorkerState

from aozora_tui.keymap import bindings
from aozora_tui.keys.key import Key
from aozora_tui.screens.ask import Answer, Ask
from aozora_tui.screens.base import AozoraScreen, Kind
from aozora_tui.screens.layers_asking import LayerLine
from aozora_tui.screens.layers_cost import Cost, Pricing
from aozora_tui.screens.layers_history import History, Step
from aozora_tui.screens.layers_lines import about, here_cells, named, percent, whole_cells, written_rows
from aozora_tui.screens.layers_menu import KindsMenu, LayersMenu, PresetsMenu
from aozora_tui.screens.layers_model import Chosen, Node, Tally, Trees
from aozora_tui.screens.layers_prompt import Asked, Outcome, composed, match, no_factor, search, set_factor
from aozora_tui.screens.layers_sheet import Sheet
from aozora_tui.screens.layers_tree import LayerTree
from aozora_tui.screens.words import counted
from aozora_tui.text import factor
from aozora_tui.widgets.cells import Cell
from engine.contract.layers import human
from engine.contract.safetensors_header import Header

OFFERED: dict[Asked, str] = {"search": "find", "match": "apply", "factor": "set"}
Drawn: TypeAlias = list[list[Cell]]


class LayersScreen(AozoraScreen[dict[str, Any] | None]):
    """Gives the settings that change, as {dotted path: plain TOML value, or None for the default}; None if it was
    left without a change."""

    scopes: ClassVar[tuple[str, ...]] = ("layers", "tree")
    BINDINGS = bindings("layers")
    AUTO_FOCUS = "#tree"

    def __init__(self, trees: Trees, header: Header) -> None:
        super().__init__()
        self.trees, self.chosen = trees, trees.start
        self._tally = Tally(trees, self.chosen)
        self._history = History()
        self._found: tuple[int, ...] = ()
        self._pricing = Pricing(trees, header, lambda: self.aozora.read_gpu(None))
        self._cost: tuple[Chosen, Node, Cost | None] | None = None
        self._counted_now: tuple[Chosen, Node] | None = None

    def body(self) -> Iterable[Widget]:
        yield LayerTree(self.trees, self._tally)
        yield LayerLine(self._about)
        with Horizontal(id="layer-cost"):
            yield Sheet(self._here, id="layer-here")
            yield Sheet(self._whole, id="layer-whole")
        yield Sheet(self._written, id="patterns")

    @property
    def layer_tree(self) -> LayerTree:
        return self.query_one(LayerTree)

    @property
    def changes(self) -> dict[str, Any]:
        return self.trees.changes(self.chosen)

    @property
    def line(self) -> LayerLine:
        return self.query_one(LayerLine)

    def on_mount(self) -> None:
        self._show()

    def active_keys(self) -> list[Key]:
        asked = self.line.asked
        if asked is None:
            return super().active_keys()
        labels = {"layers.apply": OFFERED[asked], "layers.cancel": "cancel"}
        named = [key for key in super().active_keys() if key.id in labels or key.id == "app.help"]
        return [Key(key.id, key.keys, key.action, labels.get(key.id, key.label), key.help, key.rank) for key in named]

    def offers(self, action: str) -> bool:
        needed = {"found": bool(self._found), "undo": bool(self._history), "redo": self._history.undone}
        return needed.get(action, True)

    # -- choosing ------------------------------------------------------------------------------------------------------

    def choose(self, chosen: Chosen, what: str) -> None:
        """One change, which undo takes back, in words: `Middle block frozen`."""
        if chosen != self.chosen:
            self._history.changed(self.chosen, what)
            self._take(chosen)

    def on_layer_tree_toggled(self, event: LayerTree.Toggled) -> None:
        node = event.node
        if node.encoder and node.parent >= 0:
            whole = self.trees.network(node).label
            toggle = self.key_name("tree.toggle")
            self.say(f"A text encoder learns whole or not at all: {toggle} on {whole}", "warning")
            return
        after = self.trees.toggle(self.chosen, node)
        learns = node.encoder in after.encoders if node.encoder else bool(node.mask & after.unet)
        self.choose(after, f"{named(node)} {'trained' if learns else 'frozen'}")
        left = [name for name in self.chosen.rates if name.startswith(f"{node.encoder}.")] if node.encoder else []
        if left and node.encoder not in self.chosen.encoders:
            self.say(f"{node.label} rests; its rates stay in optimizer.rates: {', '.join(left)}", "warning")

    def action_all(self) -> None:
        self.choose(self.trees.choose(self.chosen, self.trees.speller.every), "all of the UNet trained")

    def action_none(self) -> None:
        self.choose(self.trees.choose(self.chosen, 0), "all of the UNet frozen")

    def action_invert(self) -> None:
        swapped = self.trees.speller.every & ~self.chosen.unet
        self.choose(self.trees.choose(self.chosen, swapped), "trained and frozen swapped")

    def action_undo(self) -> None:
        self._step(self._history.undo(self.chosen), "Undone", "There is no change to take back")

    def action_redo(self) -> None:
        self._step(self._history.redo(self.chosen), "Made again", "Nothing was taken back since the last change")

    def _step(self, step: Step | None, done: str, nothing: str) -> None:
        if step is not None:
            self._take(step[0])
        self.say(f"{done}: {step[1]}" if step is not None else nothing)

    def action_kinds(self) -> None:
        self._open(KindsMenu(self.trees, self.chosen), "the choice of kinds")

    def action_presets(self) -> None:
        self._open(PresetsMenu(self.trees, self.chosen), "the ready-made selection")

    def _open(self, menu: LayersMenu, what: str) -> None:
        def answered(chosen: Chosen | None) -> None:
            if chosen is not None:
                self.choose(chosen, what)

        self.app.push_screen(menu, answered)

    # -- leaving -------------------------------------------------------------------------------------------------------

    def action_apply(self) -> None:
        if self.line.asked is not None:
            self._answer()
        elif self.chosen.unet:
            self.dismiss(self.changes)
        else:
            self.say("Nothing is left to train of the UNet: select at least one layer.", "warning")

    def action_cancel(self) -> None:
        if self.line.asked is not None:
            self._close_line()
        else:
            self.leave(lambda: self.dismiss(None))

    def leave(self, then: Callable[[], object]) -> None:
        if not self.changes:
            then()
            return

        def answered(answer: str | None) -> None:
            if answer == "discard":
                then()

        answers = [Answer("d", "discard them", "discard", harmful=True)]
        self.app.push_screen(Ask("The changes made here are not in the profile yet", [], answers), answered)

    # -- typing --------------------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        keys = f"{self.key_name('layers.next')} and {self.key_name('layers.previous')}"
        self._ask("search", "", partial(search, self.trees, keys=keys))

    def action_match(self) -> None:
        self._ask("match", "", partial(match, self.trees, self.chosen))

    def action_factor(self) -> None:
        node = self.layer_tree.cursor_node
        if why := no_factor(self.trees, self.chosen, node):
            self.say(why, "warning")
            return
        now = factor(self.trees.own_factor(self.chosen, node))
        self._ask("factor", now, partial(set_factor, self.trees, self.chosen, node))

    def _ask(self, asked: Asked, text: str, outcome_of: Callable[[str], Outcome]) -> None:
        self.line.ask(asked, text, outcome_of)
        self.rest()
        self.update_keys()

    def action_found(self, by: int) -> None:
        if not self._found:
            self.say(f"Nothing is looked for: {self.key_name('layers.search')} finds a layer by its name")
            return
        at = self.layer_tree.cursor_node.index
        ahead = [index for index in self._found if (index > at if by > 0 else index < at)]
        index = (ahead or self._found)[0 if by > 0 else -1]
        self.layer_tree.go_to(index)
        self.say(f"{self._found.index(index) + 1:,} of {counted(len(self._found), 'layer')} found")

    def resting(self) -> tuple[str, Kind]:
        """While something is typed, what it would do."""
        if self.line.asked is None:
            return super().resting()
        outcome = self.line.outcome
        return outcome.text, "error" if outcome.wrong else "plain"

    def on_input_changed(self) -> None:
        if self.line.asked is not None:
            self.rest()

    def on_input_submitted(self) -> None:
        self._answer()

    def _close_line(self) -> None:
        self.line.close()
        self.layer_tree.focus()
        self.rest()
        self.update_keys()

    def _answer(self) -> None:
        asked, outcome, text = self.line.asked, self.line.outcome, self.line.typed
        if outcome.wrong:
            return  # what is wrong stands beside it
        self._close_line()
        if outcome.chosen is not None:
            factor_of = f"factor {text} on {named(self.layer_tree.cursor_node)}"
            self.choose(outcome.chosen, factor_of if asked == "factor" else f"match {text}")
        elif asked == "search":
            self._found = outcome.found
            self.layer_tree.mark(self._found)
            if self._found and self.layer_tree.cursor_node.index not in self._found:
                self.action_found(1)
            self.update_keys()

    # -- showing -------------------------------------------------------------------------------------------------------

    def _take(self, chosen: Chosen) -> None:
        self.chosen, self._tally = chosen, Tally(self.trees, chosen)
        self.layer_tree.show(self._tally)
        self._show()
        self.update_keys()

    def on_layer_tree_moved(self) -> None:
        self._show_here()

    def _show(self) -> None:
        unet, *encoders = self.trees.roots
        learning, size = self._tally.of(unet).parameters, unet.layer.parameters
        beside = [node.label.partition(",")[0].lower() for node in encoders if node.encoder in self.chosen.encoders]
        both = ["both text encoders"] if len(beside) > 1 else beside
        self.set_title(
            ("Trained layers  ", "bold"),
            f"{human(learning)} of {human(size)}, {percent(learning, size)}",
            "".join(f"  and {name}" for name in both),
            ("  changed" if self.changes else "", "$warning"),
        )
        self.query_one("#patterns", Sheet).redraw()
        self._show_here()

    def _show_here(self) -> None:
        self.line.redraw()
        self._count_cost()

    def _about(self, width: int) -> list[Cell]:
        node = self.layer_tree.cursor_node
        return about(node, self._tally.of(node), composed(self.trees, self.chosen, node), width)

    def _here(self, _width: int, _height: int) -> Drawn:
        if self._cost is None:
            return [[("counting what it costs", "dim")]]
        _, node, cost = self._cost
        return [here_cells(cost, node) if cost else [("what it costs is not known", "warning")]]

    def _whole(self, width: int, _height: int) -> Drawn:
        return [whole_cells(self._cost[2], width)] if self._cost and self._cost[2] else []

    def _written(self, width: int, height: int) -> Drawn:
        return written_rows(self.trees.written(self.chosen), self.changes, width=width, height=height)

    # -- cost ----------------------------------------------------------------------------------------------------------

    def _count_cost(self) -> None:
        """Of the layer under the cursor, one after the other; what was known before stands for that moment."""
        node, known = self.layer_tree.cursor_node, self._cost
        if self._counted_now is None and (known is None or known[0] is not self.chosen or known[1] is not node):
            self._counted_now = self.chosen, node
            self._count(self.chosen, node)

    @work(thread=True, group="cost", exit_on_error=False)
    def _count(self, chosen: Chosen, node: Node) -> None:
        cost = self._pricing.of(chosen, node)
        self.app.call_from_thread(self._counted, chosen, node, cost)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """The next layer may be counted again; Textual asks the base class too, which says what was wrong."""
        if event.worker.group == "cost" and event.state is WorkerState.ERROR and self._counted_now is not None:
            self._counted(*self._counted_now, None)

    def _counted(self, chosen: Chosen, node: Node, cost: Cost | None) -> None:
        self._counted_now, self._cost = None, (chosen, node, cost)
        if self.is_mounted:
            self.query_one("#layer-here", Sheet).redraw()
            self.query_one("#layer-whole", Sheet).redraw()
            self._count_cost()
