"""What the screen of curves shows, made of the sketch: the plot, the lines of numbers, the guide to its keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import zip_longest

from aozora_tui.keys.key import Key
from aozora_tui.screens.curve_sketch import Sketch
from aozora_tui.screens.curve_words import DENSITY
from aozora_tui.screens.words import cut, plain
from aozora_tui.widgets.braille import Axes
from aozora_tui.widgets.cells import Cell
from aozora_tui.widgets.curve_picture import Picture

# Where there is room the keys stand under the plot: they never change, and a lower plot costs fewer bytes.
GUIDE_ROWS = 9
GUIDE_KEYS, GUIDE_WORDS = 14, 25  # columns
DRAWN_TITLE = "samples by timestep, only proportions count"
TITLES = ("learning rate over steps", "samples by timestep, 999 is noise", "weight by timestep, 999 is noise")


def picture(sketch: Sketch) -> Picture:
    """The curve of the tab, with its points or the place that is read; or why there is none."""
    kind, profile, title = sketch.kind, sketch.profile, TITLES[sketch.tab]
    title = DRAWN_TITLE if sketch.tab == DENSITY and sketch.is_drawn else title
    try:
        lines = kind.lines(profile)
    except ValueError as error:
        return Picture(title, Axes((0.0, kind.end(profile)), (0.0, 1.0)), notice=f"{error}")
    across, upward = kind.across(profile), kind.upward(profile)
    axes = Axes((0.0, kind.end(profile)), sketch.range(lines), y_log=sketch.log)
    points = [(point.at * across, point.value * upward) for point in sketch.points]
    if points:
        return Picture(title, axes, lines, points, points[sketch.cursor])
    x = sketch.at * across
    nearest = min(range(len(lines[0].xs)), key=lambda index: abs(lines[0].xs[index] - x))
    return Picture(title, axes, lines, cursor=(x, lines[0].ys[nearest]))


def fitted(words: Callable[[Sketch], list[str]], sketch: Sketch, width: int) -> str:
    """As many of the words as fit; nothing of a curve that means nothing, of which the message line speaks."""
    try:
        said = [plain(part) for part in words(sketch)]
    except ValueError:
        return ""
    while len(said) > 1 and len("   ".join(said)) > width:
        said = said[:-1]
    return cut("   ".join(said), width)


def guide(keys: Iterable[Key]) -> list[list[Cell]]:
    """All keys in columns, as parts of lines."""
    entries = [(" ".join(key.names), key.label) for key in keys]
    columns = [entries[start : start + GUIDE_ROWS] for start in range(0, len(entries), GUIDE_ROWS)]
    rows: list[list[Cell]] = []
    for entries_of_row in zip_longest(*columns, fillvalue=("", "")):
        rows.append([])
        for names, label in entries_of_row:
            rows[-1] += [(f"{names:<{GUIDE_KEYS}}", ""), (f"{label:<{GUIDE_WORDS}}", "faint")]
    return rows
