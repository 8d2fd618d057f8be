import math
import random

import pytest
from textual.drivers.headless_driver import HeadlessDriver

from aozora_tui.drawing import DrawingApp
from aozora_tui.widgets.cells import text_of
from aozora_tui.widgets.chart import Chart
from aozora_tui.widgets.traces import Series


class CountingDriver(HeadlessDriver):
    """Takes what the compositor writes and counts its bytes."""

    is_headless = property(lambda self: False)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sent = 0

    def write(self, data):
        self.sent += len(data.encode())

    def flush(self):
        pass


class ChartApp(DrawingApp):
    CSS = "Chart { width: 60; height: 10; }"

    def __init__(self, chart):
        super().__init__(driver_class=CountingDriver)
        self.chart = chart

    def compose(self):
        yield self.chart

    async def bytes_of(self, pilot, act):
        await pilot.pause()
        self._driver.sent = 0
        act()
        await pilot.pause()
        return self._driver.sent

    def screen_rows(self):
        return ["".join(segment.text for segment in strip) for strip in self.screen._compositor.render_strips()]


def noisy_loss(count):
    rng = random.Random(5)
    return [0.1 + 0.1 * math.exp(-x / 200) + rng.gauss(0, 0.02) for x in range(count)]


def shown(app):
    """The chart's part of the screen, which must be what the chart says it drew."""
    return [row[:60] for row in app.screen_rows()[:10]]


async def test_a_new_point_costs_under_400_bytes_at_any_time_of_a_run():
    ys = noisy_loss(1000)
    chart = Chart("loss", smoothing=0.95)
    app = ChartApp(chart)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        app.console._color_system = 3  # truecolor, the most expensive
        costs = []
        for count in (300, 500, 700, 998):
            chart.set_data([Series("loss", range(1, count + 1), ys[:count])], 1000)
            longer = Series("loss", range(1, count + 2), ys[: count + 1])
            costs.append(await app.bytes_of(pilot, lambda longer=longer: chart.set_data([longer], 1000)))
        assert all(0 < cost < 400 for cost in costs), costs


async def test_the_same_data_costs_nothing():
    series = [Series("loss", range(100), noisy_loss(100))]
    chart = Chart("loss", smoothing=0.9)
    app = ChartApp(chart)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        assert await app.bytes_of(pilot, lambda: chart.set_data(series, 200)) > 0
        assert await app.bytes_of(pilot, lambda: chart.set_data(series, 200)) == 0
        same = [Series("loss", list(range(100)), noisy_loss(100))]
        assert await app.bytes_of(pilot, lambda: chart.set_data(same, 200)) == 0


async def test_what_reaches_the_screen_is_what_was_drawn():
    xs, ys = [], []
    chart = Chart("loss", smoothing=0.9)
    app = ChartApp(chart)
    async with app.run_test(headless=False, size=(60, 12)) as pilot:
        for x, y in enumerate(noisy_loss(120)):
            xs.append(x)
            ys.append(y)
            chart.set_data([Series("loss", xs, ys)], 120)
            if x % 10 == 0:
                await pilot.pause()
                assert shown(app) == [text_of(row) for row in chart.plotted_rows]


async def test_old_columns_stay_put_when_points_arrive():
    ys = noisy_loss(400)
    chart = Chart("loss")
    async with ChartApp(chart).run_test(size=(60, 12)):
        chart.set_data([Series("loss", range(400), ys)], 1000)
        before = [row[:25] for row in chart.plotted_rows[1:]]
        chart.set_data([Series("loss", range(401), [*ys, 0.1])], 1000)
        assert [row[:25] for row in chart.plotted_rows[1:]] == before


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
async def test_values_that_are_not_finite_are_said_and_not_drawn(bad):
    chart = Chart("loss", smoothing=0.5)
    async with ChartApp(chart).run_test(size=(60, 12)) as pilot:
        chart.set_data([Series("loss", range(6), [bad] * 6)], 10)
        await pilot.pause()
        assert "no data yet" in chart.text and "! 6 not finite" in chart.text
        chart.set_data([Series("loss", range(6), [1.0, bad, 2.0, bad, bad, 1.5])], 10)
        await pilot.pause()
        assert "! 3 not finite" in chart.text and "1.500" in chart.text


async def test_a_log_axis_leaves_out_zero_and_says_so():
    chart = Chart("lr", y_log=True)
    async with ChartApp(chart).run_test(size=(60, 12)):
        chart.set_data([Series("lr", range(4), [0.0, 1e-6, 1e-5, 1e-4])], 4)
        assert "! 1 not positive" in chart.text and "1e-5┤" in chart.text


async def test_tiny_sizes_and_back_show_the_same_chart():
    chart = Chart("loss", smoothing=0.9)
    app = ChartApp(chart)
    async with app.run_test(size=(60, 12)) as pilot:
        chart.styles.width = "100%"
        chart.styles.height = "100%"
        chart.set_data([Series("loss", range(100), noisy_loss(100))], 100)
        await pilot.pause()
        full = app.screen_rows()
        for size in ((20, 4), (7, 3), (3, 2), (1, 1), (130, 5), (60, 12)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert app.screen_rows() == [text_of(row) for row in chart.plotted_rows]
        assert app.screen_rows() == full


async def test_smoothing_shows_the_average_and_keeps_the_raw_dots():
    chart = Chart("loss")
    async with ChartApp(chart).run_test(size=(60, 12)):
        chart.set_data([Series("loss", range(200), noisy_loss(200))], 200)
        assert {style for row in chart.plotted_rows[1:7] for _, style in row} == {"", "axis", "smooth"}
        chart.smoothing = 0.9
        assert {style for row in chart.plotted_rows[1:7] for _, style in row} == {"", "axis", "raw", "smooth"}
        assert "avg" in text_of(chart.plotted_rows[0])


async def test_a_restarted_series_replaces_the_old_one():
    chart = Chart("loss")
    async with ChartApp(chart).run_test(size=(60, 12)):
        chart.set_data([Series("loss", range(50), [1.0] * 50)], 100)
        chart.set_data([Series("loss", range(20), [0.5] * 20)], 100)
        grown = chart.plotted_rows
    fresh = Chart("loss")
    async with ChartApp(fresh).run_test(size=(60, 12)):
        fresh.set_data([Series("loss", range(20), [0.5] * 20)], 100)
        strip_labels = [row[7:] for row in fresh.plotted_rows[1:7]]
        assert [any(char != " " for char, _ in row[30:]) for row in (r[7:] for r in grown[1:7])] == [False] * 6
        assert any(char != " " for row in strip_labels for char, _ in row)


async def test_lists_that_grow_in_place_are_seen():
    xs, ys = [0.0], [1.0]
    series = Series("loss", xs, ys)
    chart = Chart("loss")
    async with ChartApp(chart).run_test(size=(60, 12)):
        chart.set_data([series], 10)
        xs.append(9.0)
        ys.append(0.25)
        chart.set_data([series], 10)
        assert "0.2500" in text_of(chart.plotted_rows[0])


async def test_zoom_and_pan_stay_inside_the_run():
    chart = Chart("loss")
    async with ChartApp(chart).run_test(size=(60, 12)):
        chart.set_data([Series("loss", range(1000), noisy_loss(1000))], 1000)
        chart.zoom(0.5)
        assert chart.x_window == (250.0, 750.0)
        chart.pan(10)
        assert chart.x_window == (500.0, 1000.0) and "1,000" in text_of(chart.plotted_rows[-1])
        chart.pan(-0.5)
        assert chart.x_window == (250.0, 750.0)
        chart.zoom(4)
        assert chart.x_window is None


async def test_without_a_total_the_axis_ends_at_a_round_number():
    chart = Chart("loss")
    async with ChartApp(chart).run_test(size=(60, 12)):
        chart.set_data([Series("loss", range(151), noisy_loss(151))])
        assert text_of(chart.plotted_rows[-1]).split()[-1] == "200"


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-dark", "ansi-light"])
async def test_every_theme_tells_the_line_from_its_background(theme):
    chart = Chart("loss", smoothing=0.9)
    app = ChartApp(chart)
    async with app.run_test(size=(60, 12)) as pilot:
        chart.set_data([Series("loss", range(100), noisy_loss(100))], 100)
        app.theme = theme
        await pilot.pause()
        strips = app.screen._compositor.render_strips()
        styles = {s.style for row in strips[1:8] for s in row if any(0x2800 < ord(c) < 0x2900 for c in s.text)}
        assert len({style.color for style in styles}) >= 2
        assert not theme.startswith("ansi") or any(style.dim for style in styles)
        # The terminal's default colour is one thing as text and another as background.
        assert all(style.color != style.bgcolor or style.color.is_default for style in styles)


async def test_ascii_mode_draws_ascii_only():
    chart = Chart("loss", smoothing=0.9, ascii_only=True)
    async with ChartApp(chart).run_test(size=(60, 12)):
        chart.set_data([Series("loss", range(100), noisy_loss(100))], 100)
        assert chart.text.isascii() and "*" in chart.text and "." in chart.text


def test_data_may_come_before_the_chart_is_mounted():
    chart = Chart("loss")
    chart.set_data([Series("loss", [1], [2.0])], 10)
    assert chart.text == ""


async def test_another_theme_shows_at_once():
    chart = Chart("loss")
    chart.set_data([Series("loss", [1, 2, 3], [1.0, 2.0, 3.0])], 10)
    app = ChartApp(chart)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        before = {style: chart.style_of(style) for style in ("smooth", "title", "")}
        app.theme = "textual-light"
        await pilot.pause()
        assert all(chart.style_of(style) != known for style, known in before.items())
        colours = {segment.style.color for segment in chart.render_line(5) if segment.text.strip()}
        assert not colours & {style.color for style in before.values()}
