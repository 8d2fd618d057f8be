"""Every curve of a run with one cursor and one window."""

import time

import fake_run
import pytest
import seen
from forms import AppForAScreen
from textual.widgets import Static

from aozora_tui import metrics
from aozora_tui.app import AozoraApp
from aozora_tui.screens.charts import ChartsScreen
from aozora_tui.widgets.chart import Chart
from engine.contract import events


@pytest.fixture
def run(tmp_path):
    made = fake_run.make(tmp_path, "cat-20231114-221320")
    fake_run.trained(made, 400)
    return made


def looked(at, **said):
    usual = {"card": "GPU-1", "card_used": 11 << 30, "card_total": 12 << 30, "power": 180.0, "utilisation": 97}
    return events.Machine(time=at, **{"temperature": 64, **usual, **said})


def seen_series(screen, name):
    return screen._series(next(metric for metric in metrics.METRICS if metric.name == name))


async def opened(app, pilot, run):
    app.push_screen(ChartsScreen(run))
    for _ in range(5):
        await pilot.pause()
    app.finish_opening()
    return app.screen


async def pressed(pilot, *keys):
    await pilot.press(*keys)
    for _ in range(4):
        await pilot.pause()


@pytest.mark.parametrize(("size", "count"), [((80, 24), 2), ((120, 40), 4), ((60, 15), 2)])
async def test_as_many_charts_as_there_is_room_for_and_the_others_by_tab(run, size, count):
    app = AppForAScreen(ticking=False)
    async with app.run_test(size=size) as pilot:
        screen = await opened(app, pilot, run)
        assert len(screen.query(Chart)) == count
        seen_metrics = set()
        for _ in range(8):
            assert screen.chosen.title in seen.text(app)
            seen_metrics.add(screen.chosen.name)
            await pressed(pilot, "tab")
        assert len(seen_metrics) == 8


async def test_the_cursor_reads_what_was_measured_and_all_charts_share_it(run):
    app = AppForAScreen(ticking=False)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(app, pilot, run)
        await pressed(pilot, "right")
        assert screen.query_one("#readout", Static).content.plain.startswith("step 400  after 2:53:20")
        for _ in range(3):
            await pressed(pilot, "pageup")
        step = round(screen.cursor)
        line = screen.query_one("#readout", Static).content.plain
        told = fake_run.step(step, at=0.0)
        assert line.startswith(f"step {step}  ") and f"loss {told.loss:.4f}"[:9] in line
        charts = list(screen.query(Chart))
        assert {chart.cursor for chart in charts} == {screen.cursor}
        assert all("▲" in chart.text for chart in charts)
        await pressed(pilot, "escape")
        assert screen.cursor is None and not any("▲" in chart.text for chart in screen.query(Chart))


async def test_zooming_goes_about_the_cursor_and_following_stays_at_the_newest(run):
    app = AppForAScreen(ticking=False)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(app, pilot, run)
        await pressed(pilot, "right", "less_than_sign", "plus", "plus")
        assert all(chart.x_window == screen.window for chart in screen.query(Chart))
        start, stop = screen.window
        assert stop - start == pytest.approx(250) and start < screen.cursor < stop
        await pressed(pilot, "left_square_bracket")
        assert screen.window[0] < start
        await pressed(pilot, "f")
        assert screen.window[1] == 400
        fake_run.add(run, *(fake_run.step(n, at=fake_run.START + 40 + 26 * n) for n in range(401, 411)))
        screen.tick()
        assert screen.window[1] == 410
        await pressed(pilot, "0")
        assert screen.window is None and not screen.following


async def test_one_chart_alone_log_median_and_other_axes(run):
    app = AppForAScreen(ticking=False)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot, run)
        await pressed(pilot, "enter", "m", "y")
        (chart,) = screen.query(Chart)
        assert chart.median and chart.y_log and "median" in chart.text
        await pressed(pilot, "x")
        assert "by hours of training" in seen.text(app)
        await pressed(pilot, "right")
        assert screen.cursor == pytest.approx(400 * 26 / 3600)
        await pressed(pilot, "x", "right")
        assert screen.cursor == 400 * 64
        await pressed(pilot, "tab")
        (other,) = screen.query(Chart)
        assert not other.y_log and screen.chosen.name == "grad-norm"
        await pressed(pilot, "escape")
        assert len(screen.query(Chart)) == 2


async def test_what_the_card_did_has_charts_with_the_same_axes(run):
    for number in range(0, 400, 2):
        at = fake_run.START + 40 + 26 * number
        fake_run.add(run, looked(at, temperature=60 + number // 40))
    # In the order in which an engine would have told all of it.
    lines = sorted(run.events.read_bytes().splitlines(True), key=lambda line: events.decode(line).time)
    run.events.write_bytes(b"".join(lines))
    app = AozoraApp(ticking=False)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(app, pilot, run)
        await pressed(pilot, *["shift+tab"] * 4)
        assert [metric.name for metric in screen.seen] == ["vram", "gpu", "power", "heat"]
        vram, gpu, power, heat = (seen_series(screen, name) for name in ("vram", "gpu", "power", "heat"))
        assert set(vram.ys) == {11.0} and set(power.ys) == {180.0} and heat.ys[-1] == 69
        assert len(vram.xs) == len(gpu.xs) == 200 and vram.xs[-1] == 398
        await pressed(pilot, "right")
        assert "card's memory GiB 11.00" in screen.query_one("#readout", Static).content.plain
        await pressed(pilot, "x")
        assert seen_series(screen, "heat").xs[-1] == pytest.approx(398 * 26 / 3600)
        await pressed(pilot, "x")
        assert seen_series(screen, "heat").xs[-1] == 398 * 64


async def test_a_driver_that_tells_less_has_fewer_charts(run):
    fake_run.add(run, looked(fake_run.START + 12_000, utilisation=None, power=None, temperature=None))
    app = AozoraApp(ticking=False)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot, run)
        assert [metric.name for metric in metrics.shown(screen.state.history) if metric.of == "box"] == ["vram"]


def validated(number, loss):
    at = fake_run.START + 40 + 26 * number
    return events.Validated(time=at, step=number, loss=loss, pictures=16, samples=64, seconds=4)


async def test_the_loss_on_held_out_pictures_has_a_chart_with_the_same_axes(run):
    for number in range(0, 400, 50):
        fake_run.add(run, validated(number, 0.2 - number / 4000))
    lines = sorted(run.events.read_bytes().splitlines(True), key=lambda line: events.decode(line).time)
    run.events.write_bytes(b"".join(lines))
    app = AozoraApp(ticking=False)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(app, pilot, run)
        assert [metric.name for metric in screen.seen] == ["loss", "grad-norm", "validation", "lr"]
        drawn = seen_series(screen, "validation")
        assert list(drawn.xs) == [*range(0, 400, 50)] and drawn.ys[-1] == pytest.approx(0.2 - 350 / 4000)
        await pressed(pilot, "right")
        assert "validation loss 0.1125" in screen.query_one("#readout", Static).content.plain


@pytest.mark.parametrize(("clip", "drawn"), [(1.0, True), (0.0, False), (50.0, False)])
async def test_the_length_at_which_gradients_are_clipped_is_a_line_where_it_can_be_seen(run, clip, drawn):
    """The longest gradient there is 1.7."""
    text = f'model.base = "b"\ntrain.max_grad_norm = {clip}\n[[data.folders]]\npath = "p"\n'
    run.profile.write_text(text)
    app = AozoraApp(ticking=False)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(app, pilot, run)
        chart = next(chart for chart in screen.query(Chart) if chart.name == "grad-norm")
        assert ("clip 1" in chart.text) == drawn
        assert (len({row for row in chart.plotted_rows if any(style == "second" for _, style in row)}) > 1) == drawn
        if drawn:
            await pressed(pilot, "plus", "left_square_bracket")
            (line,) = screen._clip(metrics.METRICS[1])
            assert line.xs == (screen.window[0], min(screen.window[1], 400)) and "clip 1" in chart.text


async def test_a_run_that_has_not_begun_and_one_of_another_start(tmp_path):
    run = fake_run.make(tmp_path, "cat-20231114-221320")
    app = AppForAScreen(ticking=False)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot, run)
        assert "No step yet." in seen.text(app)
        await pressed(pilot, "right", "plus", "f", "tab", "enter", "enter")
        fake_run.trained(run, 20)
        screen.tick()
        screen.tick()
        fake_run.add(run, fake_run.started(run, step=5, at=fake_run.START + 5000))
        screen.tick()
        assert screen.state.history.steps.steps.tolist() == [1, 2, 3, 4, 5]


async def test_a_live_run_costs_little_and_an_idle_one_nothing(run):
    app = AppForAScreen(ticking=False, driver_class=seen.CountingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        screen = await opened(app, pilot, run)
        await pressed(pilot)
        app._driver.sent = 0
        for _ in range(5):
            screen.tick()
            await pilot.pause()
        assert app._driver.sent == 0
        for number in range(401, 431):
            fake_run.add(run, fake_run.step(number, at=fake_run.START + 40 + 26 * number))
            screen.tick()
            await pilot.pause()
        assert app._driver.sent / 30 < 1500


async def test_a_quarter_of_a_million_steps_are_seen_at_once(tmp_path):
    run = fake_run.make(tmp_path, "cat-20231114-221320")
    steps = 250_000
    line = events.encode(fake_run.step(1, at=1.0))
    with run.events.open("wb") as file:
        file.write(events.encode(fake_run.started(run, steps=steps)))
        for number in range(1, steps + 1):
            file.write(
                line.replace(b'"step":1,', b'"step":%d,' % number).replace(
                    b'"time":1.0', b'"time":%d.0' % (1_700_000_100 + number)
                )
            )
    app = AppForAScreen(ticking=False)
    async with app.run_test(size=(120, 40)) as pilot:
        began = time.process_time()
        screen = await opened(app, pilot, run)
        while screen._read():
            pass
        assert screen.state.step == steps
        assert time.process_time() - began < 4  # 1.3 s where nothing else runs
