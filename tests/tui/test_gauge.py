import pytest
from textual.app import App
from textual.drivers.headless_driver import HeadlessDriver

from aozora_tui.widgets.gauge import GIB, PERCENT, WATT, Gauge, Readout, amount_text, bar


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


class OneWidget(App):
    def __init__(self, widget):
        super().__init__(driver_class=CountingDriver)
        self.widget = widget

    def compose(self):
        yield self.widget

    async def bytes_of(self, pilot, act):
        await pilot.pause()
        self._driver.sent = 0
        act()
        await pilot.pause()
        return self._driver.sent

    def first_row(self):
        return "".join(segment.text for segment in self.screen._compositor.render_strips()[0]).rstrip()


def test_bars_grow_by_eighths():
    assert ["".join(bar(eighth / 16, 2)) for eighth in (0, 1, 4, 8, 9, 16)] == ["░░", "▏░", "▌░", "█░", "█▏", "██"]


def test_a_bar_shows_that_something_is_there_and_never_overflows():
    assert bar(1e-9, 10) == ("▏", "░" * 9)
    assert bar(7.0, 3) == ("███", "") and bar(-1.0, 3) == ("", "░░░")
    assert "".join(bar(0.5, 6, ascii_only=True)) == "[##--]"


@pytest.mark.parametrize(
    ("used", "total", "unit", "text"),
    [
        (7.1 * 2**30, 12 * 2**30, GIB, " 7.1/12.0 GiB"),
        (11.9 * 2**30, 12 * 2**30, GIB, "11.9/12.0 GiB"),
        (7, 100, PERCENT, "  7 %"),
        (61.4, None, WATT, "61 W"),
        (None, 12 * 2**30, GIB, "n/a"),
    ],
)
def test_amounts_keep_their_width(used, total, unit, text):
    assert amount_text(used, total, unit) == text


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (40, "VRAM ████████████▋░░░░░░░░  7.2/12.0 GiB"),
        (24, "VRAM ███░░  7.2/12.0 GiB"),
        (19, "VRAM  7.2/12.0 GiB"),
        (14, " 7.2/12.0 GiB"),
        (10, "VRAM"),
    ],
)
async def test_the_number_outlives_the_bar_when_room_is_short(width, text):
    gauge = Gauge("VRAM")
    app = OneWidget(gauge)
    async with app.run_test(size=(width, 3)) as pilot:
        gauge.set_amount(7.2 * 2**30, 12 * 2**30)
        await pilot.pause()
        assert app.first_row() == gauge.text
        assert gauge.text == text


async def test_no_reading_is_written_not_drawn():
    gauge = Gauge("GPU", unit=PERCENT)
    app = OneWidget(gauge)
    async with app.run_test(size=(40, 3)) as pilot:
        gauge.set_amount(50, 100)
        gauge.set_amount(None, 100)
        await pilot.pause()
        assert app.first_row() == "GPU n/a"


async def test_a_high_reading_is_marked_without_colour():
    gauge = Gauge("VRAM", warn_at=0.9, ascii_only=True)
    app = OneWidget(gauge)
    async with app.run_test(size=(40, 3)) as pilot:
        gauge.set_amount(11 * 2**30, 12 * 2**30)
        await pilot.pause()
        assert app.first_row().endswith("11.0/12.0 GiB !") and app.first_row().isascii()
        gauge.set_amount(5 * 2**30, 12 * 2**30)
        await pilot.pause()
        assert not app.first_row().endswith("!")


async def test_an_equal_reading_costs_nothing_and_a_new_one_little():
    gauge = Gauge("VRAM")
    app = OneWidget(gauge)
    async with app.run_test(headless=False, size=(40, 3)) as pilot:
        assert await app.bytes_of(pilot, lambda: gauge.set_amount(7.0 * 2**30, 12 * 2**30)) > 0
        assert await app.bytes_of(pilot, lambda: gauge.set_amount(7.0 * 2**30 + 5, 12 * 2**30)) == 0
        assert 0 < await app.bytes_of(pilot, lambda: gauge.set_amount(7.1 * 2**30, 12 * 2**30)) < 300


async def test_a_readout_keeps_its_width_and_repaints_only_on_change():
    readout = Readout("step", value_width=12)
    app = OneWidget(readout)
    async with app.run_test(headless=False, size=(40, 3)) as pilot:
        await pilot.pause()
        assert app.first_row() == "step n/a" and readout.size.width == 17
        assert 0 < await app.bytes_of(pilot, lambda: readout.set_value("120/2,000")) < 150
        assert await app.bytes_of(pilot, lambda: readout.set_value("120/2,000")) == 0
        readout.set_value("x" * 30)
        await pilot.pause()
        assert app.first_row() == "step " + "x" * 12 and readout.size.width == 17
