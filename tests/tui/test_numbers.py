"""Whether a run is well, and what it uses, in words."""

import math

import fake_run
import msgspec
import pytest
import seen

from aozora_tui import run_numbers
from aozora_tui.app import AozoraApp
from aozora_tui.run_state import RunState
from aozora_tui.screens.numbers import NumbersScreen
from engine.contract import events
from engine.contract.events import Tail

GIB = 1 << 30


@pytest.fixture
def run(tmp_path):
    return fake_run.make(tmp_path, "cat-20231114-221320")


def folded(run):
    state = RunState()
    state.apply(Tail(run.events).read())
    return state


def machine(at, **said):
    usual = {"card": "GPU-1", "card_used": 11 * GIB, "card_total": 12 * GIB, "power": 180.0, "disk_free": 100 * GIB}
    return events.Machine(time=at, **usual | said)


def lines_of(state, now):
    return {group.title: dict(group.lines) for group in run_numbers.groups(state, now)}


def test_a_run_that_has_not_begun_says_nothing(run):
    assert run_numbers.groups(RunState(), 0.0) == ()


def test_progress_time_and_checkpoints(run):
    now = fake_run.trained(run, 210)
    said = lines_of(folded(run), now + 600)
    assert said["progress"]["step"] == "210 of 1,000"
    assert said["progress"]["samples"] == "13,440, 64 a step"
    assert said["progress"]["left"].startswith("5:42:20 of training")
    assert said["progress"]["done at"].startswith("Wed 15 Nov 05:37")
    assert "epoch" not in said["progress"]
    assert said["progress"]["trained for"] == "1:31:00"
    assert said["progress"]["clipped"] == "1 of the last 100 steps"
    assert said["time"]["a micro-batch"] == "0.41 s now, 0.41 s in the middle, 0.41 s at worst"
    # 0.31 + 24.6 + 1.09 of 64 x 0.41 = 26.24 seconds
    assert said["time"]["of a step"] == "waiting for data 1 %, forward and backward 94 %, optimizer 4 %, other 1 %"
    assert list(said["checkpoints"].items()) == [
        ("step 200", "14 min ago, 9.13 GB, written in 8.4 s"),
        ("step 100", "57 min ago, 9.13 GB, written in 8.4 s"),
    ]


def test_the_loss_on_held_out_pictures_now_at_best_and_at_first(run):
    fake_run.add(run, fake_run.started(run))

    def said(step, loss):
        told = events.Validated(time=fake_run.START, step=step, loss=loss, pictures=16, samples=64, seconds=4)
        fake_run.add(run, told)
        return lines_of(folded(run), fake_run.START)["progress"]["validation"]

    assert said(0, 0.13) == "loss 0.13 at step 0"
    assert said(1000, 0.11) == "loss 0.11 at step 1,000, 0.13 at 0"
    assert said(2000, 0.12) == "loss 0.12 at step 2,000, lowest 0.11 at 1,000, 0.13 at 0"


def test_the_epoch_where_the_run_tells_how_long_one_is_and_no_time_but_of_training(run):
    at = fake_run.trained(run, 100)
    state = folded(run)
    state.apply([events.Epoch(time=at, samples=1200, micro_batches=1280)])
    said = lines_of(state, at)["progress"]
    assert said["epoch"] == "5.00 of 50.00, each of 1,200 samples"
    # An hour of previews moves no forecast.
    state.apply([events.Phase(time=at + 1, name="preview"), events.Phase(time=at + 3601, name="train")])
    state.apply([fake_run.step(101, at=at + 3627)])
    assert state.pace == 26 and lines_of(state, at + 3627)["progress"]["left"].startswith("6:29:34 of training")


def test_memory_against_the_forecast_and_the_disk_against_time(run):
    at = fake_run.trained(run, 50)
    planned = events.Planned(
        time=fake_run.START, plan="fast", checkpointing=True, keep=0, group=1, why="", host=0, needs=int(11.0 * GIB)
    )
    state = RunState()
    state.apply([planned, *Tail(run.events).read()])
    state.apply(
        [
            machine(at - 900),
            machine(at, disk_free=95 * GIB, host_used=20 * GIB, host_total=32 * GIB, run_memory=9 * GIB),
        ]
    )
    said = lines_of(state, at)
    assert said["memory"]["torch"] == "10.60 GiB peak, 11.20 reserved"
    assert said["memory"]["forecast"] == "11.00 GiB, off by +2 %"
    assert said["memory"]["card"] == "11.00 of 12.00 GiB in use, 1.00 free"
    assert said["memory"]["host"] == "20.00 of 32.00 GiB in use, 9.00 by the run"
    assert said["disk"] == {
        "free": "102 GB",
        "full in": "4:45:00, as the last hours have filled it, before the run's end",
    }
    state.apply([machine(at + 60, disk_free=101 * GIB)])
    assert lines_of(state, at)["disk"]["full in"] == "it does not get fuller"


@pytest.mark.parametrize(
    ("elapsed", "free", "left"),
    [
        ([0, 10], [100, 90], 90),
        ([0, 10], [90, 100], None),
        ([5], [1], None),
        ([5, 5], [2, 1], None),
        ([], [], None),
        # What was before the last four hours counts no more.
        ([0, 100_000, 100_010], [900, 100, 90], 90),
        ([0, 100_000, 100_010], [900, 100, 100], None),
    ],
)
def test_when_the_disk_is_full(elapsed, free, left):
    assert run_numbers.seconds_to_full(elapsed, free) == left


def test_a_resume_drops_checkpoints_and_what_the_machine_told_after_it(run):
    at = fake_run.trained(run, 210)
    state = folded(run)
    state.apply([machine(at + 1), fake_run.started(run, step=150, at=at + 1000), machine(at + 1010)])
    assert [saved.step for saved in state.checkpoints] == [100]
    assert state.history.box.steps.tolist() == [150] and state.history.box.elapsed.tolist() == [150 * 26 + 10]


def test_what_the_driver_does_not_say_is_no_number(run):
    state = RunState()
    state.apply([fake_run.started(run), events.Machine(time=fake_run.START + 5, disk_free=5)])
    box = state.history.box
    assert math.isnan(box["card_used"][0]) and math.isnan(box["power"][0]) and box["disk_free"][0] == 5


async def shown(app, pilot, run, state):
    app.push_screen(NumbersScreen(run, state, lambda: None))
    for _ in range(3):
        await pilot.pause()
    return seen.text(app)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 15)])
async def test_a_healthy_run_says_so_and_all_lines_can_be_reached(run, size):
    fake_run.trained(run, 210)
    app = AozoraApp(ticking=False, clock=lambda: fake_run.START + 9000)
    async with app.run_test(size=size) as pilot:
        text = await shown(app, pilot, run, folded(run))
        assert "nothing unusual" in text and "210 of 1,000" in text
        for _ in range(4):
            await pilot.press("pagedown")
        assert "step 100" in seen.text(app)
        await pilot.press("escape")
        assert not isinstance(app.screen, NumbersScreen)


async def test_what_is_wrong_is_said_with_its_evidence_and_what_to_try(run):
    state = RunState()
    state.apply([fake_run.started(run, steps=5000), events.Phase(time=fake_run.START + 40, name="train", step=0)])
    clipped = [
        msgspec.structs.replace(
            fake_run.step(n, at=fake_run.START + 40 + 26 * n, steps=5000), clipped=True, grad_norm=9.0
        )
        for n in range(1, 900)
    ]
    state.apply(clipped)
    (finding,) = [each for each in state.findings if each.code == "health-clipping"]
    app = AozoraApp(ticking=False)
    async with app.run_test(size=(120, 40)) as pilot:
        text = await shown(app, pilot, run, state)
        words = " ".join(text.split())
        assert " ".join(finding.text.split()) in words and " ".join(finding.remedy.split()) in words
