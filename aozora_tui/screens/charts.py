"""Every curve of a run, linked: one cursor, one window on the x axis, the chart that has the focus full screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.containers import Grid
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui import metrics
from aozora_tui.keymap import bindings
from aozora_tui.metrics import Metric
from aozora_tui.reading import Reading
from aozora_tui.screens.base import AozoraScreen
from aozora_tui.screens.words import plain
from aozora_tui.terminal import ascii_only
from aozora_tui.text import duration
from aozora_tui.widgets.chart import Chart
from aozora_tui.widgets.heat import HeatStrip
from aozora_tui.widgets.scale import short, whole
from aozora_tui.widgets.traces import Series, nearest_index
from engine.contract.rundir import RunDir

SMOOTHINGS = (0.9, 0.97, 0.99, 0.0)
X_WORDS = {"step": "steps", "hours": "hours of training", "samples": "samples"}


class ChartsScreen(AozoraScreen[None]):
    """Can be opened on any run; `reading` is that of a screen that has read its events already."""

    scopes: ClassVar[tuple[str, ...]] = ("charts",)
    BINDINGS = bindings("charts")
    DEFAULT_CSS = """
    ChartsScreen #grid { height: 1fr; grid-gutter: 0 2; padding: 0 1; grid-size: 1 2; }
    ChartsScreen.-wide #grid { grid-size: 2 2; }
    ChartsScreen.-one #grid { grid-size: 1 1; }
    ChartsScreen #grid Chart, ChartsScreen #grid HeatStrip { height: 1fr; width: 1fr; }
    ChartsScreen #readout { height: 1; padding: 0 1; }
    """

    def __init__(self, run: RunDir, reading: Reading | None = None) -> None:
        super().__init__()
        self.run_dir = run
        self._reading = reading or Reading(run, self._read_more, judged=False)
        self.state = self._reading.state
        self.axis: metrics.XAxis = "step"
        self.cursor: float | None = None
        self.window: tuple[float, float] | None = None
        self.following = False
        self.place = 0
        self.one = False
        self._seen = 0
        self._smoothing, self._median = SMOOTHINGS[0], False
        self._logs: set[str] = set()
        self._clips_at = 0.0

    def body(self) -> Iterable[Widget]:
        yield Grid(id="grid")
        yield Static(id="readout", markup=False)

    def on_mount(self) -> None:
        self._clips_at = metrics.clip_of(self.run_dir)
        self._read()
        self.call_after_refresh(self._arrange)

    def on_resize(self) -> None:
        self.call_after_refresh(self._arrange)

    def tick(self) -> None:
        if self._read():
            self._arrange_if_needed()

    # -- what is seen --------------------------------------------------------------------------------------------------

    @property
    def chosen(self) -> Metric:
        """The chart that keys about one chart mean."""
        known = metrics.shown(self.state.history)
        return known[self.place % len(known)]

    @property
    def seen(self) -> tuple[Metric, ...]:
        """The metrics that are on the screen: the page that the chosen one is on."""
        known, room = metrics.shown(self.state.history), self._room()
        first = self.place % len(known) // room * room
        return known[first : first + room]

    def _room(self) -> int:
        return 1 if self.one else 4 if self.size.width >= 100 and self.size.height >= 22 else 2

    def _read(self) -> bool:
        """Take in what was appended; whether there is anything that was not shown yet."""
        self._reading.read(self.aozora.call_soon)
        before, self._seen = self._seen, self._reading.taken
        return self._seen != before

    def _read_more(self) -> None:
        if self.is_current:
            self.tick()

    def _arrange(self) -> None:
        """A chart for each metric that is seen; the others are taken away."""
        if not self.is_attached:  # it was closed before it was drawn
            return
        self.set_class(self.one, "-one")
        grid = self.query_one("#grid", Grid)
        if not self._is_arranged():
            grid.remove_children()
            grid.mount_all(_empty(metric) for metric in self.seen)
        self.call_after_refresh(self._show)

    def _arrange_if_needed(self) -> None:
        """What a run tells first makes more charts, or others."""
        if not self.is_attached:
            return
        if self._is_arranged():
            self._show()
        else:
            self._arrange()

    def _is_arranged(self) -> bool:
        return [chart.name for chart in self.query_one("#grid").children] == [metric.name for metric in self.seen]

    def _charts(self) -> list[tuple[Metric, Chart | HeatStrip]]:
        found = {chart.name: chart for chart in self.query_one("#grid").children}
        drawn = [(metric, found.get(metric.name)) for metric in self.seen]
        return [(metric, chart) for metric, chart in drawn if isinstance(chart, Chart | HeatStrip)]

    def _show(self) -> None:
        if not self.is_attached:
            return
        end = self._end()
        if self.following and self.window is not None and end is not None:
            self.window = (end - (self.window[1] - self.window[0]), end)
        total = float(self.state.steps) or None if self.axis == "step" else None
        for metric, chart in self._charts():
            chart.x_window, chart.cursor = self.window, self.cursor
            mark = plain("\u203a") if metric is self.chosen and not self.one else ""
            chart.title = f"{mark}{metric.title}"
            if isinstance(chart, HeatStrip):
                chart.own_scale = metric.name in self._logs
                chart.set_data(self.state.history, self._series(metric).xs, total)
                continue
            chart.y_log, chart.median = metric.name in self._logs, self._median and metric.smoothed
            chart.smoothing = self._smoothing if metric.smoothed else 0.0
            chart.set_data([self._series(metric), *self._clip(metric)], total)
        self._show_words()

    def _series(self, metric: Metric) -> Series:
        history = self.state.history
        started = self.state.started
        per_step = started.accumulate * started.batch_size if started else 1
        return Series(
            metric.title,
            metrics.xs(history, self.axis, per_step=per_step, of=metric.of),
            metrics.values(history, metric),
        )

    def _clip(self, metric: Metric) -> Iterable[Series]:
        """Where gradients are clipped, from end to end of what is seen."""
        end = self._end()
        if metric.name == "grad-norm" and end is not None and metrics.clip_line(self.state.history, self._clips_at):
            start, stop = self.window or (0.0, end)
            yield Series("clip", (start, max(min(stop, end), start)), (self._clips_at,) * 2, "second")

    def _show_words(self) -> None:
        page = (
            f"  {self.place % len(metrics.shown(self.state.history)) + 1} of {len(metrics.shown(self.state.history))}"
        )
        window = "the whole run" if self.window is None else f"{self._x(self.window[0])} to {self._x(self.window[1])}"
        self.set_title((f"{self.run_dir.name}  ", "bold"), f"charts{page}  {window}  by {X_WORDS[self.axis]}")
        self.set_line("#readout", Content(self._readout()))

    def _readout(self) -> str:
        """All that was measured at the cursor, not only what is drawn now."""
        if self.cursor is None:
            return plain("left and right read the values at a place")
        history = self.state.history
        index = nearest_index(self._series(metrics.METRICS[0]).xs, self.cursor)
        if index is None:
            return ""
        steps = history.steps
        parts = [f"step {steps.steps[index]:,}", f"after {duration(steps.elapsed[index])}"]
        known = [metric for metric in metrics.shown(history) if not metric.by_timestep]
        # The chosen one first: the last ones may find no room.
        for metric in sorted(known, key=lambda each: each is not self.chosen):
            found = metrics.columns(history, metric)
            at = index if metric.of == "steps" else nearest_index(found.elapsed, steps.elapsed[index])
            if at is None:
                continue
            number = found[metric.column][at] / metric.per
            if number == number:
                parts.append(f"{metric.title} {short(number)}")
        text, room = parts[0], max(self.size.width - 2, 20)
        for part in parts[1:]:
            if len(text) + len(part) + 2 > room:
                break
            text += f"  {part}"
        return text

    def _x(self, x: float) -> str:
        return f"{x:.2f}" if self.axis == "hours" else whole(x)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def action_back(self) -> None:
        if self.one:
            self.action_one()
        elif self.cursor is not None:
            self.cursor = None
            self._show()
        else:
            self.app.pop_screen()

    def action_one(self) -> None:
        self.one = not self.one
        self._arrange()

    def action_next(self, by: int) -> None:
        self.place = (self.place + by) % len(metrics.shown(self.state.history))
        self._arrange()

    def action_move(self, by: int) -> None:
        """By dot columns of the plot. The first time the cursor goes to the newest value."""
        start, stop = self._range()
        if self.cursor is None:
            end = self._end()
            self.cursor = min(stop, end) if end is not None else None
        else:
            dots = next((chart.dots() for _, chart in self._charts()), 2)
            self.cursor = min(max(self.cursor + by * (stop - start) / (dots - 1), start), stop)
        self._show()

    def action_zoom(self, factor: float) -> None:
        start, stop = self._range()
        whole_stop = self._whole()
        width = (stop - start) * factor
        if width >= whole_stop:
            self.window, self.following = None, False
        elif width > 1e-6 * whole_stop:
            middle = self.cursor if self.cursor is not None and factor < 1 else (start + stop) / 2
            self._look_from(middle - width / 2, width)
        self._show()

    def action_pan(self, share: float) -> None:
        start, stop = self._range()
        if self.window is not None:
            self.following = False
            self._look_from(start + share * (stop - start), stop - start)
            self._show()

    def action_follow(self) -> None:
        """The window ends at the newest step from now on; of the whole run the last tenth is looked at."""
        end = self._end()
        if end is None:
            return
        start, stop = self._range()
        width = stop - start if self.window is not None else max(end / 10, self._whole() / 1000)
        self.window, self.following, self.cursor = (end - width, end), True, None
        self._show()

    def action_y_log(self) -> None:
        self._logs ^= {self.chosen.name}
        self._show()

    def action_smooth(self) -> None:
        here = SMOOTHINGS.index(self._smoothing)
        self._smoothing = SMOOTHINGS[(here + 1) % len(SMOOTHINGS)]
        self._show()
        self.say(f"Smoothed by {self._smoothing}" if self._smoothing else "Not smoothed")

    def action_median(self) -> None:
        self._median = not self._median
        self._show()

    def action_x_axis(self) -> None:
        here = metrics.X_AXES.index(self.axis)
        self.axis = metrics.X_AXES[(here + 1) % len(metrics.X_AXES)]
        self.window, self.cursor, self.following = None, None, False
        self._show()

    def _range(self) -> tuple[float, float]:
        return self.window or (0.0, self._whole())

    def _whole(self) -> float:
        """Where the x axis ends, as the charts draw it."""
        return next((chart.x_end for _, chart in self._charts()), 1.0)

    def _end(self) -> float | None:
        """Where the newest step is."""
        found = self._series(metrics.METRICS[0]).xs
        return float(found[-1]) if len(found) else None

    def _look_from(self, start: float, width: float) -> None:
        start = min(max(start, 0.0), self._whole() - width)
        self.window = (start, start + width)


def _empty(metric: Metric) -> Chart | HeatStrip:
    """What will draw it."""
    if metric.by_timestep:
        return HeatStrip(metric.title, empty_text=plain("No step yet."), ascii_only=ascii_only(), name=metric.name)
    return Chart(metric.title, empty_text=plain("No step yet."), ascii_only=ascii_only(), name=metric.name)
