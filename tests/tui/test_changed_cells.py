"""What is sent, read by a terminal, is what was drawn; and no more of it than has changed."""

import random
import re
from collections.abc import Callable

import pyte
import pytest
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region, Size
from textual.strip import Strip

from aozora_tui.changed_cells import Shown, erases_in_colour

WIDTH, HEIGHT = 40, 14
STYLES = [
    None,
    *map(
        Style.parse,
        (
            *("red", "bold red", "on blue", "#ff8700 on #121212", "underline", "reverse green", "bold", "italic red"),
            *(
                "strike",
                "bold dim red",
                "bold italic on blue",
                "#848484 on #121212",
                "#848484",
                "bold underline #d0d0d0 on #005f87",
            ),
        ),
    ),
]
TRUE = ColorSystem.TRUECOLOR
DEPTHS = [ColorSystem.TRUECOLOR, ColorSystem.EIGHT_BIT, ColorSystem.STANDARD]


class _Plain(pyte.Screen):
    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        self._plainly(super().erase_in_line, how, private)

    def erase_characters(self, count: int | None = None) -> None:
        self._plainly(super().erase_characters, count)

    def _plainly(self, erase: Callable[..., None], *arguments: object) -> None:
        kept, self.cursor.attrs = self.cursor.attrs, self.default_char
        erase(*arguments)
        self.cursor.attrs = kept


class Terminal:
    """`erases`: in the colour it draws with; else, as some do, in that of an empty screen."""

    def __init__(self, *, erases: bool = True) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT) if erases else _Plain(WIDTH, HEIGHT)
        self._stream = pyte.Stream(self.screen)

    def feed(self, text: str) -> None:
        self._stream.feed(text)

    def seen(self) -> list[list[object]]:
        """What the eye sees: of a blank without a line through it that is its background."""
        return [[_seen(self.screen.buffer[y][x]) for x in range(WIDTH)] for y in range(HEIGHT)]


def _seen(cell: object) -> object:
    empty = cell.data == " " and not (cell.underscore or cell.strikethrough or cell.reverse)
    return (" ", cell.bg) if empty else cell


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
    return terminal.seen()


def _anew(style: Style | None) -> Style:
    """rich keeps the codes of the colours that a style was first rendered with."""
    if style is None:
        return Style()
    names = ("bold", "italic", "underline", "reverse", "strike")
    return Style(color=style.color, bgcolor=style.bgcolor, **{name: getattr(style, name) for name in names})


def any_line(chance: random.Random) -> Strip:
    pieces, left = [], WIDTH
    while left:
        size = min(left, chance.randint(1, 9))
        text = "".join(chance.choice("ab  ⣿é·") for _ in range(size))
        if chance.random() < 0.15:
            size = min(left, 16)
            text = " " * size
        elif size > 2 and chance.random() < 0.4:
            text = "星" + text[2:]
        pieces.append(Segment(text, chance.choice(STYLES)))
        left -= size
    return Strip(pieces)


def take(shown: Shown, lines: list[Strip], *, rows: list[int]) -> None:
    """As a whole, or those rows alone."""
    if len(rows) == len(lines):
        shown.take(whole(*lines))
    else:
        shown.take(ChopsUpdate([{0: each} for each in lines], [(y, 0, WIDTH) for y in rows], [[WIDTH]] * HEIGHT))


@pytest.mark.parametrize("erases", [True, False])
@pytest.mark.parametrize("colours", DEPTHS)
def test_any_sequence_of_updates_ends_in_what_was_drawn_last(colours: ColorSystem, erases: bool):
    chance = random.Random(3)
    shown, terminal = Shown(erases=erases), Terminal(erases=erases)
    shown.resize(Size(WIDTH, HEIGHT))
    lines = [line(" " * WIDTH) for _ in range(HEIGHT)]
    for _ in range(80):
        y = chance.randrange(HEIGHT)
        lines[y] = any_line(chance)
        if chance.random() < 0.3:
            lines[y] = Strip.join([lines[y].crop(0, 12), any_line(chance).crop(12, WIDTH)]).adjust_cell_length(WIDTH)
        take(shown, lines, rows=[y] if chance.random() < 0.5 else list(range(HEIGHT)))
        if chance.random() < 0.7:
            terminal.feed(shown.changes(colours))
    terminal.feed(shown.changes(colours))
    assert terminal.seen() == drawn(lines, colours)


@pytest.mark.parametrize("erases", [True, False])
@pytest.mark.parametrize("colours", DEPTHS)
def test_lines_that_go_up_or_down_are_moved_by_the_terminal(colours: ColorSystem, erases: bool):
    """Parts of the screen scroll by any number of lines, in any rows, while cells in them and around them change."""
    chance = random.Random(4)
    shown, terminal, moved = Shown(erases=erases), Terminal(erases=erases), 0
    shown.resize(Size(WIDTH, HEIGHT))
    lines = [any_line(chance) for _ in range(HEIGHT)]
    shown.take(whole(*lines))
    terminal.feed(shown.changes(colours))
    for _ in range(120):
        top = chance.randrange(HEIGHT - 3)
        end = chance.randint(top + 3, HEIGHT)
        by = chance.choice((-3, -2, -1, 1, 2, 3))
        part = lines[top:end]
        new = [any_line(chance) for _ in range(min(abs(by), len(part)))]
        lines[top:end] = [*part[by:], *new][: len(part)] if by > 0 else [*new, *part][: len(part)]
        other = chance.randrange(HEIGHT)
        if chance.random() < 0.5:
            lines[other] = any_line(chance)
        take(shown, lines, rows=sorted({*range(top, end), other}) if chance.random() < 0.5 else list(range(HEIGHT)))
        if chance.random() < 0.1:
            terminal.screen.reset()
            shown.forget()
        sent = shown.changes(colours)
        moved += bool(re.search("\x1b\\[\\d+[LM]", sent))
        terminal.feed(sent)
        assert terminal.screen.margins is None
        if chance.random() < 0.2:
            assert terminal.seen() == drawn(lines, colours)
    assert moved > 40


def test_what_is_there_already_is_not_sent_again():
    shown = Shown()
    shown.take(whole(line("loss 0.1234", STYLES[1])))
    assert shown.changes(TRUE)
    shown.take(whole(line("loss 0.1234", STYLES[1])))
    assert shown.changes(TRUE) == ""
    shown.take(whole(line("loss 0.1239", STYLES[1])))
    assert shown.changes(TRUE) == "\x1b[1;11H\x1b[31m9\x1b[m"


def test_what_looks_the_same_is_not_sent_again():
    shown = Shown()
    shown.take(whole(line("a b", STYLES[1])))
    shown.changes(TRUE)
    clickable = Style.from_meta({"at": 1})
    shown.take(whole(Strip([Segment("a", STYLES[1] + clickable), Segment(" ", STYLES[2]), Segment("b", STYLES[1])])))
    assert shown.changes(TRUE) == ""


def test_the_shortest_way_to_the_next_change_is_taken():
    shown = Shown()
    shown.resize(Size(WIDTH, HEIGHT))

    def sent(*texts: str) -> str:
        shown.take(whole(*(line(f"{text:<{WIDTH}}") for text in texts)))
        return shown.changes(TRUE)

    sent("aaaaaaaaaaaaaaaaaaaa", "")
    assert sent("xaxaaaaaaaaaaaaaaaax", "") == "\x1b[1Hxax\x1b[20Gx"
    assert sent("yaxaaaaaaaaaaaaaaaax", "z") == "\x1b[1Hy\r\nz"
    # Some terminals are on the next line after the last column, some are not.
    assert sent("yaxaaaaaaaaaaaaaaaax" + "b" * 20, "a") == f"\x1b[1;21H{'b' * 20}\x1b[2Ha"
    assert sent("yaxaaaaaaaaaaaaaaaax", "z").endswith("\r\nz")
    # How wide a dot is differs between terminals: what follows does not depend on it.
    assert sent("·axaaaaaaaaaaaaaaaay", "z") == "\x1b[1H·\x1b[20Gy"


@pytest.mark.parametrize(("erases", "expected"), [(True, "\x1b[1Ha\x1b[K\x1b[m"), (False, f"\x1b[1Ha{' ' * 39}\x1b[m")])
def test_many_blanks_are_erased_where_that_gives_them_their_colour(erases: bool, expected: str):
    shown, terminal = Shown(erases=erases), Terminal(erases=erases)
    shown.resize(Size(WIDTH, HEIGHT))
    for text in (f"b{'c' * 39}", f"a{' ' * 39}"):
        shown.take(whole(line(text, STYLES[3])))
        sent = shown.changes(TRUE)
        terminal.feed(sent)
    assert sent.replace("\x1b[44m", "") == expected
    assert terminal.seen()[0] == drawn([line(text, STYLES[3])], TRUE)[0]


@pytest.mark.parametrize(
    ("name", "inside_screen", "erases"),
    [("xterm-256color", "", True), ("xterm", "1.tty", False), ("screen-256color", "", False), ("vt100", "", False)],
)
def test_erasing_is_left_to_terminals_that_colour_what_they_erase(name, inside_screen, erases, monkeypatch):
    monkeypatch.setenv("TERM", name)
    monkeypatch.setenv("STY", inside_screen)
    assert erases_in_colour() == erases


def test_colours_with_a_number_are_sent_by_it_and_only_what_changes_of_a_look_is_said():
    shown = Shown()
    shown.take(whole(Strip([Segment("a", Style.parse("bold #ff8700 on #121212")), Segment("b", STYLES[4])])))
    assert shown.changes(TRUE) == "\x1b[1H\x1b[1;38;5;208;48;5;233ma\x1b[22mb\x1b[m"


def test_in_another_size_or_after_somebody_else_wrote_there_all_of_it_is_sent():
    shown = Shown()
    shown.take(whole(line("abc")))
    shown.changes(TRUE)
    shown.forget()
    assert shown.changes(TRUE) == "\x1b[1Habc"
    shown.resize(Size(5, 5))
    shown.take(whole(line("abc")))
    assert shown.changes(TRUE) == "\x1b[1Habc"


def test_without_colours_none_are_sent():
    shown = Shown()
    shown.take(whole(line("abc", STYLES[4])))
    assert shown.changes(None) == "\x1b[1Habc"
