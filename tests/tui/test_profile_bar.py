"""The forecast as a bar: to scale, every part to be told from the others without colour."""

import re
from dataclasses import replace

import pytest

from aozora_tui.screens.forecast_bar import PARTS, Card, cells, forecast_bar
from engine.contract.budget import Forecast

GIB = 1 << 30
COST = Forecast(
    trained=1,
    total=2,
    weights=5 * GIB,
    gradients=3 * GIB,
    optimizer=GIB // 10,
    activations=2 * GIB,
    overhead=GIB,
    host=0,
    checkpoint=0,
    export=0,
    disk=0,
)


def bar_of(text):
    return re.match(r"\[(.*?)\]", text)[1]


@pytest.mark.parametrize("ascii_mode", ["0", "1"])
@pytest.mark.parametrize("width", [58, 78, 118])
def test_parts_are_to_scale_and_told_apart_by_their_glyphs(width, ascii_mode, monkeypatch):
    monkeypatch.setenv("AOZORA_ASCII", ascii_mode)
    line = forecast_bar(COST, Card(24 * GIB, 20 * GIB), width).plain
    bar = bar_of(line)
    assert len(line) <= width and len(bar) >= 12
    glyphs = [part.letter if ascii_mode == "1" else part.glyph for part in PARTS]
    assert len(set(glyphs)) == len(glyphs)
    for glyph, size in zip(glyphs, (5, 3, 0.1, 2, 1), strict=True):
        assert abs(bar.count(glyph) - max(size * len(bar) / 24, 1)) <= 1, glyph
    taken = "x" if ascii_mode == "1" else "\u2573"
    assert abs(bar.count(taken) - 4 * len(bar) / 24) <= 1
    assert ascii_mode == "0" or line.isascii()


def test_every_part_is_named_with_its_size_where_there_is_room():
    line = forecast_bar(COST, Card(24 * GIB, 20 * GIB), 118).plain
    for part, size in zip(PARTS, ("5.0", "3.0", "0.1", "2.0", "1.0"), strict=True):
        assert f"{part.glyph} {part.word} {size}" in line or f"{part.glyph} {part.short} {size}" in line
    assert "20.0 GiB free now" in line
    narrow = forecast_bar(COST, Card(24 * GIB, 20 * GIB), 78).plain
    assert all(f"{part.glyph} {part.short}" in narrow for part in PARTS)


def test_what_is_beyond_the_cards_end_is_drawn_as_too_much():
    bar = bar_of(forecast_bar(COST, Card(8 * GIB, 8 * GIB), 118).plain)
    assert bar.endswith("!") and abs(bar.count("!") / len(bar) - 3.1 / 11.1) < 0.1
    assert "!" not in bar_of(forecast_bar(COST, Card(12 * GIB, 12 * GIB), 118).plain)


def test_without_a_card_the_bar_is_what_is_needed():
    line = forecast_bar(replace(COST, gradients=0), None, 118).plain
    assert "·" not in bar_of(line) and "▓" not in line and "grad" not in line


@pytest.mark.parametrize("width", [1, 5, 12, 60])
def test_a_small_part_has_a_cell_and_the_sum_is_never_more_than_the_bar(width):
    found = cells((1, 10**9, 1, 0, 10**12), 10**12 + 10**9 + 2, width)
    assert sum(found) <= max(width, 4) and found[3] == 0
    assert all(count >= 1 for index, count in enumerate(found) if index != 3)
