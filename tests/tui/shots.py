"""Every view of the gallery as a terminal shows it: in 24 bit, in 256 colours, and bare: no colour, ASCII alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import gallery
import pytest
from rich.cells import cell_len
from rich.color import ColorSystem
from stillness import still
from terminal_cells import Cell, Terminal
from textual.containers import VerticalScroll
from textual.content import Content
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Static

from aozora_tui.app import AozoraApp
from aozora_tui.screens.base import AozoraScreen, KeyBar
from aozora_tui.screens.data_page import STYLES, Page
from aozora_tui.widgets.curve_plot import CurveText
from aozora_tui.widgets.wall import STYLES as WALL_STYLES
from aozora_tui.widgets.wall import Wall

Mode = Literal["colour", "bare"]
Depth = Literal["24 bit", "256", "bare"]
Rows = list[list[Cell]]
DEPTHS: dict[Mode, dict[Depth, ColorSystem]] = {
    "colour": {"24 bit": ColorSystem.TRUECOLOR, "256": ColorSystem.EIGHT_BIT},
    "bare": {"bare": ColorSystem.EIGHT_BIT},
}
# Its own words are about the machine that it runs on; tests/tui/test_start.py looks at them.
OF_THE_MACHINE = ("start",)


@dataclass(frozen=True)
class Shot:
    """`codes` are those of the bare terminal; `picture` holds the cells, column and row, of a person's picture. `cut`
    is what is cut off without a sign; `unmarked` names a widget that looks the same with and without the focus."""

    name: str
    size: tuple[int, int]
    depths: dict[Depth, Rows]
    codes: frozenset[int]
    picture: frozenset[tuple[int, int]] = frozenset()
    cut: tuple[str, ...] = ()
    unmarked: str = ""

    @property
    def title(self) -> str:
        return f"{self.name}-{self.size[0]}x{self.size[1]}"


async def shots_of(area: str, folder: Path) -> dict[str, Shot]:
    """By title. `folder` must be empty."""
    colour, bare = [await _walk(area, mode, folder / mode) for mode in ("colour", "bare")]
    joined = {
        title: replace(
            shot,
            depths={**shot.depths, **bare[title].depths},
            codes=bare[title].codes,
            cut=(*shot.cut, *bare[title].cut),
            unmarked=bare[title].unmarked,
        )
        for title, shot in colour.items()
        if title in bare
    }
    return {**colour, **joined}


async def _walk(area: str, mode: Mode, home: Path) -> dict[str, Shot]:
    """In one app for all of them."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        _prepare(mode, home, patch)
        async with gallery.opened(area, gallery.SIZES[0]) as pilot:
            async for name, size in gallery.tour(area, pilot, but=OF_THE_MACHINE if mode == "bare" else ()):
                shot = await _shot(name, size, pilot, mode)
                found[shot.title] = shot
    return found


def _prepare(mode: Mode, home: Path, patch: pytest.MonkeyPatch) -> None:
    """What the environment says before a start. NO_COLOR has chosen the theme before Textual is imported; that is over
    here, so the theme that Textual then begins with is set."""
    patch.setenv("TERM", "xterm-256color")
    patch.delenv("COLORTERM", raising=False)
    patch.setenv("HOME", str(home))  # paths are shown from there
    for name in ("DATA", "CACHE", "RUNS", "PROFILES", "CONFIG"):
        patch.setenv(f"AOZORA_{name}", str(home / name.lower()))
    patch.setenv("TERM", "xterm-256color")
    patch.setenv("COLORTERM", "truecolor")
    patch.setenv("AOZORA_ASCII", "1" if mode == "bare" else "0")
    if mode == "bare":
        patch.setenv("NO_COLOR", "1")
        patch.setenv("TEXTUAL_THEME", "ansi-dark")
        patch.setattr(AozoraApp.theme, "_default", "ansi-dark")


async def _shot(name: str, size: tuple[int, int], pilot: Pilot[int], mode: Mode) -> Shot:
    """What is sent to a terminal that shows nothing yet."""
    app = pilot.app
    assert isinstance(app, AozoraApp)
    depths: dict[Depth, Rows] = {}
    for depth, system in DEPTHS[mode].items():
        terminal = Terminal(size)
        app._shown.forget()
        terminal.feed(app._shown.changes(system))
        depths[depth] = terminal.rows()
    unmarked = await _unmarked(app, terminal) if mode == "bare" else ""
    return Shot(name, size, depths, terminal.codes, _picture(app), tuple(_cut(app)), unmarked)


async def _unmarked(app: AozoraApp, terminal: Terminal) -> str:
    """Take the focus away, look whether that can be seen where it was, and give it back."""
    screen, widget = app.screen, app.screen.focused
    if widget is None or isinstance(widget, VerticalScroll):  # which only scrolls
        return ""
    before = _within(terminal.rows(), widget.region)
    screen.set_focus(None)
    await still(app)
    terminal.feed(app._shown.changes(ColorSystem.EIGHT_BIT))
    after = _within(terminal.rows(), widget.region)
    screen.set_focus(widget)
    await still(app)
    return "" if before != after else f"{widget!r}"


def _within(rows: Rows, region: Region) -> Rows:
    return [row[region.x : region.right] for row in rows[region.y : region.bottom]]


def _picture(app: AozoraApp) -> frozenset[tuple[int, int]]:
    """Its colours are a person's, not ours."""
    found = set()
    for page in app.screen.query("#data-page").results(Page):
        for y, row in enumerate(page._rows):
            left = page.region.x
            found |= {(left + x, page.region.y + y) for x, (_, style) in enumerate(row) if style not in STYLES}
    for wall in app.screen.query(Wall):
        for y, row in enumerate(wall.rows):
            left = wall.region.x
            found |= {(left + x, wall.region.y + y) for x, (_, style) in enumerate(row) if style not in WALL_STYLES}
    return frozenset(found)


def _cut(app: AozoraApp) -> Iterator[str]:
    """Texts that do not fit where they stand, and keys that are no whole ones."""
    for lines, width in _own_lines(app):
        yield from (f"{line!r} is wider than {width}" for line in lines if cell_len(line.rstrip()) > width)
    for widget in app.screen.walk_children(Static):
        text = widget.content
        if widget.is_on_screen and isinstance(text, Content) and _is_fixed(widget) and not _fits(text, widget):
            yield f"{widget!r} cuts {text.plain!r}"
    screen = app.screen
    if isinstance(screen, AozoraScreen):
        bar = screen.query_one(KeyBar).content
        named = {f" {name} {key.label} " for key in screen.active_keys() for name in key.names}
        left = str(bar)
        for piece in sorted(named, key=len, reverse=True):
            left = left.replace(piece, "", 1)
        if left.strip():
            yield f"the key bar has {left!r}"


def _own_lines(app: AozoraApp) -> Iterator[tuple[list[str], int]]:
    """Of widgets that draw themselves: their lines, and how many columns they have for them."""
    for page in app.screen.query("#data-page").results(Page):
        yield ["".join(text for text, _ in line) for line in page.lines], page.room[0]
    for widget in app.screen.query(CurveText):
        yield ["".join(text for text, _ in line) for line in widget._lines if widget.display], widget.size.width


def _is_fixed(widget: Widget) -> bool:
    """Whether what does not fit is never seen: nothing around it scrolls."""
    return not any(isinstance(each, Widget) and each.allow_vertical_scroll for each in widget.ancestors)


def _fits(text: Content, widget: Static) -> bool:
    width, height = widget.content_size
    lines = [line for each in text.split() for line in each.wrap(width)] if height > 1 else [text]
    return len(lines) <= height and all(cell_len(line.plain.rstrip()) <= width for line in lines)
