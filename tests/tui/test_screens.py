"""Every screen, letter for letter and look for look, at the smallest usual size and at a comfortable one.

`UPDATE_SNAPSHOTS=1` writes the files anew: look at the difference before it is kept. snapshot_text.py says how to read
them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import gallery
import pytest
import shots
import snapshot_text
from rich.color import ColorSystem
from rich.style import Style
from shots import Shot
from terminal_cells import Look, contrast, text_of
from textual.content import Content
from textual.widgets import Static

from aozora_tui.app import AozoraApp
from aozora_tui.screens.base import KIND_SIGNS, KIND_STYLES
from aozora_tui.screens.data_page import Page
from aozora_tui.screens.rows import Rows

SNAPSHOTS = Path(__file__).parent / "snapshots"
READABLE = 3.0  # of letters to what they stand on, the least that WCAG 2 has for parts of an interface
COLOURS = {*range(30, 50), *range(90, 108)} - {39, 49}  # codes; those two are the terminal's own
_taken: dict[str, dict[str, Shot]] = {}
_begun: set[str] = set()


@pytest.fixture
async def shot_of(own_place):
    """The shots of an area, taken once for all tests."""

    async def shots_of(area: str) -> dict[str, Shot]:
        if area not in _taken:
            assert area not in _begun, "there are no shots of this area: the first test that asked for them says why"
            _begun.add(area)
            _taken[area] = await shots.shots_of(area, own_place / area)
        return _taken[area]

    return shots_of


areas = pytest.mark.parametrize("area", gallery.AREAS)


@pytest.mark.parametrize(
    ("area", "title"),
    [
        pytest.param(view.area, title, id=title)
        for view in gallery.VIEWS
        for title in (f"{view.name}-{columns}x{rows}" for columns, rows in gallery.SIZES)
        if view.name not in shots.OF_THE_MACHINE
    ],
)
async def test_screens_look_as_they_did(area, title, shot_of):
    shot, path = (await shot_of(area))[title], SNAPSHOTS / f"{title}.txt"
    before = path.read_text() if path.exists() else ""
    found = snapshot_text.written(shot, before)
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        path.write_text(found)
    assert found == path.read_text()


def test_no_snapshot_is_left_of_a_screen_that_is_gone():
    titles = {f"{name}-{columns}x{rows}" for name in gallery.NAMES for columns, rows in gallery.SIZES}
    assert {path.stem for path in SNAPSHOTS.iterdir()} <= titles


@areas
async def test_fewer_colours_are_no_other_letters(area, shot_of):
    for shot in (await shot_of(area)).values():
        assert text_of(shot.depths["256"]) == text_of(shot.depths["24 bit"]), shot.title
        used = {colour for look in _looks(shot, "256") for colour in (look.colour, look.background) if colour}
        assert all(colour.isdecimal() and 16 <= int(colour) < 256 for colour in used), "0-15 are the terminal's own"


@areas
async def test_letters_can_be_read(area, shot_of):
    wrong = {
        f"{shot.title}, {depth}: {contrast(look):.1f} for {look} at {text!r}"
        for shot in (await shot_of(area)).values()
        for depth in ("24 bit", "256")
        for look, text in _words(shot, depth)
        if contrast(look) < READABLE
    }
    assert not wrong, "\n".join(sorted(wrong))


@areas
async def test_a_bare_terminal_is_sent_no_colour_and_nothing_but_ascii(area, shot_of):
    for shot in (await shot_of(area)).values():
        if "bare" in shot.depths:
            assert not [code for code in shot.codes if code in COLOURS], shot.title
            assert all(line.isascii() for line in text_of(shot.depths["bare"])), shot.title


@areas
async def test_what_has_the_focus_can_be_seen_without_colours(area, shot_of):
    assert not {shot.title: shot.unmarked for shot in (await shot_of(area)).values() if shot.unmarked}


@areas
async def test_nothing_is_cut_without_a_sign_for_it(area, shot_of):
    assert not {shot.title: shot.cut for shot in (await shot_of(area)).values() if shot.cut}
    for shot in (await shot_of(area)).values():
        touching = [line for line in text_of(shot.depths["24 bit"]) if len(line) == shot.size[0] and line[-1].isalnum()]
        assert not touching, f"{shot.title}: letters up to the last column"


async def test_states_are_told_apart_in_256_colours_and_by_signs_without():
    app = AozoraApp(ticking=False, read_gpu=lambda _pid: ())
    async with app.run_test(size=(80, 24)) as pilot:
        await app.screen.mount(Page(str, id="page"), Static(id="said"))
        await pilot.pause()
        rows, page, said = app.screen.query(Rows).first(), app.screen.query_one(Page), app.screen.query_one("#said")
        states = ("plain", "dim", "live", "good", "attention", "bad", "cursor")
        _told_apart({state: rows._style(*(("", state) if state == "cursor" else (state,))) for state in states})
        _told_apart({state: page._style(state) for state in ("", "dim", "head", "good", "attention", "bad", "cursor")})
        _told_apart({kind: _style_of(said, style) for kind, style in KIND_STYLES.items()})
    assert KIND_SIGNS["plain"] == "" and len({KIND_SIGNS[kind] for kind in ("plain", "warning", "error")}) == 3


def _told_apart(styles: dict[str, Style]) -> None:
    """In 256 colours."""

    def seen(style: Style) -> tuple[object, ...]:
        pair = (colour.downgrade(ColorSystem.EIGHT_BIT) if colour else None for colour in (style.color, style.bgcolor))
        return *pair, style.bold, style.dim, style.reverse, style.underline

    alike = [(one, other) for one, other in combinations(styles, 2) if seen(styles[one]) == seen(styles[other])]
    assert not alike


def _style_of(widget: Static, style: str) -> Style:
    widget.update(Content.styled("x", style))
    return next(segment.style for segment in widget.render_line(0) if segment.text.strip())


def _looks(shot: Shot, depth: shots.Depth) -> set[Look]:
    return {cell.look for row in shot.depths[depth] for cell in row}


def _words(shot: Shot, depth: shots.Depth) -> Iterator[tuple[Look, str]]:
    """Looks of letters and digits with the line that they are in: what is none of these is decoration."""
    for y, row in enumerate(shot.depths[depth]):
        line = "".join(cell.text for cell in row).strip()
        for look in {cell.look for x, cell in enumerate(row) if cell.text.isalnum() and (x, y) not in shot.picture}:
            yield look, line
