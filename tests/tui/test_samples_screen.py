"""The previews of a run, many and one by one."""

from contextlib import asynccontextmanager

import fake_run
import pytest
import sample_runs
import seen
from rich.color import ColorSystem

from aozora_tui.app import AozoraApp
from aozora_tui.run_state import RunState
from aozora_tui.screens.run import RunScreen
from aozora_tui.screens.samples import SamplesScreen
from aozora_tui.screens.samples_page import grid_of
from engine.contract.events import Tail

WIDE, SMALL = (120, 40), (80, 24)
CURSOR = "\u203a"


@pytest.fixture
def run(tmp_path):
    return sample_runs.drawn(tmp_path)


@asynccontextmanager
async def opened(run, size=WIDE, *, driver=None, colours=ColorSystem.TRUECOLOR):
    app = AozoraApp(ticking=False, driver_class=driver)
    async with app.run_test(headless=driver is None, size=size) as pilot:
        app.console._color_system = colours
        tail, state = Tail(run.events), RunState(watch=None)
        app.push_screen(SamplesScreen(run, state, lambda: state.apply(tail.read())))
        await settle(pilot)
        yield pilot


async def settle(pilot):
    for _ in range(3):
        await pilot.pause()
        await seen.work_done(pilot.app)
    await pilot.pause()


async def pressed(pilot, *keys):
    for key in keys:
        await pilot.press(key)
        await settle(pilot)


async def sent(pilot, act):
    pilot.app._driver.sent = 0
    await act()
    await settle(pilot)
    return pilot.app._driver.sent


def title(pilot):
    return seen.text(pilot.app).splitlines()[0]


def cells(pilot):
    """Row and column of the cells that hold a part of a picture."""
    rows = pilot.app.screen.wall.rows
    return {(y, x) for y, row in enumerate(rows) for x, (_, style) in enumerate(row) if " on " in style}


async def test_the_grid_has_every_prompt_and_step_and_the_cursor_is_on_the_newest(run):
    async with opened(run) as pilot:
        text = seen.text(pilot.app)
        assert all(prompt in text for prompt in sample_runs.PROMPTS)
        assert [text.count(f" {step}") for step in ("base", "100", "200")] == [2, 2, 2] and text.count(
            f"{CURSOR}300"
        ) == 1
        assert "seed 7  DDIM 28 sampler steps  guidance 4.5  512x512" in text and "negative: blurry" in text
        assert "prompt 1 of 2  step 300, 4 of 4" in title(pilot)
        drawn = cells(pilot)
        grid = grid_of(pilot.app.screen.wall.room, (512, 512), 2, slow=False)
        assert len(drawn) == 8 * grid.size[0] * grid.size[1]
        await pressed(pilot, "left", "down", "down")
        assert "prompt 2 of 2  step 200, 3 of 4" in title(pilot) and f"{CURSOR}200" in seen.text(pilot.app)
        assert cells(pilot) == drawn


async def test_more_steps_than_fit_are_gone_through(tmp_path):
    run = sample_runs.drawn(tmp_path, steps=tuple(range(0, 2000, 100)))
    async with opened(run, SMALL) as pilot:
        assert f"{CURSOR}1,900" in seen.text(pilot.app) and "base" not in seen.text(pilot.app)
        visited = set()
        for _ in range(20):
            visited |= {word for word in seen.words(pilot.app).split() if word.startswith(CURSOR)}
            await pressed(pilot, "left")
        assert len(visited) == 20 and f"{CURSOR}base" in visited
        await pressed(pilot, "end")
        assert f"{CURSOR}1,900" in seen.text(pilot.app)
        await pressed(pilot, "home")
        assert f"{CURSOR}base" in seen.text(pilot.app)


async def test_one_picture_large_goes_through_steps_and_prompts(run):
    async with opened(run, SMALL) as pilot:
        await pressed(pilot, "enter")
        before = [row[:40] for row in pilot.app.screen.wall.rows]
        assert "step 300" in seen.text(pilot.app).splitlines()[1] and len(cells(pilot)) == 40 * 20
        assert "a lighthouse at dawn" in seen.text(pilot.app) and "samples/step-000300-1.png" in seen.text(pilot.app)
        await pressed(pilot, "left")
        assert "step 200" in seen.text(pilot.app).splitlines()[1]
        assert [row[:40] for row in pilot.app.screen.wall.rows] != before
        await pressed(pilot, "down")
        assert "a red bus" in seen.text(pilot.app) and "step 200" in title(pilot)
        await pressed(pilot, "right", "up", "right")
        assert [row[:40] for row in pilot.app.screen.wall.rows] == before
        await pressed(pilot, "escape")
        assert f"{CURSOR}300" in seen.text(pilot.app)
        await pressed(pilot, "escape")
        assert not isinstance(pilot.app.screen, SamplesScreen)


async def test_beside_the_base_and_the_other_weights(tmp_path):
    run = sample_runs.drawn(tmp_path, steps=(0,))
    for weights in ("average", "latest"):
        sample_runs.draw(run, 100, 1, weights=weights)
    async with opened(run) as pilot:
        assert "average weights" in seen.text(pilot.app)
        await pressed(pilot, "e")
        assert "latest weights" in seen.text(pilot.app)
        await pressed(pilot, "b")
        line = seen.text(pilot.app).splitlines()[1].split()
        assert line == ["base", "model", "latest,", "step", "100", "average,", "step", "100"]
        columns = sorted({x for _, x in cells(pilot)})
        assert len(columns) == 3 * 38 and columns[0] == 0  # three pictures
        assert "512x512\n" in seen.text(pilot.app)  # which weights, the labels say
        await pressed(pilot, "e")
        assert "All weights that drew it are shown" in seen.text(pilot.app)
        await pressed(pilot, "b")
        assert "base model" not in seen.text(pilot.app) and "step 100" in title(pilot)


async def test_without_a_base_picture_that_is_said(tmp_path):
    async with opened(sample_runs.drawn(tmp_path, steps=(100,)), SMALL) as pilot:
        await pressed(pilot, "b")
        assert "the base was not drawn (preview.at_start)" in seen.text(pilot.app)
        await pressed(pilot, "e")
        assert "There are no previews of other weights" in seen.text(pilot.app)


async def test_zoom_and_pan_hold_for_every_step(run):
    async with opened(run, SMALL) as pilot:
        await pressed(pilot, "enter")
        whole = [row[:40] for row in pilot.app.screen.wall.rows[1:]]
        await pressed(pilot, "plus", "plus", "plus")
        assert "step 300  x8" in seen.text(pilot.app)
        await pressed(pilot, *["J"] * 16)
        floor = {style for row in pilot.app.screen.wall.rows[1:21] for _, style in row[:40]}
        assert floor == {"#0f1e3c on #0f1e3c"}  # the lowest eighth is of one colour
        await pressed(pilot, "left")
        assert "step 200  x8" in seen.text(pilot.app)
        await pressed(pilot, "right", "escape")
        assert [row[:40] for row in pilot.app.screen.wall.rows[1:]] == whole


async def test_what_cannot_be_shown_is_said_and_comes_when_it_is_there(run):
    (run.samples / "step-000300-1.png").unlink()
    (run.samples / "step-000200-2.png").write_bytes(b"not yet")
    sample_runs.tell(run, 300, "../../elsewhere.png", prompt="\x1b[31mred 猫")
    async with opened(run) as pilot:
        await pressed(pilot, "down")
        assert "step-000300-1.png is missing." in seen.words(pilot.app)
        assert "is not a picture" in seen.words(pilot.app) and "outside the run's folder" in seen.words(pilot.app)
        assert "\x1b" not in seen.text(pilot.app) and "[31mred 猫" in seen.text(pilot.app)
        (run.samples / "step-000300-1.png").write_bytes(sample_runs.picture(300, 1))
        await pressed(pilot, "enter")
        assert "is missing" not in seen.text(pilot.app) and len(cells(pilot)) > 1000


async def test_new_pictures_take_their_own_place_only_and_idle_costs_nothing(run):
    async with opened(run, driver=seen.CountingDriver) as pilot:
        screen = pilot.app.screen
        await pressed(pilot, "left")
        before = screen.wall.rows

        async def ticks():
            for _ in range(3):
                screen.tick()
                await pilot.pause()

        assert await sent(pilot, ticks) == 0

        async def arrive():
            sample_runs.draw(run, 300, 1, at=fake_run.START + 9_000)
            (run.samples / "step-000300-1.png").write_bytes(sample_runs.picture(600, 1))
            screen.tick()

        cost = await sent(pilot, arrive)
        grid = grid_of(screen.wall.room, (512, 512), 2, slow=False)
        left = 3 * (grid.size[0] + 2)
        changed = {
            (y, x) for y, row in enumerate(screen.wall.rows) for x, cell in enumerate(row) if cell != before[y][x]
        }
        assert changed and all(left <= x < left + grid.size[0] and 1 <= y <= grid.size[1] for y, x in changed)
        assert 100 < cost < 4096


@pytest.mark.parametrize("size", [WIDE, SMALL])
async def test_moving_the_cursor_costs_little_and_the_grid_some_kilobytes(tmp_path, size):
    run = sample_runs.drawn(tmp_path)
    async with opened(run, size, driver=seen.CountingDriver) as pilot:
        costs = {key: await sent(pilot, lambda key=key: pilot.press(key)) for key in ("left", "down", "left", "up")}
        assert all(0 < cost <= 1024 for cost in costs.values()), costs
        pilot.app._shown.forget()
        cost = await sent(pilot, lambda: pilot.app.run_action("redraw"))
        assert 1000 < cost <= 20_000


async def test_a_slow_link_gets_fewer_and_smaller_pictures(tmp_path, monkeypatch):
    run = sample_runs.drawn(tmp_path)
    found = {}
    for slow in ("0", "1"):
        monkeypatch.setenv("AOZORA_SLOW_LINK", slow)
        async with opened(run) as pilot:
            few = len(cells(pilot))
            await pressed(pilot, "enter")
            found[slow] = (few, len(cells(pilot)), pilot.app.screen.paint)
    assert found["1"][0] < found["0"][0] / 2 and found["1"][1] <= 40 * 20 < found["0"][1]
    assert (found["0"][2], found["1"][2]) == ("full", "numbered")


async def test_without_colours_or_blocks_it_is_ascii(run, monkeypatch):
    monkeypatch.setenv("AOZORA_ASCII", "1")
    async with opened(run) as pilot:
        assert seen.text(pilot.app).isascii() and ">300" in seen.text(pilot.app) and "=" in seen.text(pilot.app)


async def test_few_colours_are_the_numbered_ones(run):
    for system, paint in ((ColorSystem.EIGHT_BIT, "dithered"), (ColorSystem.STANDARD, "signs")):
        async with opened(run, SMALL, colours=system) as pilot:
            assert pilot.app.screen.paint == paint


@pytest.mark.parametrize("size", [(40, 10), (60, 15), (140, 45)])
async def test_every_size_shows_something_and_breaks_nothing(run, size):
    async with opened(run, size) as pilot:
        await pressed(pilot, "down", "enter", "b", "plus", "L", "escape", "escape")
        await pilot.resize_terminal(*SMALL)
        await settle(pilot)
        assert f"{CURSOR}300" in seen.text(pilot.app) and cells(pilot)


async def test_a_run_without_previews_says_so_and_every_key_is_harmless(tmp_path):
    run = sample_runs.drawn(tmp_path, steps=())
    async with opened(run, SMALL) as pilot:
        assert "No preview has been drawn." in seen.text(pilot.app)
        await pressed(pilot, "enter", "b", "e", "left", "down", "plus", "H", "end", "home", "m", "0")
        assert "No preview has been drawn." in seen.text(pilot.app)
        sample_runs.draw(run, 100, 1)
        pilot.app.screen.tick()
        await settle(pilot)
        assert f"{CURSOR}100" in seen.text(pilot.app) and cells(pilot)


async def test_the_run_screen_opens_it_and_pictures_are_painted_once(run):
    app = AozoraApp(ticking=False)
    async with app.run_test(size=SMALL) as pilot:
        app.console._color_system = ColorSystem.TRUECOLOR
        app.push_screen(RunScreen(run))
        await settle(pilot)
        await pressed(pilot, "v")
        assert isinstance(app.screen, SamplesScreen) and cells(pilot)
        app.screen.want(app.screen._page.jobs)
        assert not list(app.workers) or all(worker.is_finished for worker in app.workers)
        await pressed(pilot, "v")
        assert isinstance(app.screen, RunScreen)
