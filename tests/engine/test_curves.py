"""Drawn curves against numpy's interpolation, schedules against torch's and transformers' own and the papers."""

from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, PolynomialLR
from transformers.optimization import (
    get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
    get_wsd_schedule,
)

from engine.contract.curves import over_timesteps, piecewise, rate, require_curve
from engine.contract.sections import Point, Schedule

POINTS = (Point(10, 2.0), Point(20.5, 0.5), Point(21, 4.0), Point(900, 1.0))


def test_a_curve_is_straight_between_its_points_and_level_beyond_them():
    at = [0, 10, 10.1, 15, 20.5, 20.75, 21, 333, 900, 999]
    expected = np.interp(at, [point.at for point in POINTS], [point.value for point in POINTS])
    assert [piecewise(POINTS, x) for x in at] == pytest.approx(expected.tolist(), rel=1e-14)
    assert {piecewise(POINTS[:1], x) for x in at} == {2.0}


def test_a_curve_over_the_timesteps_has_a_thousand_values():
    values = over_timesteps(POINTS)
    expected = np.interp(np.arange(1000), [point.at for point in POINTS], [point.value for point in POINTS])
    np.testing.assert_allclose(values, expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([], "has no points"),
        ([(0, 1), (1000, 1)], "has a point at 1000: timesteps go from 0 to 999"),
        ([(0, 1), (500, 1), (500, 2)], "has a point at 500 after one at 500: points go from left to right"),
        ([(500, 1), (20, 1)], "has a point at 20 after one at 500"),
        ([(0, 0), (999, 0)], "is 0 at every whole timestep"),
        ([(10, 0), (10.5, 3), (11, 0)], "is 0 at every whole timestep"),
    ],
)
def test_a_curve_that_means_nothing_says_why(points, reason):
    with pytest.raises(ValueError, match=reason):
        over_timesteps([Point(float(at), float(value)) for at, value in points])


# The rate over a run

CURVE = (Point(0.0, 0.2), Point(0.5, 1.5), Point(1.0, 0.0))
SHAPES = [shape for shape in get_args(get_type_hints(Schedule)["shape"]) if shape != "curve"]


def rates(steps: int, **settings) -> list[float]:
    return [rate(Schedule(**settings), step, steps) for step in range(steps)]


def peers(scheduler: LambdaLR, steps: int) -> list[float]:
    return [scheduler.lr_lambdas[0](step) for step in range(steps)]


@pytest.fixture
def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 40), (7, 53), (50, 100)])
def test_the_falls_are_those_of_transformers(sgd, warmup: int, steps: int):
    """Which begins its warm-up at a rate of 0, and so is one step behind until the peak."""
    usual = {"num_warmup_steps": warmup, "num_training_steps": steps}
    pairs = [
        ({"shape": "linear"}, get_linear_schedule_with_warmup(sgd, **usual)),
        ({"shape": "cosine"}, get_cosine_schedule_with_warmup(sgd, **usual)),
        (
            {"shape": "cosine", "minimum": 0.2},
            get_cosine_with_min_lr_schedule_with_warmup(sgd, **usual, min_lr_rate=0.2),
        ),
        (
            {"shape": "polynomial", "power": 2.5, "minimum": 0.1},
            get_polynomial_decay_schedule_with_warmup(sgd, **usual, power=2.5, lr_end=0.1),
        ),
        (
            {"shape": "restarts", "cycles": 3},
            get_cosine_with_hard_restarts_schedule_with_warmup(sgd, **usual, num_cycles=3),
        ),
        (
            {"shape": "wsd", "decay": 0.3, "minimum": 0.1},
            get_wsd_schedule(sgd, **usual, num_decay_steps=round(0.3 * steps), decay_type="linear", min_lr_ratio=0.1),
        ),
    ]
    for settings, scheduler in pairs:
        ours = rates(steps, warmup=0.0, warmup_steps=warmup, **settings)
        assert ours[warmup:] == pytest.approx(peers(scheduler, steps)[warmup:], abs=1e-12), settings


def test_the_falls_are_those_of_torch(sgd):
    for settings, scheduler in [
        ({"shape": "cosine", "minimum": 0.3}, CosineAnnealingLR(sgd, 20, eta_min=0.3)),
        ({"shape": "polynomial", "power": 1.5}, PolynomialLR(sgd, 20, power=1.5)),
        ({"shape": "linear", "minimum": 0.25}, LinearLR(sgd, 1.0, 0.25, total_iters=20)),
    ]:
        theirs = []
        sgd.param_groups[0]["lr"] = 1.0
        for _ in range(20):
            theirs.append(scheduler.get_last_lr()[0])
            sgd.step()
            scheduler.step()
        assert rates(20, warmup=0.0, **settings) == pytest.approx(theirs, abs=1e-12), settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # arXiv 2107.04197: (1 - x) / (1/2 + (1 - x)/2) at x = 0, 1/4, 1/2, 3/4
        ({"shape": "rex", "warmup": 0.0}, [1, 6 / 7, 2 / 3, 0.4]),
        ({"shape": "rex", "warmup": 0.0, "minimum": 0.5}, [1, 13 / 14, 5 / 6, 0.7]),
        ({"shape": "wsd", "warmup": 0.25, "decay": 0.5}, [1, 1, 1, 0.5]),
        ({"shape": "wsd", "warmup": 0.0, "decay": 1.0}, [1, 0.75, 0.5, 0.25]),
        ({"shape": "restarts", "warmup": 0.0, "cycles": 2, "minimum": 0.2}, [1, 0.6, 1, 0.6]),
        ({"shape": "polynomial", "warmup": 0.0}, [1, 9 / 16, 1 / 4, 1 / 16]),
        ({"shape": "linear", "warmup": 0.5, "minimum": 0.2}, [0.5, 1, 1, 0.6]),
        ({"shape": "linear", "warmup": 0.9, "warmup_steps": 1}, [1, 1, 2 / 3, 1 / 3]),
        ({"shape": "constant", "warmup_steps": 4, "minimum": 0.5}, [0.25, 0.5, 0.75, 1]),
        ({"shape": "curve", "curve": CURVE, "warmup_steps": 3, "minimum": 0.9}, [0.2, 0.85, 1.5, 0.75]),
    ],
)
def test_four_steps_written_out(settings, expected):
    assert rates(4, **settings) == pytest.approx(expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("steps", "warmup", "warmup_steps"), [(1, 0.1, 0), (3, 0.5, 0), (97, 0.1, 0), (200, 0.3, 31)])
@pytest.mark.parametrize("minimum", [0.0, 0.3])
def test_every_shape_keeps_its_bounds_and_its_warm_up(shape, steps, warmup, warmup_steps, minimum):
    found = rates(
        steps, shape=shape, warmup=warmup, warmup_steps=warmup_steps, minimum=minimum, cycles=3, decay=0.4, power=3.0
    )
    assert all(0 < value <= 1 for value in found)
    assert found[-1] >= minimum
    rising = warmup_steps or round(warmup * steps)
    assert found[:rising] == pytest.approx([(step + 1) / rising for step in range(rising)])
    assert found[rising : rising + 1] in ([], [1.0])  # no jump where the warm-up ends


def test_every_cycle_begins_at_the_peak():
    """In fractions of a run 29 x 100 / 2900 is a little less than 1, the end of the cycle before."""
    for cycles in (3, 7, 29, 100):
        found = rates(cycles * 29, shape="restarts", warmup=0.0, cycles=cycles)
        assert found == pytest.approx(found[:29] * cycles) and found[::29] == [1.0] * cycles


@pytest.mark.parametrize(
    ("points", "steps", "reason"),
    [
        ([], 9, "has no points"),
        ([(0, 1), (1.5, 1)], 9, "has a point at 1.5: shares of the run go from 0 to 1"),
        ([(0.5, 1), (0.5, 2)], 9, "has a point at 0.5 after one at 0.5: points go from left to right"),
        ([(0, 0), (1, 0)], 9, "is 0 at every step"),
        ([(0, 0), (0.95, 0), (1, 1)], 10, "is 0 at every step"),
        ([(0.41, 0), (0.45, 1), (0.49, 0)], 10, "is 0 at every step"),
    ],
)
def test_a_curve_of_the_rate_that_means_nothing_says_why(points, steps, reason):
    with pytest.raises(ValueError, match=reason):
        require_curve([Point(float(at), float(value)) for at, value in points], steps)


@pytest.mark.parametrize("points", [[(0, 0), (0.95, 0), (1, 1)], [(0.415, 0), (0.42, 1), (0.425, 0)], [(0.3, 1)]])
def test_a_curve_that_is_above_zero_at_one_step_is_enough(points):
    require_curve([Point(float(at), float(value)) for at, value in points], 100)
