"""Drawn curves against numpy's interpolation."""

import numpy as np
import pytest

from engine.contract.curves import over_timesteps, piecewise
from engine.contract.sections import Point

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
