import subprocess
import sys

import pytest

from aozora_tui.widgets.braille import Area, Axes, Layer, draw, notice, plot_rows
from aozora_tui.widgets.cells import cells, changed, fitting, text_of
from aozora_tui.widgets.columns import Columns


def columns_of(xs, ys, area, stop):
    columns = Columns(0, stop, area.dots[0])
    columns.extend(xs, ys)
    return columns.by_dot


def plot(ys, area, *, style="smooth", scatter=False, y_range=(0.0, 1.0)):
    layer = Layer(columns_of(range(len(ys)), ys, area, max(len(ys) - 1, 1)), style, scatter)
    return [text_of(row) for row in plot_rows([layer], Axes((0, len(ys)), y_range), area)]


def test_a_ramp_goes_from_the_lowest_dot_to_the_highest():
    area = Area(4, 3)  # a title row and 2 rows of plot: 8 by 8 dots
    assert plot([0.0, 1.0], area) == ["  ⡠⠊", "⡠⠊  "]


def test_every_dot_of_a_cell_has_its_bit():
    area = Area(2, 2)
    assert plot([0.0, 1 / 3, 2 / 3, 1.0], area, scatter=True) == ["⡠⠊"]
    assert plot([1.0, 2 / 3, 1 / 3, 0.0], area, scatter=True) == ["⠑⢄"]


def test_a_column_of_many_points_shows_its_lowest_and_highest():
    area = Area(1, 2)
    layer = Layer(columns_of([0, 0, 0, 1], [0.4, 0.0, 1.0, 0.4], area, 1), "smooth")
    dots = Layer(layer.columns, "raw", scatter=True)
    axes = Axes((0, 1), (0.0, 1.0))
    assert text_of(plot_rows([layer], axes, area)[0]) == "⡧"  # 0.4 goes to the third dot of four
    assert text_of(plot_rows([dots], axes, area)[0]) == "⡡"


def test_a_gap_is_not_bridged():
    area = Area(4, 2)
    whole, broken = [1.0] * 8, [1.0, 1.0, 1.0, float("nan"), float("nan"), 1.0, 1.0, 1.0]
    assert plot(whole, area) == ["⠉⠉⠉⠉"]
    assert plot(broken, area) == ["⠉⠁⠈⠉"]


def test_sparse_points_are_connected():
    area = Area(10, 2)
    assert plot([0.0, 0.0, 0.0], area) == ["⣀" * 10]


def test_a_line_covers_scattered_dots_and_shares_cells_with_lines():
    area = Area(2, 2)
    high = columns_of(range(4), [1.0] * 4, area, 3)
    low = columns_of(range(4), [0.0] * 4, area, 3)
    axes = Axes((0, 3), (0.0, 1.0))
    assert plot_rows([Layer(high, "raw", True), Layer(low, "smooth")], axes, area) == [(("⣀", "smooth"),) * 2]
    assert plot_rows([Layer(high, "second"), Layer(low, "smooth")], axes, area)[0][0] == ("⣉", "smooth")


def test_lines_differ_without_colour():
    area = Area(12, 2)
    drawn = [plot([0.5] * 24, area, style=style)[0] for style in ("smooth", "second", "third", "fourth")]
    assert len(set(drawn)) == 4
    ascii_area = Area(12, 2, ascii_only=True)
    assert {plot([0.5] * 24, ascii_area, style=s)[0] for s in ("smooth", "second", "third", "fourth")} == {
        "*" * 12,
        "+" * 12,
        "o" * 12,
        "x" * 12,
    }


def test_the_whole_chart_as_text():
    area = Area(30, 10)
    layer = Layer(columns_of([0, 50, 100], [0.0, 1.0, 0.0], area, 100), "smooth")
    rows = draw([layer], Axes((0, 100), (0.0, 1.0)), area, title=[("loss 1.000", "title")])
    assert [text_of(row).rstrip() for row in rows] == [
        "loss 1.000",
        "   1.0┤          ⡠⠊⢢",
        "      │        ⢀⠔⠁  ⠑⢄",
        "      │       ⡔⠁      ⠣⡀",
        "   0.5┤     ⡠⠊         ⠈⢆",
        "      │   ⢀⠜             ⠑⡄",
        "      │ ⢀⠔⠁               ⠈⠢⡀",
        "     0┤⡠⠊                   ⠘⢄",
        "      └┴─────────────────────┴",
        "       0                   100",
    ]


@pytest.mark.parametrize("width", range(0, 32))
@pytest.mark.parametrize("ascii_only", [False, True])
def test_rows_fill_every_size_exactly(width, ascii_only):
    for height in range(0, 12):
        area = Area(width, height, ascii_only)
        layer = Layer(columns_of(range(9), [float(y) for y in range(9)], area, 8) if area.dots[0] else {}, "smooth")
        axes = Axes((0, 8), (0.0, 8.0))
        for rows in (draw([layer], axes, area, title=[("t", "")]), notice("no data yet", area)):
            assert [len(row) for row in rows] == [width] * height
            assert all(len(char) == 1 for row in rows for char, _ in row)
            assert not ascii_only or all(text_of(row).isascii() for row in rows)


def test_x_labels_name_both_ends_and_never_touch():
    for total in (7, 100, 1234, 99_999, 1_234_567):
        rows = draw([], Axes((0, total), (0.0, 1.0)), Area(60, 10))
        labels = text_of(rows[-1])
        assert labels.split()[0] == "0" and labels.endswith(labels.split()[-1])
        marks = sum(glyph == "┴" for glyph in text_of(rows[-2]))
        assert marks == len(labels.split()) >= 2


def test_a_log_axis_spaces_decades_evenly():
    rows = draw([], Axes((0, 10), (1e-6, 1e-3), y_log=True), Area(30, 17))
    labelled = {text_of(row)[:6].strip(): y for y, row in enumerate(rows) if "┤" in text_of(row)}
    gaps = [labelled["1e-6"] - labelled["1e-5"], labelled["1e-5"] - labelled["1e-4"]]
    assert set(labelled) == {"1e-6", "1e-5", "1e-4", "0.001"} and abs(gaps[0] - gaps[1]) <= 1


def test_only_the_span_that_differs_is_reported():
    old = cells([("abcdef", "")], 6)
    assert changed(old, old) is None
    assert changed(old, cells([("abXdYf", "")], 6)) == (2, 5)
    assert changed(old, cells([("abc", ""), ("d", "new"), ("ef", "")], 6)) == (3, 4)
    assert changed(old, cells([("abc", "")], 3)) == (0, 3)


def test_a_number_is_never_cut_in_half():
    groups = [[("loss", "title")], [("a", ""), (" 1.234k", "")], [("b", ""), (" 2", "")]]
    shown = {width: "".join(text for text, _ in fitting(groups, width)) for width in (19, 18, 13, 8, 7)}
    assert shown == {19: "loss  a 1.234k  b 2", 18: "loss  a 1.234k  +1", 13: "loss  +2", 8: "loss  +2", 7: ""}


def test_the_drawing_core_loads_no_textual():
    code = "import sys, aozora_tui.widgets.braille as b; b.draw([], b.Axes((0, 1), (0, 1)), b.Area(30, 10));"
    code += "sys.exit(any(m.split('.')[0] in ('textual', 'rich', 'numpy', 'torch') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
