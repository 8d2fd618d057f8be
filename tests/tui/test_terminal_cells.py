"""The reader that the snapshots rest on: what was sent, as a terminal shows it."""

import pytest
from terminal_cells import Cell, Look, Terminal, contrast, rgb, runs, text_of


def read(sent, size=(12, 2)):
    terminal = Terminal(size)
    terminal.feed(sent)
    return terminal


@pytest.mark.parametrize(
    ("codes", "look"),
    [
        ("", Look()),
        ("1", Look(marks=("bold",))),
        ("7;1;2", Look(marks=("bold", "dim", "reverse"))),
        ("38;5;75;48;5;233", Look("75", "233")),
        ("48;2;18;18;18;38;2;95;175;255", Look("#5fafff", "#121212")),
        ("31;104", Look("1", "12")),
        ("1;4;31;22;39", Look(marks=("underline",))),
        ("31;0;2", Look(marks=("dim",))),
    ],
)
def test_looks_are_what_was_sent(codes, look):
    terminal = read(f"\x1b[{codes}mx\x1b[my")
    assert terminal.rows()[0][:2] == [Cell("x", look), Cell("y", Look())]
    assert terminal.codes >= {0}


def test_a_code_that_is_no_look_is_an_error():
    with pytest.raises(AssertionError):
        read("\x1b[58;5;3mx")


def test_letters_stand_where_they_were_put_and_wide_ones_take_two_cells():
    rows = read("\x1b[2;3H星a\x1b[1;1Hb").rows()
    assert text_of(rows) == ["b", "  星a"] and rows[1][3].text == ""


def test_runs_leave_out_what_no_eye_can_see():
    row = read("\x1b[31m \x1b[32ma b\x1b[33m \x1b[44m \x1b[35;49m ").rows()[0]
    assert [(at, text.rstrip(), str(look)) for at, text, look in runs(row)] == [
        (0, " a b", "2/-"),
        (5, "", "-/4"),
        (6, "", "plain"),
    ]
    row = read("\x1b[31ma\x1b[4m b").rows()[0]
    assert [text for _, text, _ in runs(row)][:2] == ["a", " b"], "a line under a blank is seen"


def test_the_palette_is_xterms():
    assert [rgb(each) for each in ("16", "75", "231", "232", "255", "#010203", "9")] == [
        *((0, 0, 0), (95, 175, 255), (255, 255, 255), (8, 8, 8), (238, 238, 238), (1, 2, 3), (255, 0, 0)),
    ]


def test_contrast_is_that_of_wcag():
    assert contrast(Look("#ffffff", "#000000")) == pytest.approx(21)
    assert contrast(Look("#777777", "#ffffff")) == pytest.approx(4.478, abs=0.001)
    assert contrast(Look("#777777", "#ffffff", ("reverse",))) == pytest.approx(4.478, abs=0.001)
