"""The fold of events into what is shown."""

import math

import fake_run
import msgspec
import pytest

from aozora_tui.run_state import RunState
from engine.contract import events
from engine.contract.events import Tail


@pytest.fixture
def run(tmp_path):
    return fake_run.make(tmp_path, "cat-20231114-221320")


def folded(run):
    state = RunState()
    state.apply(Tail(run.events).read())
    return state


def test_a_run_is_told_by_its_events(run):
    fake_run.trained(run, 120, steps=200)
    state = folded(run)
    assert (state.step, state.steps, state.phase) == (120, 200, "train")
    assert state.history.steps.steps.tolist() == list(range(1, 121))
    assert state.checkpoint.step == 100
    assert state.share == 0.6
    assert [note.text for note in state.notes] == [
        "started on NVIDIA GeForce RTX 4070",
        "checkpoint of step 100 saved (9.13 GB, 8.4 s)",
    ]


def test_replay_and_live_give_the_same(run):
    fake_run.trained(run, 30)
    tail, live = Tail(run.events), RunState()
    while block := tail.read(limit=700):
        live.apply(block)
    assert live == folded(run)


def test_looks_at_held_out_pictures_are_kept_and_what_a_resume_makes_void_is_not(run):
    def look(step, loss, at):
        told = events.Validated(time=fake_run.START + at, step=step, loss=loss, pictures=2, samples=8, seconds=1)
        fake_run.add(run, told)

    fake_run.add(run, fake_run.started(run))
    for step in (0, 10, 20):
        look(step, 0.5 - step / 100, step)
    fake_run.add(run, fake_run.started(run, step=10, at=fake_run.START + 99))
    look(10, 0.45, 100)
    state = folded(run)
    assert list(state.history.checks.steps) == [0, 10]
    assert list(state.history.checks["validation"]) == pytest.approx([0.5, 0.45])
    assert state.notes[-1].text == "validation loss 0.45 at step 10"


def test_a_torn_line_is_read_once_it_is_whole(run):
    fake_run.trained(run, 3)
    line = events.encode(fake_run.step(4, at=fake_run.START + 200))
    tail, state = Tail(run.events), RunState()
    with run.events.open("ab") as file:
        file.write(line[:25])
        file.flush()
        state.apply(tail.read())
        assert state.step == 3
        file.write(line[25:])
    assert state.apply(tail.read()) and state.step == 4
    assert not state.apply(tail.read())


def test_a_resume_drops_the_points_after_its_step(run):
    at = fake_run.trained(run, 37)
    fake_run.add(run, events.Failed(time=at, code="x", text="It broke", remedy="Mend it."))
    assert folded(run).failed is not None
    fake_run.add(run, fake_run.started(run, step=20, at=at + 100), fake_run.step(21, at=at + 130, loss=0.5))
    state = folded(run)
    assert state.history.steps.steps.tolist() == list(range(1, 22))
    assert state.history.steps["loss"][-1] == 0.5
    assert (state.step, state.failed) == (21, None)
    assert state.notes[-1].text == "resumed from step 20"


def test_what_is_not_finite_never_becomes_a_number(run):
    state = RunState()
    state.apply([fake_run.started(run), fake_run.step(1, at=1.0), fake_run.step(2, at=2.0, loss=math.inf)])
    state.apply([events.Skipped(time=3.0, step=3, reason="loss is not finite", names=("mid_block.a",))])
    assert math.isnan(state.history.steps["loss"][1])
    assert state.step == 2 and state.skipped == 1
    assert state.notes[-1].text == "step 3 skipped: loss is not finite in mid_block.a; nothing changed"


def test_the_forecast_leaves_out_previews_and_pauses(run):
    at = fake_run.trained(run, 10, pace=20.0)
    state = folded(run)
    assert state.pace == 20.0 and state.eta == 990 * 20.0
    after = [
        events.Phase(time=at, name="preview", step=10),
        events.Phase(time=at + 500, name="train", step=10),
        fake_run.step(11, at=at + 520),
        events.Paused(time=at + 521, step=11),
    ]
    state.apply(after)
    assert state.eta is None and state.paused
    state.apply([events.Unpaused(time=at + 9000, step=11), fake_run.step(12, at=at + 9020)])
    assert state.pace == 20.0 and state.eta == 988 * 20.0


def test_phases_have_a_progress_of_their_own(run):
    state = RunState()
    state.apply([events.Phase(name="cache"), events.Progress(phase="cache", done=30, total=120, unit="pictures")])
    assert state.share == 0.25
    state.apply([events.Phase(name="load")])
    assert state.share is None


def test_micro_batches_count_inside_a_step(run):
    state = RunState()
    state.apply([fake_run.started(run, steps=10), events.Phase(name="train"), fake_run.step(1, at=1.0)])
    state.apply([events.Micro(step=2, micro=32, loss=0.1, seconds=0.4)])
    assert state.share == 0.15


def test_micro_batches_count_as_the_engine_tells_them(run):
    """`Micro.step` is the coming step, `Micro.micro` what is finished in it."""
    state = RunState()
    state.apply([fake_run.started(run, steps=10), events.Phase(name="train", step=0)])
    told = [
        (events.Micro(step=1, micro=64, loss=0.1, seconds=0.4), 64, 0.1),
        (fake_run.step(1, at=30.0), 0, 0.1),
        (events.Micro(step=2, micro=1, loss=0.1, seconds=0.4), 1, (1 + 1 / 64) / 10),
        (events.Micro(step=2, micro=48, loss=0.1, seconds=0.4), 48, (1 + 48 / 64) / 10),
        (fake_run.step(2, at=60.0), 0, 0.2),
        (events.Micro(step=3, micro=16, loss=0.1, seconds=0.4), 16, (2 + 16 / 64) / 10),
        (events.Skipped(step=3, reason="loss is not finite", names=()), 0, 0.2),
    ]
    for event, micro, share in told:
        state.apply([event])
        assert (state.micros_done, state.share) == (micro, pytest.approx(share))


def steered(step, factor, at=0.0):
    return events.Steered(time=at, step=step, factor=factor)


def test_a_factor_holds_over_resumes_but_not_before_it_was_commanded(run):
    fake_run.add(run, fake_run.started(run), steered(20, 0.5), steered(30, 0.25))
    assert folded(run).factor == 0.25
    fake_run.add(run, fake_run.started(run, step=25))
    assert folded(run).factor == 0.5  # what was commanded for step 30 is still to come
    fake_run.add(run, steered(25, 0.5))
    assert folded(run).factor == 0.5
    fake_run.add(run, steered(30, 0.25), fake_run.started(run, step=10))
    assert folded(run).factor == 1.0
    fake_run.add(run, fake_run.started(run, step=40))
    assert folded(run).factor == 1.0


def test_a_factor_that_a_resume_repeats_is_noted_once(run):
    fake_run.add(run, fake_run.started(run), steered(20, 0.5), fake_run.started(run, step=20), steered(20, 0.5))
    noted = [note.text for note in folded(run).notes if "learning rate" in note.text]
    assert noted == ["learning rate x 0.5 from step 21 on"]


def test_the_scheduled_rate_is_known_under_a_factor(run):
    state = RunState()
    plain = fake_run.step(50, at=1.0)
    state.apply([fake_run.started(run), steered(49, 0.5), msgspec.structs.replace(plain, lr=plain.lr / 2)])
    assert state.planned_lr == plain.lr
    state.apply([steered(50, 0.0), msgspec.structs.replace(fake_run.step(51, at=2.0), lr=0.0)])
    assert (state.factor, state.planned_lr) == (0.0, 0.0)


def test_spikes_that_follow_each_other_share_a_line(run):
    state = RunState()
    spikes = [events.Damped(step=n, loss=0.5, limit=0.25, factor=0.5) for n in (7, 8, 12)]
    state.apply([fake_run.started(run), *spikes[:2]])
    assert [note.text for note in state.notes][1:] == ["step 8 damped x 0.5: loss 0.5 above 0.25; 2 so far"]
    state.apply([events.Unpaused(step=9), spikes[2]])
    assert len(state.notes) == 4 and state.damped == 3
