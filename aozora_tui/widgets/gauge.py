"""One-line readings: a labelled bar, and a labelled value. Both repaint only the cells that changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from textual.geometry import Region, Size
from textual.reactive import var
from textual.strip import Strip
from textual.widget import Widget

from aozora_tui.widgets.cells import Cell, Row, cells, changed, text_of, to_strip

EIGHTHS = " ▏▎▍▌▋▊▉█"
ABSENT = "n/a"
SHORTEST_BAR = 4  # cells; below that the number alone says more


@dataclass(frozen=True, slots=True)
class Unit:
    """How an amount is written: divided by `factor`, with `decimals`, then `suffix`; the total too if `of_total`."""

    suffix: str
    factor: float = 1.0
    decimals: int = 0
    of_total: bool = True


GIB = Unit("GiB", 2**30, 1)
WATT = Unit("W")
PERCENT = Unit("%", of_total=False)


def amount_text(used: float | None, total: float | None, unit: Unit) -> str:
    """`7.1/12.0 GiB`, `87 %`; `n/a` if there is no reading. Same width for any `used` from 0 to `total`."""
    if used is None:
        return ABSENT
    number = f"{used / unit.factor:.{unit.decimals}f}"
    if total is None:
        return f"{number} {unit.suffix}"
    whole = f"{total / unit.factor:.{unit.decimals}f}"
    return f"{number:>{len(whole)}}{f'/{whole}' if unit.of_total else ''} {unit.suffix}"


def bar(share: float, width: int, *, ascii_only: bool = False) -> tuple[str, str]:
    """The filled and the empty part of a bar, `width` cells together. A share that is not nothing shows."""
    share = min(max(share, 0.0), 1.0)
    if ascii_only:
        inner = max(width - 2, 0)
        filled = min(max(round(share * inner), 1 if share > 0 else 0), inner)
        return f"[{'#' * filled}", f"{'-' * (inner - filled)}]"
    eighths = min(max(round(share * width * 8), 1 if share > 0 else 0), width * 8)
    filled_text = "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
    return filled_text, "░" * (width - len(filled_text))


class _Line(Widget):
    """A widget of one line, compared with what it showed before."""

    DEFAULT_CSS = "_Line { height: 1; width: 1fr; }"
    ALLOW_SELECT = False
    PREFIX: ClassVar[str]

    ascii_only: var[bool] = var(False)

    def __init__(self, *, ascii_only: bool, name: str | None, id: str | None, classes: str | None) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.set_reactive(_Line.ascii_only, ascii_only)
        self._row: Row = ()

    @property
    def row(self) -> Row:
        """The line as cells, for the present width."""
        return cells(self.parts(self.size.width), self.size.width)

    @property
    def text(self) -> str:
        """The line's characters."""
        return text_of(self.row).rstrip()

    def parts(self, width: int) -> list[Cell]:
        """Text and style of each part of the line."""
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        self._row = self.row if y == 0 else cells([], self.size.width)
        return to_strip(self._row, self._style_of)

    def watch_ascii_only(self) -> None:
        self._repaint()

    def _repaint(self) -> None:
        span = changed(self._row, self.row)
        if span is not None:
            self.refresh(Region(span[0], 0, span[1] - span[0], 1))

    def _style_of(self, style: str) -> Style:
        return self.get_component_rich_style(f"{self.PREFIX}--{style}") if style else self.rich_style


class Gauge(_Line):
    """`VRAM ███████░░░ 7.1/12.0 GiB`. From `warn_at` of the total on, a `!` follows and the bar has another style."""

    DEFAULT_CSS = """
    Gauge > .gauge--label { color: $foreground 70%; }
    Gauge > .gauge--bar { color: $primary; }
    Gauge > .gauge--high { color: $warning; }
    Gauge > .gauge--rest { color: $foreground 30%; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"gauge--label", "gauge--bar", "gauge--high", "gauge--rest"}
    PREFIX = "gauge"

    def __init__(
        self,
        label: str,
        *,
        unit: Unit = GIB,
        label_width: int = 0,
        warn_at: float | None = None,
        ascii_only: bool = False,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(ascii_only=ascii_only, name=name, id=id, classes=classes)
        self.label, self.unit, self.warn_at = f"{label:<{label_width}}", unit, warn_at
        self.used: float | None = None
        self.total: float | None = None

    def set_amount(self, used: float | None, total: float | None) -> None:
        """Show an amount and its limit, in the unit's base (bytes for GiB); None where there is no reading."""
        self.used, self.total = used, total
        self._repaint()

    @property
    def share(self) -> float | None:
        """Used part of the total; None without a reading of both."""
        return self.used / self.total if self.used is not None and self.total else None

    def parts(self, width: int) -> list[Cell]:
        amount = amount_text(self.used, self.total, self.unit)
        high = self.share is not None and self.warn_at is not None and self.share >= self.warn_at
        tail = amount + (" !" if high else "  " if self.warn_at is not None else "")
        room = width - len(self.label) - len(tail) - 2
        if room < -1:  # half a number is a wrong one
            return [(tail, "")] if len(tail) <= width else [(self.label, "label")]
        if self.share is None or room < SHORTEST_BAR:
            return [(f"{self.label} ", "label"), (tail, "")]
        filled, rest = bar(self.share, room, ascii_only=self.ascii_only)
        return [
            (f"{self.label} ", "label"),
            (filled, "high" if high else "bar"),
            (f"{rest} ", "rest"),
            (tail, ""),
        ]


class Readout(_Line):
    """A label and a value of fixed width, `value_width` cells, right-aligned if `right`."""

    DEFAULT_CSS = """
    Readout { width: auto; }
    Readout > .readout--label { color: $foreground 70%; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"readout--label"}
    PREFIX = "readout"

    def __init__(
        self,
        label: str,
        *,
        value_width: int = 10,
        right: bool = False,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(ascii_only=False, name=name, id=id, classes=classes)
        self.label, self.value_width, self.right = label, value_width, right
        self.value: str | None = None

    def set_value(self, value: str | None, *, width: int | None = None) -> None:
        """Show `value`, cut to the width, or to another `width` from now on; `n/a` for None."""
        self.value = value
        if width is not None and width != self.value_width:
            self.value_width = width
            self.refresh(layout=True)
        self._repaint()

    def parts(self, width: int) -> list[Cell]:
        value = ABSENT if self.value is None else self.value[: self.value_width]
        return [(f"{self.label} ", "label"), (f"{value:{'>' if self.right else '<'}{self.value_width}}"[:width], "")]

    def get_content_width(self, container: Size, viewport: Size) -> int:  # noqa: ARG002  (Textual's signature)
        return len(self.label) + 1 + self.value_width
