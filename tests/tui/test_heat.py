"""The loss by timestep as a strip of shades."""

import re

import fake_run
import msgspec
import pytest
import seen

from aozora_tui.app import AozoraApp
from aozora_tui.screens.charts import ChartsScreen
from aozora_tui.widgets.heat import COLOURS, SHADES, HeatStrip

STEPS = 1000


def told(number):
    """Noisy timesteps have the lower loss, and only they fall."""
    timesteps = tuple((number * 37 + 125 * part) % 1000 for part in range(8))
    losses = tuple(0.1 + 0.3 * (timestep < 500) + 0.1 * (timestep >= 500) * (number < 200) for timestep in timesteps)
    made = fake_run.step(number, at=fake_run.START + 40 + 26 * number, steps=STEPS)
    return msgspec.structs.replace(made, timesteps=timesteps, losses=losses)


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    """Of 256 colours, whoever runs the tests in whatever."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("COLORTERM", raising=False)


@pytest.fixture
def run(tmp_path):
    made = fake_run.make(tmp_path, "cat-20231114-221320")
    fake_run.add(made, fake_run.started(made, steps=STEPS), *(told(number) for number in range(1, 401)))
    return made


async def strip_of(app, pilot, run):
    app.push_screen(ChartsScreen(run))
    for _ in range(4):
        await pilot.pause()
    app.finish_opening()
    while app.screen.chosen.name != "timesteps":
        await pilot.press("tab")
    for _ in range(4):
        await pilot.pause()
    (strip,) = app.screen.query(HeatStrip)
    return strip


def plot_of(strip):
    """The shades of each row, the noisiest timesteps first, without labels and means."""
    lines = [line for line in strip.text.splitlines()[1:] if "│" in line or "|" in line]
    return [re.split(r"[│|]", line)[1] for line in lines]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 15)])
async def test_noise_levels_are_told_apart_and_what_was_not_trained_is_empty(run, size, monkeypatch):
    monkeypatch.setenv("AOZORA_ASCII", "1")
    app = AozoraApp(ticking=False)
    async with app.run_test(size=size) as pilot:
        strip = await strip_of(app, pilot, run)
        rows = plot_of(strip)
        columns = strip.dots()
        shades = [row[:columns].rstrip() for row in rows]
        assert all(abs(len(row) - 0.4 * columns) <= 1 for row in shades)
        top, bottom = shades[0], shades[-1]
        assert set(bottom) == {SHADES[-1]} and top[0] != top[-1] == SHADES[0]
        assert re.search(r"0\.100 .*0\.400", strip.text.splitlines()[0])
        assert rows[0].split()[-1] == "0.100" and rows[-1].split()[-1] == "0.400"
        assert strip.text.isascii()


async def test_each_range_by_its_own_scale_the_cursor_and_the_window(run):
    app = AozoraApp(ticking=False)
    async with app.run_test(size=(120, 40)) as pilot:
        strip = await strip_of(app, pilot, run)
        assert "█" in strip.text and "right: mean now" in strip.text
        levels = {style for row in strip.plotted_rows[1:] for _, style in row if style.startswith("level")}
        assert {"level0", f"level{len(COLOURS) - 1}"} <= levels
        await pilot.press("y")
        assert "each range" in strip.text
        columns = {row[strip._area.gutter][1] for row in strip.plotted_rows[1:-4]}
        assert columns == {f"level{len(COLOURS) - 1}", "level0"}, "what fell began high; what is constant is low"
        await pilot.press("y", "right", *["pageup"] * 3)
        assert "right: at cursor" in strip.text and "▲" in strip.text
        assert strip.text.splitlines()[1].split()[-1] == "0.200"
        await pilot.press("escape", "f")
        assert strip.x_window == app.screen.window != (0, STEPS)
        await pilot.press("0", "x")
        assert "hours" in seen.text(app)
        full = [row.rstrip().rpartition("█")[0] for row in plot_of(strip)]
        assert all(full)


async def test_a_new_step_costs_a_column_and_a_resume_takes_back(run):
    app = AozoraApp(ticking=False, driver_class=seen.CountingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        strip = await strip_of(app, pilot, run)
        app._driver.sent = 0
        for number in range(401, 421):
            fake_run.add(run, told(number))
            app.screen.tick()
            await pilot.pause()
        assert 0 < app._driver.sent / 20 < 1500
        fake_run.add(run, fake_run.started(run, step=100, steps=STEPS, at=fake_run.START + 50_000))
        app.screen.tick()
        await pilot.pause()
        width = max(row[: strip.dots()].rstrip().count("█") for row in plot_of(strip))
        assert width == pytest.approx(0.1 * strip.dots(), abs=1)


async def test_a_run_that_tells_no_samples_has_no_strip(tmp_path):
    run = fake_run.make(tmp_path, "cat-20231114-221320")
    fake_run.trained(run, 30)
    app = AozoraApp(ticking=False)
    async with app.run_test(size=(120, 40)) as pilot:
        app.push_screen(ChartsScreen(run))
        await pilot.pause()
        assert not app.screen.query(HeatStrip)
        fake_run.add(run, told(31))
        app.screen.tick()
        for _ in range(3):
            await pilot.pause()
        assert app.screen.query(HeatStrip)
