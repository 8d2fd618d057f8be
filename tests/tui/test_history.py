"""A run's numbers in columns: the same however they arrive, void after a resume, and quick for days of it."""

import math
import random
import sys
import time
from pathlib import Path

import fake_run
import msgspec
import pytest

from aozora_tui.history import History
from aozora_tui.run_state import RunState
from aozora_tui.timestep_losses import TimestepLosses, by_bin, recent
from engine.contract import events


def step(number, *, at=None, loss=0.1, timesteps=(), losses=()):
    made = fake_run.step(number, at=1000.0 + number if at is None else at, loss=loss)
    return msgspec.structs.replace(made, timesteps=tuple(timesteps), losses=tuple(losses))


def started(number, at):
    return msgspec.structs.replace(fake_run.started(fake_run.RunDir(Path("r")), step=number), time=at)


def columns_of(history):
    steps = history.steps
    return [steps.steps.tolist(), steps.elapsed.tolist(), *(column.tolist() for column in steps.values.values())]


def test_one_by_one_and_all_at_once_are_the_same():
    made = random.Random(1)
    taken = [step(n, timesteps=[made.randrange(1000)] * 2, losses=[n / 100, 1.0]) for n in range(1, 200)]
    whole, single = History(), History()
    for history in (whole, single):
        history.begin(started(0, 1000.0))
    whole.extend(taken)
    for event in taken:
        single.extend([event])
    assert str(columns_of(whole)) == str(columns_of(single))
    assert (whole.samples.timesteps, whole.samples.ends) == (single.samples.timesteps, single.samples.ends)
    assert whole.steps.steps.tolist() == list(range(1, 200))
    assert whole.samples.ends[-1] == len(whole.samples.losses) == 398


def test_a_resume_voids_what_came_after_its_step_and_the_pause_takes_no_time():
    history = History()
    history.begin(started(0, 1000.0))
    history.extend([step(n, at=1000.0 + 10 * n, timesteps=[n], losses=[0.5]) for n in range(1, 8)])
    history.begin(started(4, 90_000.0))
    assert history.steps.steps.tolist() == [1, 2, 3, 4] and len(history.samples.losses) == 4
    history.extend([step(5, at=90_010.0)])
    assert history.steps.elapsed.tolist() == [10, 20, 30, 40, 50]
    assert history.elapsed(90_030.0) == 70


def test_a_step_that_comes_again_is_taken_again_with_all_after_it():
    history = History()
    history.extend([step(1), step(2), step(3, loss=0.7)])
    history.extend([step(2, loss=0.9)])
    history.extend([step(3), step(3, loss=0.4), step(4)])
    assert history.steps.steps.tolist() == [1, 2, 3, 4]
    assert history.steps["loss"].tolist() == pytest.approx([0.1, 0.9, 0.4, 0.1])


def test_what_no_chart_can_draw_is_no_number_and_spoils_no_other():
    history = History()
    history.extend([step(1), step(2, loss=math.inf), step(3, loss=1e39), step(4)])
    assert [math.isnan(value) for value in history.steps["loss"]] == [False, True, True, False]
    history.extend([step(5, timesteps=[1, 2000], losses=[1.0, 1.0]), step(6, timesteps=[1], losses=[1.0, 2.0])])
    assert len(history.samples.losses) == 0 and history.samples.ends.tolist() == [0] * 6


def test_the_loss_by_timestep_is_the_mean_of_the_samples_in_each_bin_and_column():
    made = random.Random(2)
    taken, truth = [], {}
    for number in range(1, 301):
        drawn = [(made.randrange(1000), made.random()) for _ in range(made.randrange(4))]
        taken.append(step(number, timesteps=[at for at, _ in drawn], losses=[loss for _, loss in drawn]))
        for at, loss in drawn:
            truth.setdefault(((number - 1) // 30, at // 100), []).append(loss)
    history, grid = History(), TimestepLosses(0, 300, columns=10, bins=10)
    while taken:
        history.extend(taken[:7])
        del taken[:7]
        grid.update(history)
    for column in range(10):
        for place in range(10):
            mean, losses = grid.grid[column][place], truth.get((column, place), [])
            assert mean.count == len(losses)
            assert (
                mean.value == pytest.approx(sum(losses) / len(losses), rel=1e-6) if losses else math.isnan(mean.value)
            )
    everything = by_bin(history, 0, 300, 1)[0]
    assert everything.count == sum(map(len, truth.values()))
    assert recent(history, 30, 10) == list(grid.grid[9])
    history.drop_after(45)
    grid.update(history)
    assert sum(mean.count for column in grid.grid[2:] for mean in column) == 0
    assert grid.grid[1] == by_bin(history, 30, 45, 10)
    assert TimestepLosses(0, 9, columns=3, bins=2).extent() is None


def test_a_quarter_of_a_million_steps_are_folded_in_little_time_and_room():
    made = random.Random(3)
    one = step(1)

    def at(number):
        drawn, loss = (made.randrange(1000),), (made.random(),)
        return msgspec.structs.replace(one, step=number, time=1000.0 + number, timesteps=drawn, losses=loss)

    blocks = [[at(number) for number in range(first, first + 5000)] for first in range(1, 250_001, 5000)]
    state = RunState()
    began = time.process_time()
    for block in blocks:
        state.apply(block)
    took = time.process_time() - began
    steps, samples = state.history.steps, state.history.samples
    arrays = [steps.steps, steps.elapsed, *steps.values.values(), samples.timesteps, samples.losses, samples.ends]
    assert len(steps) == len(samples.losses) == 250_000 and state.step == 250_000
    assert sum(sys.getsizeof(array) for array in arrays) < 25e6
    assert took < 2  # 0.35 s where nothing else runs


def test_the_pace_is_of_the_last_steps_alone():
    state = RunState()
    state.apply([started(0, 1000.0), events.Phase(time=1000.0, name="train")])
    state.apply([step(n, at=1000.0 + 50 * n) for n in range(1, 101)])
    state.apply([step(n, at=6000.0 + 2 * (n - 100)) for n in range(101, 200)])
    assert state.pace == 2


def test_a_strip_of_another_axis_takes_each_step_where_it_lies_there():
    taken = [step(n, timesteps=[(n * 37) % 1000], losses=[n / 100]) for n in range(1, 101)]
    history, grid = History(), TimestepLosses(0, 50.0, columns=5, bins=4)
    xs = [n / 2 for n in range(1, 101)]
    for count in (1, 30, 31, 100):
        history.extend(taken[len(history.steps) : count])
        grid.update(history, xs[:count])
    assert [list(column) for column in grid.grid] == [by_bin(history, n, n + 20, 4) for n in range(0, 100, 20)]
    assert [grid.column_of(x) for x in (-1, 0, 10.0, 10.1, 50, 99)] == [0, 0, 0, 1, 4, 4]
