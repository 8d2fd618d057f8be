"""The line below the tree: what the layer under the cursor is, or what is typed in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.strip import Strip
from textual.widgets import Input, Static

from aozora_tui.screens.layers_prompt import Asked, Outcome
from aozora_tui.widgets.cells import Cell

RESTING = "pattern"
LABELS: dict[Asked, str] = {"search": "find", "match": "match", "factor": "factor"}


class _Line(Input):
    """A field only while something is asked: to show and hide one anew would send the whole screen."""

    DEFAULT_CSS = """
    _Line { width: 1fr; background: $background; }
    _Line.-asking { background: $panel; }
    """

    def __init__(self, about: Callable[[int], Sequence[Cell]]) -> None:
        super().__init__(compact=True, select_on_focus=True)
        self.cursor_blink = False
        self.can_focus = False
        self._about = about
        self._shown: Sequence[Cell] = ()

    def redraw(self) -> None:
        if not self.can_focus and self.size and self._about(self.size.width) != self._shown:
            self.refresh()

    def render_line(self, y: int) -> Strip:
        if self.can_focus:
            return super().render_line(y)
        self._shown = self._about(self.size.width)
        faint = self.get_component_rich_style("input--placeholder")
        styles = {"strong": self.rich_style + Style(bold=True), "dim": self.rich_style + Style(color=faint.color)}
        parts = [Segment(text, styles.get(style, self.rich_style)) for text, style in self._shown]
        return Strip(parts).adjust_cell_length(self.size.width, self.rich_style)


class LayerLine(Horizontal):
    """`about` gives what stands there, for a width, while nothing is asked."""

    DEFAULT_CSS = """
    LayerLine { height: 1; padding: 0 1; }
    LayerLine > #layer-asked { width: 9; color: $foreground 60%; }
    LayerLine:ansi > #layer-asked { text-style: dim; }
    """

    def __init__(self, about: Callable[[int], Sequence[Cell]]) -> None:
        super().__init__()
        self.asked: Asked | None = None
        self._label = Static(RESTING, id="layer-asked", markup=False)
        self._line = _Line(about)
        self._of: Callable[[str], Outcome] = lambda _text: Outcome("")

    def compose(self) -> ComposeResult:
        yield from (self._label, self._line)

    @property
    def outcome(self) -> Outcome:
        """Of what is typed now."""
        return self._of(self._line.value)

    @property
    def typed(self) -> str:
        return self._line.value.strip()

    def redraw(self) -> None:
        self._line.redraw()

    def ask(self, asked: Asked, text: str, outcome_of: Callable[[str], Outcome]) -> None:
        """Let something be typed, beginning with `text`."""
        self.asked, self._of = asked, outcome_of
        self._label.update(LABELS[asked], layout=False)
        self._line.can_focus = True
        self._line.value = text
        self._line.add_class("-asking")
        self._line.focus()

    def close(self) -> None:
        self.asked = None
        self._label.update(RESTING, layout=False)
        self._line.can_focus = False
        self._line.value = ""
        self._line.remove_class("-asking")
