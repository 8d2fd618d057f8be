"""The card screen over a simulated libnvidia-ml: several cards, none, a lost one, a divided one, a hanging driver."""

import math
import threading
from dataclasses import replace
from types import SimpleNamespace

import fake_run
import pytest
import seen

from aozora_tui.app import AozoraApp
from aozora_tui.card_history import MOST, CardHistory
from aozora_tui.card_watch import CardWatch, Seen
from aozora_tui.screens.card import CardScreen
from aozora_tui.screens.home import HomeScreen
from aozora_tui.screens.run import RunScreen
from aozora_tui.widgets.trail import Trail
from engine.contract import events, places
from engine.contract.nvml_reading import Reading
from tests.engine.fake_nvml import GIB, FakeClock, FakeNvml, connect, nvml_error


class Simulated:
    """A watch over the simulated library which has its answer at the next look, and a second has passed."""

    def __init__(self, nvml=None):
        self.nvml, self.clock = nvml or FakeNvml(), FakeClock()
        self.watch = CardWatch(connect(self.nvml, self.clock), clock=self.clock)
        self.watch.look()
        assert self.watch.wait(60)

    def look(self):
        self.clock.now += 1.0
        self.watch.look()
        assert self.watch.wait(60)
        return self.watch.look()


@pytest.fixture
def run():
    return fake_run.make(places.runs_folder(), "eel-20231113-101010")


def told(at, **said):
    usual = {"card": "GPU-0", "card_used": 11 * GIB, "card_total": 12 * GIB, "power": 180.0, "utilisation": 97}
    return events.Machine(time=at, **{"temperature": 64, "power_limit": 200.0, **usual, **said})


def app_of(**options):
    clock = options.pop("clock", lambda: fake_run.START + 11_000)
    return AozoraApp(options.pop("run", None), ticking=False, clock=clock, **options)


async def opened(app, pilot, watch, *arguments):
    app.push_screen(CardScreen(*arguments, watch=watch))
    for _ in range(3):
        await pilot.pause()
    app.finish_opening()
    await ticked(app, pilot)
    return app.screen


async def ticked(app, pilot):
    app.screen.tick()
    await pilot.pause()
    await pilot.pause()
    return seen.text(app)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 15)])
async def test_a_card_is_told_of_whole_at_every_size(size):
    app = app_of()
    async with app.run_test(size=size) as pilot:
        await opened(app, pilot, Simulated())
        text = seen.text(app)
        for part in (
            "GPU 0  NVIDIA GeForce RTX 4070",
            "driver 570.12",
            "7.0",
            "12.0 GiB",
            "87 %",
            "152/200 W",
            "64 °C",
        ):
            assert part in text, part
        for part in ("55 %", "1875/3105 MHz", "10251/10501 MHz", "slowed down by its power limit", "generation 3 x8"):
            assert part in text, part
        assert "pid 42  3.0 GiB  python3" in text and "process of another con" in text


async def test_what_the_driver_does_not_support_is_absent_and_the_rest_is_there():
    nvml = FakeNvml()
    for question in ("fan", "memory", "reasons", "old reasons", "power", "processes", "desktop", "generation"):
        nvml.failing[question] = nvml_error("NotSupported")()
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, Simulated(nvml))
        text = seen.text(app)
        assert "memory n/a" in text and "fan   n/a" in text and "slowed down n/a" in text and "processes   n/a" in text
        assert "memory GiB  n/a" in text and "power W  n/a" in text and "64 °C" in text and "GPU %  always 87" in text


@pytest.mark.parametrize(
    ("error", "remedy"),
    [("LibRmVersionMismatch", "reboot"), ("LibraryNotFound", "install the driver"), ("NoPermission", "/dev/nvidia")],
)
async def test_no_driver_and_a_driver_of_another_version_are_one_sentence(error, remedy):
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, Simulated(FakeNvml(init_error=nvml_error(error)())))
        assert remedy in seen.words(app) and "n/a" not in seen.text(app)
        await pilot.press("tab", "enter", "r")
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)


async def test_a_driver_that_hangs_blocks_nothing_and_what_stands_there_is_called_old():
    nvml, go = FakeNvml(), threading.Event()
    clock = FakeClock()
    watch = CardWatch(connect(nvml, clock), clock=clock)
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, watch)
        assert watch.wait(60)
        assert "152/200 W" in await ticked(app, pilot)
        answer = nvml.nvmlDeviceGetPowerUsage
        nvml.nvmlDeviceGetPowerUsage = lambda handle: (go.wait(60), answer(handle))[1]
        for _ in range(3):
            clock.now += 3
            text = await ticked(app, pilot)
        assert "has not answered for 6 s" in " ".join(text.split()) and "as old" in " ".join(text.split())
        assert "152/200 W" in text
        go.set()
        assert watch.wait(60)
        clock.now += 1
        assert "has not answered" not in await ticked(app, pilot)
        assert watch.wait(60)


async def test_a_driver_that_hangs_from_the_start_is_said(run):
    go = threading.Event()
    nvml, clock = FakeNvml(), FakeClock()
    nvml.nvmlInit = lambda: go.wait(60)
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, watch := CardWatch(connect(nvml, clock), clock=clock))
        assert "Asking the driver" in seen.text(app)
        clock.now += 61
        await ticked(app, pilot)
        assert "has not answered for 1:01" in seen.words(app)
        go.set()
        assert watch.wait(60)


async def test_of_several_cards_one_is_chosen_by_keys_and_each_has_a_line():
    nvml = FakeNvml(cards=8)
    nvml.nvmlDeviceGetTemperature = lambda handle, sensor: 50 + handle
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot, Simulated(nvml))
        text = seen.text(app)
        assert text.count("GeForce RTX 4070") == 4 and "GPU 0 of 8" in text and "50 °C" in text
        await pilot.press("tab", "j", "down", "k")
        await pilot.pause()
        assert screen.card.reading.index == 2 and "52 °C" in seen.text(app) and "\u203a GPU 2" in seen.text(app)
        await pilot.press("enter")
        await pilot.pause()
        text = seen.text(app)
        assert [f"{50 + card} C" in text for card in range(8)] == [True] * 8 and "clock" not in text
        await pilot.press("shift+tab", "up", "up", "enter")
        await pilot.pause()
        assert screen.card.reading.index == 7 and "57 °C" in seen.text(app)


async def test_a_card_that_is_lost_in_the_middle_stays_in_the_list_and_says_so():
    nvml = FakeNvml(cards=2)
    power = nvml.nvmlDeviceGetPowerUsage
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        simulated = Simulated(nvml)
        await opened(app, pilot, simulated)

        def lost(handle):
            if handle == 1:
                raise nvml_error("GpuIsLost")
            return power(handle)

        nvml.nvmlDeviceGetPowerUsage = lost
        text = await ticked(app, pilot)
        assert "no longer answers" in text and "152/200 W" in text
        await pilot.press("tab")
        await pilot.pause()
        assert "xid" in seen.text(app) and "reboot" in seen.words(app) and "152/200 W  6" in seen.text(app)
        del nvml.nvmlDeviceGetPowerUsage
        assert "no longer answers" not in await ticked(app, pilot)


async def test_the_only_card_that_is_lost_is_not_forgotten():
    nvml = FakeNvml()
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, Simulated(nvml))
        nvml.failing["handle"] = nvml_error("GpuIsLost")()
        await ticked(app, pilot)
        assert "no longer shows this card" in seen.words(app) and "xid" in seen.text(app)


async def test_a_divided_card_shows_its_parts():
    nvml = FakeNvml()
    nvml.slices = ["3g.40gb", "1g.10gb"]
    nvml.failing["utilisation"] = nvml_error("NotSupported")()
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, Simulated(nvml))
        assert "by MIG into 3g.40gb 7.0 of 12.0 GiB, 1g.10gb" in seen.text(app)
        assert "GPU   n/a" in seen.text(app)


async def test_a_run_s_own_card_is_shown_first_and_its_processes_are_called_this_run(run):
    fake_run.trained(run, 42)
    nvml = FakeNvml(cards=3)
    with fake_run.engine_alive(run):
        pid = fake_run.rundir.lock_owner(run)
        fake_run.add(run, told(fake_run.START + 50, card="GPU-2"))
        nvml.processes.append(SimpleNamespace(pid=pid, usedGpuMemory=2 * GIB))
        app = app_of(run=run, read_gpu=lambda _pid: ())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            run_screen = app.screen
            assert isinstance(run_screen, RunScreen)
            screen = await opened(app, pilot, Simulated(nvml), run, run_screen.state, run_screen._take_in)
            text = seen.text(app)
            assert screen.card.reading.uuid == "GPU-2" and text.count("this run") == 3
            assert f"this run  pid {pid}" in text
            assert "this run 2.0, others 5.0, free 5.0 of 12.0 GiB" in text
            await pilot.press("r")
            await pilot.pause()
            assert "As the run told" in seen.text(app) and "180/200 W" in seen.text(app)
            await pilot.press("r")
            await pilot.pause()
            assert "As the run told" not in seen.text(app)


async def test_in_a_container_the_run_s_part_is_what_torch_took(run):
    fake_run.trained(run, 42)
    fake_run.add(run, told(fake_run.START + 50))
    with fake_run.engine_alive(run):
        app = app_of(run=run, read_gpu=lambda _pid: ())
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            below = app.screen
            await opened(app, pilot, Simulated(), run, below.state, below._take_in)
            assert "torch 7.0, others 0.0, free 5.0 of 12.0 GiB" in seen.text(app)


async def ended(run):
    at = fake_run.trained(run, 400)
    # Told among the steps, as an engine does.
    for number in range(200):
        fake_run.add(run, told(at + 1, temperature=50 + number % 20))
    fake_run.add(run, events.Finished(time=at + 2, step=400, reason="finished", seconds=100))
    return at


@pytest.mark.parametrize("nvml", [FakeNvml(), FakeNvml(init_error=nvml_error("LibraryNotFound")())])
async def test_of_a_run_that_ended_what_it_told_is_shown_with_and_without_cards_here(run, nvml):
    at = await ended(run)
    app = app_of(run=run, read_gpu=lambda _pid: (), clock=lambda: at + 7201)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        below = app.screen
        await opened(app, pilot, Simulated(nvml), run, below.state, below._take_in)
        text = seen.text(app)
        assert "As the run told 2 h ago, before it ended" in text and "97 %" in text and "180/200 W" in text
        assert "heat C  50 to 69, median 59.5" in text and "torch 11.0, others 0.0" in text
        await pilot.press("r")
        await pilot.pause()
        assert "As the run told" not in seen.text(app)
        await pilot.press("g")
        assert app.screen is below


async def test_keys_lead_there_from_home_and_from_a_run(run):
    fake_run.trained(run, 4)
    card = Reading(index=0, name="NVIDIA H100", memory_used=GIB, memory_total=80 * GIB, utilisation=3)
    app = app_of(read_gpu=lambda _pid: (card,))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("c")
        await pilot.pause()
        assert isinstance(app.screen, CardScreen) and "GPU 0  NVIDIA H100" in seen.text(app)
        await pilot.press("escape")
        app.watch_run(run)
        await pilot.pause()
        await pilot.press("g")
        await pilot.pause()
        assert isinstance(app.screen, CardScreen) and app.screen.run_dir == run
        await pilot.press("r")
        assert "no run here that told" in seen.text(app)


async def test_nothing_is_asked_while_the_screen_is_covered():
    nvml = FakeNvml()
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot, Simulated(nvml))
        await pilot.press("question_mark")
        await pilot.pause()
        before = len(nvml.calls)
        app.tick()
        screen.tick()
        assert len(nvml.calls) == before


@pytest.mark.parametrize("cards", [1, 2])
async def test_cards_at_rest_send_nothing_and_busy_ones_little(cards):
    nvml, count = FakeNvml(cards=cards), [0]
    app = app_of(driver_class=seen.CountingDriver)
    async with app.run_test(headless=False, size=(120, 40)) as pilot:
        await opened(app, pilot, Simulated(nvml))
        for _ in range(3):
            await ticked(app, pilot)
        app._driver.sent = 0
        for _ in range(20):
            await ticked(app, pilot)
        assert app._driver.sent == 0

        def busy(handle, at):
            return SimpleNamespace(used=int((7 + math.sin(at / 9 + handle)) * GIB), total=12 * GIB, free=5 * GIB)

        nvml.nvmlDeviceGetMemoryInfo = lambda handle: busy(handle, count[0])
        nvml.nvmlDeviceGetUtilizationRates = lambda handle: SimpleNamespace(
            gpu=[99, 82, 97, 60][count[0] % 4], memory=4
        )
        nvml.nvmlDeviceGetPowerUsage = lambda handle: int(1000 * (170 + 25 * math.sin(count[0] / 3)))
        nvml.nvmlDeviceGetClockInfo = lambda handle, kind: 1800 + count[0] % 7
        nvml.nvmlDeviceGetTemperature = lambda handle, sensor: 60 + count[0] // 20 % 5
        nvml.nvmlDeviceGetPcieThroughput = lambda handle, counter: 1000 * count[0] + counter
        costs = []
        for _ in range(120):
            count[0] += 1
            app._driver.sent = 0
            await ticked(app, pilot)
            costs.append(app._driver.sent)
        assert min(costs) > 0 and sum(costs) / len(costs) <= 600
        assert max(costs) <= 1024


def test_the_past_of_a_card_is_kept_by_its_uuid_and_is_bounded():
    history = CardHistory()
    one, two = Reading(index=0, uuid="a", power=1.0), Reading(index=1, uuid="b", utilisation=3)
    for at in range(3 * MOST):
        assert history.take(Seen(float(at), (one, two)))
    assert not history.take(Seen(float(at), (one, two))) and not history.take(Seen())
    first, second = history.cards
    assert MOST <= len(first.times) <= 2 * MOST and len(first.times) == len(first.values["power"])
    assert math.isnan(first.values["utilisation"][-1]) and second.values["utilisation"][-1] == 3
    history.take(Seen(1e6, (replace(two, index=0),)))
    assert history.cards[0] is first and first.lost and not second.lost and len(history.cards) == 2


async def test_the_curves_are_of_what_was_seen():
    nvml = FakeNvml()
    app = app_of()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, Simulated(nvml))
        for amount in (10, 20, 30):
            nvml.nvmlDeviceGetUtilizationRates = lambda handle, amount=amount: SimpleNamespace(gpu=amount, memory=1)
            await ticked(app, pilot)
        assert "10 to 87" in app.screen.query_one("#use", Trail).text
