"""What is sent, read by a terminal, is what was drawn; and no more of it than has changed."""

import random

import pyte
import pytest
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region, Size
from textual.strip import Strip

from aozora_tui.changed_cells import Shown

WIDTH, HEIGHT = 30, 6
STYLES = [None, *map(Style.parse, ("red", "bold red", "on blue", "#ff8700 on #121212", "underline", "reverse green"))]
TRUE = ColorSystem.TRUECOLOR


class Terminal:
    def __init__(self) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self._stream = pyte.Stream(self.screen)

    def feed(self, text: str) -> None:
        self._stream.feed(text)

    def cells(self) -> list[list[object]]:
        return [[self.screen.buffer[y][x] for x in range(WIDTH)] for y in range(HEIGHT)]


def line(text: str, style: Style | None = None) -> Strip:
    return Strip([Segment(text, style)])


def whole(*lines: Strip) -> LayoutUpdate:
    return LayoutUpdate([[each] for each in lines], Region(0, 0, WIDTH, len(lines)))


def drawn(lines: list[Strip], colours: ColorSystem) -> list[list[object]]:
    """What a terminal shows to which all of it is sent, by rich itself."""
    terminal = Terminal()
    for y, each in enumerate(lines):
        terminal.feed(f"\x1b[{y + 1};1H")
        for segment in each:
            terminal.feed(_anew(segment.style).render(segment.text, color_system=colours))
    return terminal.cells()


def _anew(style: Style | None) -> Style:
    """rich keeps the codes of the colours that a style was first rendered with."""
    if style is None:
        return Style()
    decoration = {"bold": style.bold, "underline": style.underline, "reverse": style.reverse}
    return Style(color=style.color, bgcolor=style.bgcolor, **decoration)


@pytest.mark.parametrize("colours", [ColorSystem.TRUECOLOR, ColorSystem.EIGHT_BIT, ColorSystem.STANDARD])
def test_any_sequence_of_updates_ends_in_what_was_drawn_last(colours: ColorSystem):
    chance = random.Random(3)
    shown, terminal = Shown(), Terminal()
    shown.resize(Size(WIDTH, HEIGHT))
    lines = [line(" " * WIDTH) for _ in range(HEIGHT)]
    for _ in range(60):
        y = chance.randrange(HEIGHT)
        pieces, left = [], WIDTH
        while left:
            size = min(left, chance.randint(1, 9))
            text = "".join(chance.choice("ab  ⣿é") for _ in range(size))
            if size > 2 and chance.random() < 0.4:
                text = "星" + text[2:]
            pieces.append(Segment(text, chance.choice(STYLES)))
            left -= size
        lines[y] = Strip(pieces)
        if chance.random() < 0.5:
            shown.take(whole(*lines))
        else:
            shown.take(ChopsUpdate([{0: each} for each in lines], [(y, 0, WIDTH)], [[WIDTH]] * HEIGHT))
        if chance.random() < 0.7:
            terminal.feed(shown.changes(colours))
    terminal.feed(shown.changes(colours))
    expected = drawn(lines, colours)
    for y, row in enumerate(terminal.cells()):
        for x, cell in enumerate(row):
            other = expected[y][x]
            same = cell == other or (cell.data == other.data == " " and cell._replace(fg=other.fg) == other)
            assert same, (x, y, cell, other)


def test_what_is_there_already_is_not_sent_again():
    shown = Shown()
    shown.take(whole(line("loss 0.1234", STYLES[1])))
    assert shown.changes(TRUE)
    shown.take(whole(line("loss 0.1234", STYLES[1])))
    assert shown.changes(TRUE) == ""
    shown.take(whole(line("loss 0.1239", STYLES[1])))
    assert shown.changes(TRUE) == "\x1b[1;11H\x1b[0;31m9\x1b[0m"


def test_in_another_size_or_after_somebody_else_wrote_there_all_of_it_is_sent():
    shown = Shown()
    shown.take(whole(line("abc")))
    shown.changes(TRUE)
    shown.forget()
    assert shown.changes(TRUE) == "\x1b[1;1Habc"
    shown.resize(Size(5, 5))
    shown.take(whole(line("abc")))
    assert shown.changes(TRUE) == "\x1b[1;1Habc"


def test_without_colours_none_are_sent():
    shown = Shown()
    shown.take(whole(line("abc", STYLES[4])))
    assert shown.changes(None) == "\x1b[1;1Habc"
