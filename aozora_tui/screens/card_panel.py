"""One card: whose its memory is, gauges, what is no gauge, how it went in the last minutes, who uses it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from textual.containers import Grid, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui.card_history import Card
from aozora_tui.card_words import GIB, Split
from aozora_tui.screens import card_lines
from aozora_tui.screens.card_recorded import Recorded
from aozora_tui.screens.meters import CELSIUS, HOT, PLAIN_CELSIUS
from aozora_tui.screens.words import same
from aozora_tui.widgets.gauge import PERCENT, WATT, Gauge, Unit
from aozora_tui.widgets.memory_bar import MemoryBar
from aozora_tui.widgets.trail import Trail, window
from engine.contract.nvml_reading import Reading

MHZ = Unit("MHz")
WARN_HOT = 0.96  # of the temperature at which a card slows itself down
SPAN = (60.0, 300.0)  # seconds that the trails may show, one a dot
WARM = 20.0  # degrees at the bottom of the trail
TRAILS = {"use": "utilisation", "vram": "memory_used", "watts": "power", "celsius": "temperature"}
SHIFTS = {"use": 0.0, "vram": 0.25, "watts": 0.5, "celsius": 0.75}
Amounts = Mapping[str, tuple[float | None, float | None]]


class CardPanel(Vertical):
    """Nothing of it is drawn anew while a card's numbers stay what they are."""

    def __init__(self, *, ascii_only: bool, id: str) -> None:
        super().__init__(id=id)
        self.ascii_only = ascii_only
        self._drawn: tuple[object, ...] = ()

    def compose(self) -> Iterable[Widget]:
        signs = self.ascii_only
        yield MemoryBar("memory", ascii_only=signs, id="memory")
        with Grid(id="card-gauges"):
            yield Gauge("GPU", label_width=5, unit=PERCENT, ascii_only=signs, id="use-now")
            yield Gauge("power", label_width=5, unit=WATT, ascii_only=signs, id="power-now")
            heat = PLAIN_CELSIUS if signs else CELSIUS
            yield Gauge("heat", label_width=5, unit=heat, warn_at=WARN_HOT, ascii_only=signs, id="heat-now")
            yield Gauge("fan", label_width=5, unit=PERCENT, ascii_only=signs, id="fan-now")
            yield Gauge("SM", label_width=5, unit=MHZ, ascii_only=signs, id="sm-now")
            yield Gauge("VRAM", label_width=5, unit=MHZ, ascii_only=signs, id="mem-now")
        yield Static(id="facts", markup=False)
        with Grid(id="trails"):
            yield Trail("GPU %", ascii_only=signs, id="use")
            yield Trail("memory GiB", ascii_only=signs, id="vram")
            yield Trail("power W", ascii_only=signs, id="watts")
            yield Trail("heat C", ascii_only=signs, id="celsius")
        yield Static(id="processes", markup=False)

    def show_card(self, card: Card, parts: Split | None, owned: Mapping[int, str], *, name: str) -> None:
        """As it is now. `parts` of its memory, of which the first is `name`'s; `owned` are our processes."""
        reading, width = card.reading, max(self.size.width - 2, 20)
        if card.lost:
            self._gauges({}, None, "")
            self._lines("#facts", card_lines.lost(width))
            self._lines("#processes", [])
        else:
            self._gauges(_amounts(reading), parts, name)
            self._lines("#facts", card_lines.facts(reading, width))
            room = self.query_one("#processes").size.height
            self._lines("#processes", card_lines.processes(reading, owned, width, room))
        now = card.times[-1] if len(card.times) else 0.0
        dots = self.query_one("#use", Trail).dots
        tops = {"memory_used": reading.memory_total, "power": reading.power_limit}
        if self._is_news(reading.uuid, reading.index, dots, *_as_shown(card)):
            span = min(max(float(dots), SPAN[0]), SPAN[1])
            windows = {name: window(now, span, shift=SHIFTS[name]) for name in TRAILS}
            self._trails(card.times, card.values, windows, tops)

    def show_record(self, record: Recorded) -> None:
        """As a run told."""
        self._gauges(record.amounts, record.split, "torch")
        self._lines("#facts", card_lines.facts(record.reading, max(self.size.width - 2, 20))[:1])
        self._lines("#processes", [])
        if self._is_news(len(record.times), self.query_one("#use", Trail).size):
            self._trails(record.times, record.values, dict.fromkeys(TRAILS, record.x_range), record.tops)

    def _is_news(self, *drawn: object) -> bool:
        before, self._drawn = self._drawn, (*drawn, self.query_one("#use", Trail).size)
        return before != self._drawn

    def _gauges(self, amounts: Amounts, parts: Split | None, name: str) -> None:
        bar = self.query_one(MemoryBar)
        if parts is None:
            bar.clear()
        else:
            bar.set_shares(parts.ours, parts.others, parts.free, parts.total, name=name)
        for gauge in self.query(Gauge):
            used, total = amounts.get((gauge.id or "").removesuffix("-now"), (None, None))
            gauge.set_amount(used, total)

    def _trails(
        self,
        times: Sequence[float],
        values: Mapping[str, Sequence[float]],
        windows: Mapping[str, tuple[float, float]],
        tops: Mapping[str, float | None],
    ) -> None:
        """`tops` are where the scales end, if anybody tells."""
        for name, column in TRAILS.items():
            per = GIB if name == "vram" else 1.0
            ys = [value / per for value in values[column]]
            seen = [y for x, y in zip(times, ys, strict=True) if y == y and x >= windows[name][0]]
            top = (tops.get(column) or 100.0 * per) / per
            y_range = (min([WARM if name == "celsius" else 0.0, *seen]), max([top, *seen]))
            note = _extent(seen) if seen else ""
            self.query_one(f"#{name}", Trail).show(times, ys, x_range=windows[name], y_range=y_range, note=note)

    def _lines(self, selector: str, lines: Sequence[Content]) -> None:
        shown, content = self.query_one(selector, Static), Content("\n").join(lines)
        if selector == "#facts":
            shown.styles.height = len(lines)
        if not same(shown.content, content):
            shown.update(content, layout=False)


def _amounts(reading: Reading) -> Amounts:
    return {
        "use": (reading.utilisation, 100),
        "power": (reading.power, reading.power_limit),
        "heat": (reading.temperature, reading.slowdown_temperature or HOT),
        "fan": (reading.fan, 100),
        "sm": (reading.sm_clock, reading.sm_clock_max),
        "mem": (reading.memory_clock, reading.memory_clock_max),
    }


def _as_shown(card: Card) -> tuple[object, ...]:
    """Its newest numbers as far as the curves can show them: one that rests sends nothing."""
    reading = card.reading
    used = None if reading.memory_used is None else round(reading.memory_used / GIB, 1)
    watts = None if reading.power is None else round(reading.power)
    return card.lost, reading.utilisation, used, watts, reading.temperature


def _extent(seen: Sequence[float]) -> str:
    least, most = f"{min(seen):.3g}", f"{max(seen):.3g}"
    return f"always {least}" if least == most else f"{least} to {most}, median {statistics.median(seen):.3g}"
