"""What watching costs a line, tick by tick, at 120x40 in as many colours as there are."""

import fake_run
import msgspec
import pytest
import seen

from aozora_tui.app import AozoraApp
from engine.contract import events

LIVE, LOG, TICKS = 1500, 6000, 12
NAME = "cat-20231114-221320"


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("STY", raising=False)


def step(number):
    """With samples, so that their strip is one of the charts."""
    timesteps = tuple(number * 37 * (part + 1) % 1000 for part in range(16))
    made = fake_run.step(number, at=fake_run.START + 40 + 26 * number)
    return msgspec.structs.replace(made, timesteps=timesteps, losses=tuple((t % 97) / 400 for t in timesteps))


def tell(run, number):
    """What a second brings at most: a step, its sign of life, the box; and it says so in the log."""
    box = events.Machine(
        time=fake_run.START + 40 + 26 * number,
        card="GPU-1",
        card_used=(10 << 30) + number * 12345678,
        card_total=12 << 30,
        power=180.0 + number % 7,
        utilisation=90 + number % 9,
        temperature=70 + number % 3,
        disk_free=(100 << 30) - number * 10**8,
    )
    fake_run.add(run, step(number), box)


@pytest.fixture
def run(own_place):
    made = fake_run.make(own_place / "runs", NAME)
    fake_run.add(made, fake_run.started(made), events.Phase(time=fake_run.START + 40, name="train", step=0))
    fake_run.add(made, *(step(number) for number in range(1, 401)))
    made.log.write_text("".join(f"line {number} of the log\n" for number in range(100)))
    with fake_run.engine_alive(made):
        yield made


class Watched:
    """The app on a run, and what ticks and keys cost it."""

    def __init__(self, pilot, run):
        self.pilot, self.app, self.run = pilot, pilot.app, run

    async def press(self, *keys):
        await self.pilot.press(*keys)
        for _ in range(3):
            await self.pilot.pause()

    async def cost(self, ticks, each=lambda number: None):
        """Bytes a tick; `each` is called before every one, with the number of the coming step."""
        self.app._driver.sent = 0
        for number in range(401, 401 + ticks):
            each(number)
            self.app.tick()
            await self.pilot.pause()
        return self.app._driver.sent / ticks


@pytest.fixture
async def watched(run):
    now = [fake_run.START + 40 + 26 * 400]
    app = AozoraApp(run, ticking=False, clock=lambda: now[0], driver_class=seen.CountingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        await pilot.pause()
        yield Watched(pilot, run)


OPENED = {"overview": (), "charts": ("c",), "charts after those": ("c", *["tab"] * 4), "one": ("c", "enter")}


@pytest.mark.parametrize("keys", OPENED.values(), ids=OPENED)
async def test_curves_of_a_live_run_cost_little_and_of_an_idle_one_nothing(keys, watched, run):
    await watched.press(*keys)
    assert await watched.cost(4) == 0
    assert 0 < await watched.cost(TICKS, lambda number: tell(run, number)) <= LIVE


async def test_numbers_of_a_live_run_cost_little(watched, run):
    await watched.press("n")
    assert await watched.cost(4) == 0
    assert 0 < await watched.cost(TICKS, lambda number: tell(run, number)) <= LIVE


@pytest.mark.parametrize("keys", [("l",), ()], ids=["log", "overview"])
async def test_a_log_of_ten_lines_a_second_costs_what_it_may(keys, watched, run):
    await watched.press(*keys)

    def write(number):
        with run.log.open("a") as file:
            file.writelines(
                f"{number}.{line}: the loader says {number * 31 + line * 7:x} again\n" for line in range(10)
            )

    assert 0 < await watched.cost(TICKS, write) <= LOG


@pytest.mark.parametrize("keys", [("question_mark",), ("s",), ("f",), ("colon",)], ids=["help", "stop", "rate", "all"])
async def test_behind_a_panel_nothing_is_sent(keys, watched, run):
    await watched.press(*keys)
    assert await watched.cost(TICKS, lambda number: tell(run, number)) == 0


async def test_behind_another_screen_nothing_of_the_run_is_sent(watched, run):
    await watched.press("9")
    assert await watched.cost(TICKS, lambda number: tell(run, number)) == 0
    await watched.press("escape")
    watched.app.tick()
    await watched.pilot.pause()
    assert f"step {400 + TICKS}/1,000" in seen.text(watched.app)


async def test_a_finished_run_sends_nothing(watched, run):
    tell(run, 401)
    fake_run.add(run, events.Finished(time=fake_run.START + 40 + 26 * 402, step=401, reason="stopped", seconds=9))
    await watched.cost(2)
    for keys in ((), ("c",), ("escape", "n"), ("escape", "l")):
        await watched.press(*keys)
        assert await watched.cost(4) == 0
