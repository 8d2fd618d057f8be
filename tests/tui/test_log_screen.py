"""The log on the screen: follows, stops following, finds, and shows only what is loud."""

import fake_run
import pytest
import seen
from forms import AppForAScreen

from aozora_tui.log_times import LogTimes
from aozora_tui.screens.log import LogScreen


@pytest.fixture
def run(tmp_path):
    made = fake_run.make(tmp_path, "cat-20231114-221320")
    fake_run.trained(made, 3)
    lines = [f"line {index}" for index in range(300)]
    lines[100], lines[200], lines[250] = "UserWarning: old file", "ValueError: no such thing", "the needle lies here"
    made.log.write_text("\n".join(lines) + "\n")
    return made


def shown(app):
    return seen.text(app)


async def opened(app, pilot, run, times=None):
    app.push_screen(LogScreen(run, times))
    await pilot.pause()
    await pilot.pause()
    return app.screen


async def test_it_follows_until_scrolled_up_and_then_stands_still(run):
    app = AppForAScreen(ticking=False)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot, run)
        assert "line 299" in shown(app) and "following" in shown(app)
        with run.log.open("a") as file:
            file.write("fresh\n")
        screen.tick()
        await pilot.pause()
        assert "fresh" in shown(app)
        await pilot.press("up")
        before = shown(app)
        with run.log.open("a") as file:
            file.write("later\n")
        screen.tick()
        await pilot.pause()
        assert shown(app).splitlines()[1:] == before.splitlines()[1:]
        await pilot.press("G")
        assert "later" in shown(app) and "following" in shown(app)
        await pilot.press("g")
        assert "line 0\n" in shown(app)


async def test_a_search_goes_back_from_the_end_and_on_with_n(run):
    app = AppForAScreen(ticking=False)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, run)
        await pilot.press("slash", *"needle|line 1.0$", "enter")
        await seen.work_done(app)
        await pilot.pause()
        assert "the needle lies here" in shown(app) and "10 of 10 lines" in shown(app)
        await pilot.press("n")
        await seen.work_done(app)
        await pilot.pause()
        assert "line 100" not in shown(app) and "1 of 10 lines" in shown(app)  # line 100 is the warning; round the end
        await pilot.press("N")
        await seen.work_done(app)
        await pilot.pause()
        assert "10 of 10 lines" in shown(app)
        await pilot.press("escape")
        assert "lines" not in shown(app).splitlines()[0]
        await pilot.press("slash", *"nowhere", "enter")
        await seen.work_done(app)
        await pilot.pause()
        assert "not found" in shown(app)


async def test_only_what_is_loud(run):
    app = AppForAScreen(ticking=False)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot, run)
        await pilot.press("v")
        assert "UserWarning: old file" in shown(app) and "ValueError: no such thing" in shown(app)
        assert "line 299" not in shown(app)
        await pilot.press("v")
        assert "UserWarning" not in shown(app) and "ValueError: no such thing" in shown(app)
        with run.log.open("a") as file:
            file.write("quiet\nOSError: loud\n")
        screen.tick()
        await pilot.pause()
        assert "OSError: loud" in shown(app) and "quiet" not in shown(app)
        await pilot.press("v")
        assert "quiet" in shown(app)


async def test_times_are_known_as_far_as_the_run_told_its_logs_length(run, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    times = LogTimes()
    times.add(100, 1_700_000_000.0)
    app = AppForAScreen(ticking=False, clock=lambda: 1_700_000_060.0)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot, run, times)
        await pilot.press("t", "g")
        assert "22:13:20  line 0\n" in shown(app) and "\n           line 20\n" in shown(app)
        with run.log.open("a") as file:
            file.write("fresh\n")
        screen.tick()
        await pilot.press("G")
        assert "22:14:20  fresh\n" in shown(app)


async def test_long_lines_are_seen_by_going_right_and_a_log_that_vanishes_is_empty(run):
    run.log.write_text("x" * 100 + "END\n")
    app = AppForAScreen(ticking=False)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot, run)
        assert "END" not in shown(app)
        await pilot.press("right", "right")
        assert "END" in shown(app)
        run.log.unlink()
        screen.tick()
        await pilot.pause()
        assert "The log is empty" in shown(app)


async def test_a_quiet_log_sends_nothing_and_a_line_little(run):
    app = AppForAScreen(ticking=False, driver_class=seen.CountingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        screen = await opened(app, pilot, run)
        app.finish_opening()
        await pilot.pause()
        app._driver.sent = 0
        screen.tick()
        await pilot.pause()
        assert app._driver.sent == 0
        for index in range(10):
            with run.log.open("a") as file:
                file.writelines(f"INFO {index}-{line}: a line of a library, as they are\n" for line in range(10))
            screen.tick()
            await pilot.pause()
        assert app._driver.sent < 6 * 1024 * 10
