"""Points of a curve: wherever they are moved, they stay in order and in range; few of them follow a shape."""

import random

import pytest

from aozora_tui.screens import curve_points as edit
from aozora_tui.screens.curve_kinds import KINDS
from aozora_tui.screens.curve_points import OVER_TIMESTEPS, Pace, over_the_run
from engine.contract.curves import piecewise, rate
from engine.contract.loss_weight import weights
from engine.contract.profile import decode_profile
from engine.contract.sections import Point
from engine.contract.timesteps import density

RATE, DENSITY, WEIGHT = KINDS


def profile(**sections):
    found, _ = decode_profile({"model": {"base": "a"}, "data": {"folders": [{"path": "b"}]}, **sections})
    assert found is not None
    return found


def points(*pairs):
    return tuple(Point(float(at), float(value)) for at, value in pairs)


def pairs(found):
    return [(point.at, point.value) for point in found]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_any_keys_in_any_order_leave_points_that_the_contract_takes(kind):
    rng = random.Random(3)
    given = profile(train={"steps": 700})
    grain, drawn, at = kind.grain(given), kind.begun(), 0
    for _ in range(1500):
        pace = Pace(top=rng.choice((0.01, 1.2, 40.0)), log=rng.random() < 0.4, snap=rng.random() < 0.4)
        by, coarse = rng.choice((-1, 1)), rng.random() < 0.5
        match rng.randrange(6):
            case 0:
                drawn = edit.raised(drawn, at, by, pace, coarse=coarse)
            case 1:
                drawn = edit.slid(drawn, at, by, grain, coarse=coarse, snap=pace.snap)
            case 2:
                drawn, at = edit.inserted(drawn, at, grain) or (drawn, at)
            case 3 if len(drawn) > 1:
                drawn = edit.removed(drawn, at)
            case 4:
                drawn = edit.snapped(drawn, at, grain, pace)
            case _:
                at = rng.randrange(len(drawn))
        at = min(at, len(drawn) - 1)
        places = [point.at for point in drawn]
        assert places == sorted(set(places)) and places[0] >= 0 and places[-1] <= grain.last
        assert all(0 <= point.value <= edit.MOST for point in drawn)
    lifted = (Point(drawn[0].at, 1.0), *drawn[1:])
    made = kind.applied(given, type(kind.drawing(given))(kind.drawn_word or "min_snr", lifted))
    assert [problem for problem in kind.problems(made) if problem.path == kind.points_path] == []


def test_a_fine_step_is_a_tenth_of_a_coarse_one_and_the_floor_is_zero():
    level = points((0, 1), (1, 1))
    pace = Pace(top=1.2)
    assert edit.raised(level, 0, 1, pace)[0].value == pytest.approx(1.01)
    assert edit.raised(level, 0, -1, pace, coarse=True)[0].value == pytest.approx(0.9)
    assert edit.raised(points((0, 0.05)), 0, -1, pace, coarse=True)[0].value == 0


def test_on_the_logarithmic_axis_steps_are_shares_and_zero_is_below_the_smallest():
    pace = Pace(top=1.0, log=True)
    up = edit.raised(points((0, 0.01)), 0, 1, pace, coarse=True)[0].value
    assert up / 0.01 == pytest.approx(10**0.2, rel=1e-4)
    assert edit.raised(points((0, 1e-4)), 0, -1, pace)[0].value == 0
    assert edit.raised(points((0, 0)), 0, 1, pace)[0].value == pytest.approx(1e-4)
    snapped = Pace(top=1.0, log=True, snap=True)
    assert edit.raised(points((0, 0.3)), 0, 1, snapped)[0].value == 0.5
    assert edit.raised(points((0, 0.3)), 0, -1, snapped)[0].value == 0.2
    assert edit.raised(points((0, 0.3)), 0, 1, snapped, coarse=True)[0].value == 1


def test_with_the_grid_points_go_from_line_to_line():
    pace = Pace(top=1.2, snap=True)
    assert pace.grid == pytest.approx(0.05)
    assert edit.raised(points((0, 0.52)), 0, 1, pace)[0].value == pytest.approx(0.55)
    assert edit.raised(points((0, 0.52)), 0, -1, pace)[0].value == pytest.approx(0.5)
    moved = edit.slid(points((0, 1), (430, 1), (999, 1)), 1, 1, OVER_TIMESTEPS, snap=True)
    assert moved[1].at == 450
    assert edit.slid(points((0, 1), (960, 1)), 1, 1, OVER_TIMESTEPS, snap=True)[1].at == 999


def test_a_neighbour_stops_a_point():
    close = points((0, 1), (10, 1), (12, 1))
    assert edit.slid(close, 1, 1, OVER_TIMESTEPS)[1].at == 11
    assert edit.slid(points((0, 1), (11, 1), (12, 1)), 1, 1, OVER_TIMESTEPS, coarse=True)[1].at == 11
    assert edit.inserted(points((10, 1), (11, 3)), 0, OVER_TIMESTEPS) is None


def test_a_new_point_lies_on_the_line_and_changes_nothing():
    drawn = points((0, 0.2), (0.4, 1), (0.8, 0.1))
    for index, place, at in ((0, 1, 0.2), (1, 2, 0.6), (2, 3, 1.0)):
        found, here = edit.inserted(drawn, index, over_the_run(1000))
        assert here == place and found[place].at == at
        assert found[place].value == pytest.approx(piecewise(drawn, at))


def test_a_typed_point_goes_where_it_belongs_but_not_onto_another():
    drawn = points((0, 1), (500, 2), (999, 3))
    found, here = edit.put(drawn, 0, Point(700.0, 5.0))
    assert pairs(found) == [(500, 2), (700, 5), (999, 3)] and here == 1
    with pytest.raises(ValueError, match="there is a point at 500 already"):
        edit.put(drawn, 0, Point(500.0, 1.0))


@pytest.mark.parametrize("steps", [48, 400, 3906, 200_000])
@pytest.mark.parametrize("shape", [word for word in RATE.words if word not in ("curve", "restarts")])
def test_a_schedule_turned_into_few_points_is_the_same_schedule(shape, steps):
    given = profile(schedule={"shape": shape}, train={"steps": steps})
    drawing = RATE.into_points(given)
    made = RATE.applied(given, drawing)
    assert drawing.shape == "curve" and len(drawing.points) <= 12
    assert RATE.problems(made) == []
    every = range(0, steps, max(1, steps // 1000))
    assert max(abs(rate(given.schedule, step, steps) - rate(made.schedule, step, steps)) for step in every) < 0.03


def test_jumps_of_restarts_stay_jumps():
    given = profile(schedule={"shape": "restarts", "warmup": 0.0, "cycles": 3}, train={"steps": 900})
    made = RATE.applied(given, RATE.into_points(given))
    for step in (299, 300, 599, 600):
        assert rate(made.schedule, step, 900) == pytest.approx(rate(given.schedule, step, 900), abs=0.05)


@pytest.mark.parametrize("shape", DENSITY.words[:-1])
def test_a_density_turned_into_few_points_is_the_same_density(shape):
    given = profile(objective={"timesteps": shape, "beta_a": 2.0, "beta_b": 5.0})
    drawing = DENSITY.into_points(given)
    before, after = density(given.objective), density(DENSITY.applied(given, drawing).objective)
    assert len(drawing.points) <= 20
    assert max(abs(old - new) for old, new in zip(before, after, strict=True)) < 0.035 * max(before)


def test_half_of_the_timesteps_is_four_exact_points():
    given = profile(objective={"timesteps": "noisier_half"})
    assert pairs(DENSITY.into_points(given).points) == [(0, 0), (499, 0), (500, 2), (999, 2)]


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize(("prediction", "terminal"), [("v_prediction", True), ("epsilon", False), ("flow", False)])
def test_a_weight_turned_into_points_holds_its_floor_and_factor(prediction, terminal, relative):
    objective = {"prediction_type": prediction, "zero_terminal_snr": terminal, "weight_floor": 0.05}
    given = profile(objective={**objective, "weight_curve": [[0, 1.0], [500, 0.5]]})
    drawing = WEIGHT.into_points(given, relative=relative)
    made = WEIGHT.applied(given, drawing)
    assert drawing.shape == "none"
    before, after = weights(given.objective), weights(made.objective)
    assert max(abs(old - new) for old, new in zip(before, after, strict=True)) < 0.03 * max(before)
    if relative:
        off = [abs(old - new) / old for old, new in zip(before, after, strict=True) if old > 1e-3 * max(before)]
        assert max(off) < 0.1


def test_what_is_written_is_plain_and_whole_places_are_whole_numbers():
    assert edit.plain_points(points((0, 1), (0.25, 0.5), (999, 2))) == [[0, 1.0], [0.25, 0.5], [999, 2.0]]
