"""Runs laid over each other: one metric of all of them, or how they ended and what their profiles differ in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui import metrics
from aozora_tui.compared_runs import series, told
from aozora_tui.keymap import bindings
from aozora_tui.keys.key import Key
from aozora_tui.metrics import Metric
from aozora_tui.screens.compare_loading import LoadingRuns
from aozora_tui.screens.compare_parts import Said, fitting, heads, legend, mark, table
from aozora_tui.screens.data_page import Page
from aozora_tui.screens.looking import Looking
from aozora_tui.screens.words import FAINT, counted, cut, plain
from aozora_tui.terminal import ascii_only
from aozora_tui.widgets.overlay import Legend, Overlay
from aozora_tui.widgets.run_marks import RUN_STYLES
from aozora_tui.widgets.scale import whole
from engine.contract.rundir import RunDir

SMOOTHINGS = (0.9, 0.97, 0.99, 0.0)
X_WORDS = {"step": "steps", "hours": "hours of training", "samples": "samples"}
FAR = 10  # dot columns
_OF_CURVES = frozenset({"next", "move", "x_axis", "zoom", "pan", "follow", "smooth", "y_log"})


class CompareScreen(LoadingRuns):
    """Of the runs it is given and of those chosen here. With one alone, others are asked for at once."""

    scopes: ClassVar[tuple[str, ...]] = ("compare",)
    BINDINGS = bindings("compare")
    DEFAULT_CSS = """
    CompareScreen #overlay { height: 1fr; margin: 0 1; }
    CompareScreen #at { height: 1; padding: 0 1; }
    CompareScreen #ends { height: 1fr; display: none; }
    CompareScreen #heads { display: none; }
    CompareScreen.-table #overlay, CompareScreen.-table #at, CompareScreen.-table #legend { display: none; }
    CompareScreen.-table #ends, CompareScreen.-table #heads { display: block; }
    """

    def __init__(self, chosen: Sequence[RunDir]) -> None:
        super().__init__(chosen)
        self.looking = Looking()
        self.axis: metrics.XAxis = "step"
        self.place = self.first = 0  # of the metric; of the table's runs
        self._smoothing = SMOOTHINGS[0]
        self._logs: set[str] = set()

    def body(self) -> Iterable[Widget]:
        yield Overlay(empty_text=plain("No step yet."), ascii_only=ascii_only(), id="overlay")
        yield Static(id="at", markup=False)
        yield Legend(id="legend")
        yield Legend(id="heads")
        yield Page(lambda: self.key_name("compare.next"), id="ends")

    def on_resize(self) -> None:
        self.call_after_refresh(self.show)

    def on_page_resized(self) -> None:
        self._show_table()

    def on_chosen(self) -> None:
        self.first = 0
        self.looking.forget()

    # -- what is seen --------------------------------------------------------------------------------------------------

    @property
    def metric(self) -> Metric:
        known = told(self.loaded)
        return known[self.place % len(known)]

    @property
    def overlay(self) -> Overlay:
        return self.query_one(Overlay)

    @property
    def in_table(self) -> bool:
        return self.has_class("-table")

    def show(self) -> None:
        """All of it, as it is now."""
        if self.in_table:
            self._show_table()
            return
        metric, chart = self.metric, self.overlay
        curves = [series(each, metric, self.axis, RUN_STYLES[each.place]) for each in self.loaded]
        self.looking.keep_up(self._last(max))
        chart.x_window, chart.cursor = self.looking.window, self.looking.cursor
        chart.y_log = metric.name in self._logs
        chart.smoothing = self._smoothing if metric.smoothed else 0.0
        chart.title = self._metric_words(metric)
        total = max((each.whole for each in self.loaded), default=0) if self.axis == "step" else 0
        chart.set_data(curves, float(total) or None)
        self._show_legend()
        self._show_title()

    def _metric_words(self, metric: Metric) -> str:
        smoothed = f", smoothed {self._smoothing}" if metric.smoothed and self._smoothing else ""
        return f"{metric.title}{smoothed}{', log axis' if metric.name in self._logs else ''}"

    def _show_title(self) -> None:
        known = told(self.loaded)
        window = self.looking.window
        seen = "" if window is None else f"  {self._x(window[0])} to {self._x(window[1])}"
        count = self.place % len(known) + 1
        said = f"{self.metric.title} ({count} of {len(known)})  by {X_WORDS[self.axis]}{seen}"
        self._title(cut(said, self.size.width - 20))

    def _title(self, said: str) -> None:
        self.set_title((f"Comparing {counted(len(self.compared), 'run')}  ", "bold"), said)

    def _show_legend(self) -> None:
        readings, cursor = self.overlay.readings, self.looking.cursor
        values = [readings.get(str(each.place)) if each.loaded else None for each in self.compared]
        # The newest values are of different steps: how far they are from each other would say nothing.
        base = values[0] if values and cursor is not None else None
        said = [
            Said(each, name, value, base if at else None)
            for at, (each, name, value) in enumerate(zip(self.compared, self.names, values, strict=True))
        ]
        lines, room = legend(said, self.size.width), max(self.size.height // 3, 2)
        if len(lines) > room:
            more = f"   and {len(lines) - room + 1} more: {self.key_name('compare.page')} shows all of them"
            lines = [*lines[: room - 1], [(more, "dim")]]
        shown = self.query_one("#legend", Legend)
        shown.styles.height = max(len(lines), 1)
        shown.set_lines(lines)
        self._show_place(mark(self.compared[0]) if base is not None and len(said) > 1 else "")

    def _show_place(self, base: str) -> None:
        """Where the values are read, and which run's the others are measured by."""
        cursor = self.looking.cursor
        if cursor is None:
            self.set_line("#at", Content.styled("newest values; left and right read them at a place", FAINT))
            return
        at = f"at {'step ' if self.axis == 'step' else ''}{self._x(cursor)}{self._unit()}"
        self.set_line("#at", Content.assemble((at, "bold"), (f"  % off {base}" if base else "", FAINT)))

    def _unit(self) -> str:
        return "" if self.axis == "step" else f" {X_WORDS[self.axis]}"

    def _show_table(self) -> None:
        if not self.in_table:
            return
        page = self.query_one("#ends", Page)
        width, compared = page.room[0], self.loaded
        count = fitting(width, max(len(compared), 1))
        self.first = min(self.first, max(len(compared) - count, 0))
        names = [name for each, name in zip(self.compared, self.names, strict=True) if each.loaded]
        self.query_one("#heads", Legend).set_lines([heads(compared, names, self.first, width)])
        page.set_lines(table(compared, names, self.first, width) if compared else ())
        part = "" if count >= len(names) else f"  {self.first + 1} to {self.first + count}: left and right show others"
        self._title(cut(f"how they ended, and what differs{part}", self.size.width - 20))

    def _x(self, x: float) -> str:
        return f"{x:.2f}" if self.axis == "hours" else whole(x)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def active_keys(self) -> list[Key]:
        """What enter does depends on the page."""
        found = super().active_keys()
        if not self.in_table:
            return found
        return [replace(key, label="curves") if key.action == "page" else key for key in found]

    def offers(self, action: str) -> bool:
        return not (self.in_table and action in _OF_CURVES)

    def action_back(self) -> None:
        if self.in_table:
            self.action_page()
        elif self.looking.cursor is not None:
            self.looking.cursor = None
            self.show()
        else:
            self.app.pop_screen()

    def action_page(self) -> None:
        self.toggle_class("-table")
        self.call_after_refresh(self.show)
        self.update_keys()

    def action_next(self, by: int) -> None:
        if self.in_table:
            self.query_one("#ends", Page).scroll_by(by)
            return
        self.place = (self.place + by) % len(told(self.loaded))
        self.show()

    def action_move(self, by: int) -> None:
        if self.in_table:
            self.first = max(self.first + by, 0)
        elif any(len(each.state.history.steps) for each in self.loaded):
            chart = self.overlay
            self.looking.move(by, whole=chart.x_end, begin=self._last(min), dots=chart.dots())
        self.show()

    def action_far(self, by: int) -> None:
        if self.in_table:
            page = self.query_one("#ends", Page)
            page.scroll_by(by * max(page.room[1] - 1, 1))
        else:
            self.action_move(FAR * by)

    def action_zoom(self, factor: float) -> None:
        self.looking.zoom(factor, self.overlay.x_end)
        self.show()

    def action_pan(self, share: float) -> None:
        self.looking.pan(share, self.overlay.x_end)
        self.show()

    def action_follow(self) -> None:
        if newest := self._last(max):
            self.looking.follow(newest, self.overlay.x_end)
            self.show()

    def action_y_log(self) -> None:
        self._logs ^= {self.metric.name}
        self.show()

    def action_smooth(self) -> None:
        self._smoothing = SMOOTHINGS[(SMOOTHINGS.index(self._smoothing) + 1) % len(SMOOTHINGS)]
        self.show()

    def action_x_axis(self) -> None:
        self.axis = metrics.X_AXES[(metrics.X_AXES.index(self.axis) + 1) % len(metrics.X_AXES)]
        self.looking.forget()
        self.show()

    def _last(self, which: Callable[[Iterable[float]], float]) -> float:
        """Where the runs end: by `max` the one that has come furthest, by `min` the one that has not."""
        found = [series(each, metrics.METRICS[0], self.axis, "").xs for each in self.loaded]
        ends = [float(across[-1]) for across in found if len(across)]
        return which(ends) if ends else 0.0
