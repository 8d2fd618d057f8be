"""A curve of some rows, and a card's memory in one."""

import re

import pytest
from test_gauge import OneWidget

from aozora_tui.widgets.memory_bar import MemoryBar
from aozora_tui.widgets.trail import Trail, window

GIB = 1 << 30


async def test_the_newest_is_at_the_right_and_the_scale_at_the_left():
    app = OneWidget(Trail("GPU %"))
    async with app.run_test(size=(27, 4)) as pilot:
        await pilot.pause()
        trail = app.widget
        assert trail.dots == 40
        trail.show([0.0, 39.0], [0.0, 100.0], x_range=(0.0, 39.0), y_range=(0.0, 100.0), note="0 to 100")
        title, top, _, bottom = trail.text.splitlines()
        assert title == "GPU %  0 to 100"
        assert top.startswith("   100┤") and top.endswith("⠉") and bottom.startswith("     0┤⣀")
        assert all(ord(char) < 0x2900 for char in top)


async def test_what_is_no_number_breaks_it_and_nothing_at_all_says_so():
    app = OneWidget(Trail("power W", ascii_only=True))
    async with app.run_test(size=(23, 3)) as pilot:
        await pilot.pause()
        xs = [float(x) for x in range(10)]
        ys = [1.0, 1.0, 1.0, float("nan"), float("nan"), float("nan"), 1.0, 1.0, 1.0, 1.0]
        app.widget.show(xs, ys, x_range=(0.0, 9.0), y_range=(0.0, 1.0), note="1")
        assert re.fullmatch(r" +1\.0\+\*+ {3,}\*+", app.widget.text.splitlines()[1]) and app.widget.text.isascii()
        app.widget.show(xs, [float("nan")] * 10, x_range=(0.0, 9.0), y_range=(0.0, 1.0))
        assert app.widget.text.splitlines()[0] == "power W  n/a" and "*" not in app.widget.text


async def test_a_point_more_costs_a_few_bytes_and_none_costs_nothing():
    app = OneWidget(Trail("heat C"))
    async with app.run_test(headless=False, size=(80, 6)) as pilot:
        xs, ys = [float(x) for x in range(60)], [60.0] * 60

        def show():
            app.widget.show(xs, ys, x_range=(0.0, 120.0), y_range=(20.0, 100.0), note="60")

        await app.bytes_of(pilot, show)
        assert await app.bytes_of(pilot, show) == 0
        xs.append(60.0)
        ys.append(61.0)
        assert 0 < await app.bytes_of(pilot, show) < 400  # Textual sends what is left of it too; the app does not


@pytest.mark.parametrize("now", [0.0, 7.0, 14.99, 15.0, 1e6 + 3])
def test_the_window_has_now_in_its_last_quarter_and_stays_for_a_while(now):
    start, stop = window(now, 60.0)
    assert stop - start == 60.0 and stop - 15.0 <= now < stop
    assert window(stop - 0.01, 60.0) == (start, stop)
    later = window(now, 60.0, shift=0.5)
    assert later[1] - 15.0 <= now < later[1] and abs(later[1] - stop) == 7.5


@pytest.mark.parametrize(
    ("shares", "ascii_only", "width", "text"),
    [
        ((6, 3, 3, 12), False, 75, "memory ██████████▒▒▒▒▒░░░░░  this run 6.0, others 3.0, free 3.0 of 12.0 GiB"),
        ((6, 3, 3, 12), True, 75, "memory ##########=====-----  this run 6.0, others 3.0, free 3.0 of 12.0 GiB"),
        ((None, 9, 3, 12), False, 59, "memory ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒░░░░░  used 9.0, free 3.0 of 12.0 GiB"),
        ((6, 3, 3, 12), False, 30, "memory 9.0/12.0 GiB"),
        ((0, 0, 12, 12), False, 65, "memory ░░░░░░░░░  this run 0.0, others 0.0, free 12.0 of 12.0 GiB"),
        (None, False, 30, "memory n/a"),
    ],
)
async def test_memory_is_ours_others_and_free(shares, ascii_only, width, text):
    app = OneWidget(MemoryBar("memory", ascii_only=ascii_only))
    async with app.run_test(size=(width, 1)) as pilot:
        if shares is not None:
            ours, others, free, total = (None if share is None else share * GIB for share in shares)
            app.widget.set_shares(ours, others, free, total, name="this run")
        await pilot.pause()
        assert app.first_row() == text


async def test_the_least_that_somebody_holds_shows():
    app = OneWidget(MemoryBar("memory"))
    async with app.run_test(size=(80, 1)) as pilot:
        app.widget.set_shares(1, 1, 80 * GIB - 2, 80 * GIB)
        await pilot.pause()
        assert "█▒░" in app.first_row()
