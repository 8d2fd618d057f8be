"""The profile's three curves on one screen, drawn and edited: learning rate, timestep density, loss weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input

from aozora_tui.keymap import bindings
from aozora_tui.screens.ask import Answer, Ask
from aozora_tui.screens.base import AozoraScreen, Kind
from aozora_tui.screens.choice import laid_out
from aozora_tui.screens.curve_kinds import KINDS
from aozora_tui.screens.curve_sketch import Sketch
from aozora_tui.screens.curve_view import GUIDE_ROWS, fitted, guide, picture
from aozora_tui.screens.curve_words import TYPE_HERE, facts, point_words, reading, typed_point, typed_text
from aozora_tui.screens.words import FAINT
from aozora_tui.terminal import ascii_only
from aozora_tui.widgets.curve_plot import CurvePlot, CurveText
from engine.contract.sections import Profile

LABEL_WIDTH = 8
ENTRY_WIDTH = 24
# With the entry open, letters and arrows are its own.
WHILE_TYPING = ("cancel", "take", "help", "command_palette", "leave")
OF_POINTS = ("change", "slide", "remove", "type", "snap")


class CurvesScreen(AozoraScreen[dict[str, Any] | None]):
    """Opened on the curve that the field `path` belongs to. Gives what to write: plain values by path, None in place
    of a value for the default; or None if nothing should change."""

    DEFAULT_CSS = f"""
    CurvesScreen Canvas {{ margin: 0 1; }}
    CurvesScreen #curve-shapes {{ height: 1; }}
    CurvesScreen #curve-numbers {{ height: 2; }}
    CurvesScreen #curve-guide {{ height: {GUIDE_ROWS + 1}; display: none; }}
    CurvesScreen.-tall #curve-guide {{ display: block; }}
    CurvesScreen #curve-entry, CurvesScreen #curve-points, CurvesScreen #curve-typed {{ height: 1; }}
    CurvesScreen #curve-typed {{ width: {ENTRY_WIDTH}; margin-right: 1; background: $background; }}
    CurvesScreen #curve-typed:focus {{ background: $panel; }}
    """
    scopes: ClassVar[tuple[str, ...]] = ("curves",)
    BINDINGS = bindings("curves")
    AUTO_FOCUS = None

    def __init__(self, profile: Profile, path: str) -> None:
        super().__init__()
        self.sketch = Sketch(profile, path)
        # Always there, so that opening it moves nothing; focus and colour come when a point is typed.
        self.box = Input(compact=True, select_on_focus=False, id="curve-typed")
        self.box.cursor_blink = False
        self.box.can_focus = False

    def body(self) -> Iterable[Widget]:
        yield CurveText(id="curve-shapes")
        yield CurvePlot(ascii_only=ascii_only(), id="curve-plot")
        yield CurveText(id="curve-guide")
        yield CurveText(id="curve-numbers")
        with Horizontal(id="curve-entry"):
            yield CurveText(id="curve-points")
            yield self.box

    @property
    def plot(self) -> CurvePlot:
        return self.query_one(CurvePlot)

    def on_mount(self) -> None:
        rows = guide(self.aozora.settings.keys.scope("curves"))
        self.query_one("#curve-guide", CurveText).show(*rows)
        self._edited("")

    def on_resize(self) -> None:
        super().on_resize()
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002  (Textual's)
        return not self.typing or action in WHILE_TYPING

    def offers(self, action: str) -> bool:
        sketch = self.sketch
        offered = {
            "into_points": not sketch.is_drawn,
            "insert": sketch.is_drawn or not sketch.kind.drawn_word,
            **dict.fromkeys(OF_POINTS, sketch.is_drawn),
        }
        return offered.get(action, True)

    def resting(self) -> tuple[str, Kind]:
        """What to type; or the first problem of the curve; or which keys do most."""
        if self.typing:
            return TYPE_HERE[self.sketch.tab], "plain"
        found = self.sketch.problems()
        if not found:
            return self._hint(), "plain"
        return f"{found[0].path}: {found[0].text}. {found[0].remedy}", found[0].severity

    def _hint(self) -> str:
        """Which keys do most."""
        more, sideways, little = (
            f"{self.key_name(f'curves.{first}')} {self.key_name(f'curves.{second}')}"
            for first, second in (
                ("down_more", "up_more"),
                ("slide_left_more", "slide_right_more"),
                ("slide_left", "slide_right"),
            )
        )
        if self.sketch.is_drawn:
            return f"arrows go and change, {more} change more, {sideways} move sideways and {little} a little"
        return f"left and right read the curve, {self.key_name('curves.shape')} goes through the shapes"

    # -- looking -------------------------------------------------------------------------------------------------------

    def action_switch(self, by: int) -> None:
        self.sketch.switch(by)
        self._show()

    def action_walk(self, by: int) -> None:
        self.sketch.walk(by)
        self._show()

    def action_jump(self, to: int) -> None:
        self.sketch.jump(to)
        self._show()

    def action_log(self) -> None:
        self.sketch.toggle_log()
        self._show()

    def on_curve_plot_clicked(self, event: CurvePlot.Clicked) -> None:
        self.sketch.go_near(event.x / self.sketch.kind.across(self.sketch.profile))
        self._show()

    # -- editing -------------------------------------------------------------------------------------------------------

    def action_change(self, by: int, coarse: bool = False) -> None:
        self._edited(self.sketch.change(by, coarse=coarse))

    def action_slide(self, by: int, coarse: bool = False) -> None:
        self._edited(self.sketch.slide(by, coarse=coarse))

    def action_insert(self) -> None:
        self._edited(self.sketch.insert())

    def action_remove(self) -> None:
        self._edited(self.sketch.remove())

    def action_snap(self) -> None:
        self._edited(self.sketch.toggle_snap())

    def action_cycle(self, by: int) -> None:
        self.sketch.cycle(by)
        self._edited("")

    def action_into_points(self) -> None:
        self._edited(self.sketch.into_points())

    def action_undo(self) -> None:
        self._edited(self.sketch.undo())

    def action_redo(self) -> None:
        self._edited(self.sketch.redo())

    def action_type(self) -> None:
        """Open the entry on the point under the cursor."""
        if not self.sketch.is_drawn:
            self._edited(self.sketch.change(0, coarse=False))
            return
        self.box.value = typed_text(self.sketch)
        self.box.cursor_position = len(self.box.value)
        self.box.can_focus = True
        self.set_focus(self.box)
        self.rest()

    def on_input_changed(self) -> None:
        """What is wrong with it, while it is typed."""
        if self.typing:
            try:
                typed_point(self.sketch, self.box.value)
            except ValueError as error:
                self.say(f"{error}.", "warning")
            else:
                self.rest()

    def on_input_submitted(self) -> None:
        self._accept()

    def _accept(self) -> bool:
        """Take what was typed; if it is no point, say so and leave the entry open."""
        try:
            said = self.sketch.put(typed_point(self.sketch, self.box.value))
        except ValueError as error:
            self.say(f"{error}.", "warning")
            return False
        self._close_entry()
        self._edited(said)
        return True

    def _close_entry(self) -> None:
        self.set_focus(None)
        self.box.can_focus = False
        self.box.value = ""

    # -- leaving -------------------------------------------------------------------------------------------------------

    def action_take(self) -> None:
        """Give the changes, unless one of them is wrong."""
        if self.typing and not self._accept():
            return
        if wrong := self.sketch.forbidding():
            self.say(f"{wrong[0].path}: {wrong[0].text}. {wrong[0].remedy}", "error")
        else:
            self.dismiss(self.sketch.written or None)

    def action_cancel(self) -> None:
        if self.typing:
            self._close_entry()
        else:
            self.leave(lambda: self.dismiss(None))

    def leave(self, then: Callable[[], object]) -> None:
        if not self.sketch.changed:
            then()
            return

        def answered(answer: str | None) -> None:
            if answer == "take":
                self.action_take()
            elif answer == "discard":
                then()

        answers = [Answer("y", "take them over", "take"), Answer("d", "discard them", "discard", harmful=True)]
        self.app.push_screen(Ask("The curves were changed", [], answers), answered)

    # -- showing -------------------------------------------------------------------------------------------------------

    def _edited(self, said: str) -> None:
        self._show()
        if said:
            self.say(said)
        else:
            self.rest()

    def _show(self) -> None:
        """Everything; what is shown already is not sent again."""
        sketch, width = self.sketch, max(self.size.width - 2, 20)
        self._show_title()
        times = " x points" if sketch.is_drawn and not sketch.kind.drawn_word else ""
        self._show_words("#curve-shapes", sketch.kind.words, sketch.drawing.shape, width=width, more=times)
        self.plot.show(picture(sketch))
        said, about = fitted(partial(reading, under=self.plot.hidden), sketch, width), fitted(facts, sketch, width)
        self.query_one("#curve-numbers", CurveText).show([(said, "")], [(about, "faint")])
        if words := point_words(sketch.points):
            self._show_words("#curve-points", words, words[sketch.cursor], width=width - ENTRY_WIDTH - 2)
        else:
            line = f"{self.key_name('curves.points')} makes points of it"
            line += "" if sketch.kind.drawn_word else f", {self.key_name('curves.insert')} begins a factor on it"
            self.query_one("#curve-points", CurveText).show([(f"{'points':<{LABEL_WIDTH}}", "faint"), (line, "")])
        self.update_keys()
        self.rest(over=False)

    def _show_words(self, where: str, words: Sequence[str], chosen: str, *, width: int, more: str = "") -> None:
        """Words in a line, those around the chosen one, which is in brackets; after them `more`."""
        label = f"{where.removeprefix('#curve-'):<{LABEL_WIDTH}}"
        room = max(width - LABEL_WIDTH - len(more), 1)
        pieces = [(text, "chosen" if text.startswith("[") else "faint") for text, _ in laid_out(words, chosen, room)]
        self.query_one(where, CurveText).show([(label, "faint"), *pieces, (more, "")])

    def _show_title(self) -> None:
        sketch = self.sketch
        tabs = [(f"[{kind.name}]", "bold") if kind is sketch.kind else (f" {kind.name} ", FAINT) for kind in KINDS]
        modes = f"{'  log' if sketch.log else ''}{'  grid' if sketch.snap else ''}"
        changed = "  changed" if sketch.changed else ""
        self.set_title(("Curves  ", "bold"), *tabs, (modes, "$accent"), (changed, "$warning"))
