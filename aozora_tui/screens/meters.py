"""The numbers of a run: readouts of the last step, gauges of the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui.run_state import RunState
from aozora_tui.screens.words import cut, plain, same
from aozora_tui.text import factor, updates
from aozora_tui.widgets.gauge import PERCENT, WATT, Gauge, Readout, Unit
from aozora_tui.widgets.scale import short
from engine.contract.nvml_reading import Reading

CELSIUS = Unit("°C", of_total=False)
PLAIN_CELSIUS = Unit("C", of_total=False)
LR_WIDTH = 10
WIDE = 120  # columns that the names of all groups take
HOT = 100.0  # degrees: where the bar ends; cards throttle a little before


class Meters(Vertical):
    """Two or three lines. The gauges are there only while the run is live: an ended run uses no card."""

    def __init__(self, ascii_signs: bool) -> None:
        super().__init__(id="meters")
        self.ascii_signs = ascii_signs

    def compose(self) -> ComposeResult:
        with Horizontal(id="readouts"):
            yield Readout("lr", value_width=LR_WIDTH, id="lr-now")
            yield Readout("grad norm", value_width=8, id="norm-now")
            yield Readout("s/micro-batch", value_width=6, id="seconds-now")
            yield Readout("samples/s", value_width=7, id="samples-now")
            yield Readout("torch peak", value_width=9, id="peak-now", classes="only-wide")
        yield Static(id="updates", markup=False)
        signs = self.ascii_signs
        with Widget(id="gauges"):
            yield Gauge("VRAM", label_width=5, warn_at=0.97, ascii_only=signs, id="vram")
            yield Gauge("GPU", label_width=5, unit=PERCENT, ascii_only=signs, id="utilisation")
            yield Gauge("power", label_width=5, unit=WATT, ascii_only=signs, id="power")
            heat = PLAIN_CELSIUS if signs else CELSIUS
            yield Gauge("heat", label_width=5, unit=heat, warn_at=0.88, ascii_only=signs, id="heat")

    def show(self, state: RunState, readings: Sequence[Reading], *, live: bool) -> None:
        step = state.last_step
        self._rate(state)
        norm = f"{short(step.grad_norm)}{' !' if step.clipped else ''}" if step else None
        self._readout("norm-now", norm)
        self._readout("seconds-now", short(step.seconds, 3) if step else None)
        self._readout("samples-now", short(step.samples_per_second, 3) if step else None)
        self._updates(step.updates if step else {})
        peak = f"{step.memory_peak / 2**30:.2f} GiB" if step and step.memory_peak else None
        self._readout("peak-now", peak)
        self.query_one("#gauges").display = live
        if not live:
            return
        card = card_of(state, readings)
        self._gauge("vram", card.memory_used if card else None, card.memory_total if card else None)
        self._gauge("utilisation", card.utilisation if card else None, 100)
        self._gauge("power", card.power if card else None, card.power_limit if card else None)
        self._gauge("heat", card.temperature if card else None, HOT)

    def _rate(self, state: RunState) -> None:
        """Of the last step; where it is scaled by command, as scheduled times the factor."""
        rate = short(state.planned_lr) if state.last_step else None
        if state.factor != 1:
            rate = f"{short(state.planned_lr, 3) if state.last_step else 'schedule'} x {factor(state.factor)}"
        self.query_one("#lr-now", Readout).set_value(rate, width=max(len(rate or ""), LR_WIDTH))

    def _updates(self, shares: Mapping[str, float]) -> None:
        """Of several groups also where rows are few: that they differ is what one wants to see."""
        line = self.query_one("#updates", Static)
        words = updates(shares, partial(short, digits=2), briefly=self.app.size.width < WIDE)
        text = Content(plain(cut(f"update / weight  {words}", max(self.app.size.width - 2, 20))))
        if shares and not same(line.content, text):
            line.update(text, layout=False)
        line.set_class(bool(shares), "-known")
        line.set_class(len(shares) > 1, "-several")

    def _readout(self, name: str, value: str | None) -> None:
        self.query_one(f"#{name}", Readout).set_value(value)

    def _gauge(self, name: str, used: float | None, total: float | None) -> None:
        self.query_one(f"#{name}", Gauge).set_amount(used, total)


def on_card(state: RunState) -> bool:
    """Whether the run trains on a card; the engine announces the processor as `CPU (8 threads)`, a card by its name."""
    return state.started is not None and not state.started.device.lower().startswith("cpu")


def card_of(state: RunState, readings: Sequence[Reading]) -> Reading | None:
    """The card the run trains on: the one that it told of, else the one that holds its memory, else the first of that
    name, else the first."""
    name = state.started.device if state.started else ""
    told = state.machine.card if state.machine else ""
    known = [reading for reading in readings if told and reading.uuid == told]
    holding = [reading for reading in readings if reading.run_memory]
    named = [reading for reading in readings if reading.name == name]
    return next(iter((*known, *holding, *named, *readings)), None)
