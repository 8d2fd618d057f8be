import math
import random
import statistics

import pytest

from aozora_tui.widgets.columns import Columns
from aozora_tui.widgets.medians import Medians


def test_a_column_keeps_first_lowest_highest_and_last():
    columns = Columns(0, 10, 2)
    columns.extend([1, 2, 3, 4], [5.0, 9.0, 1.0, 4.0])
    column = columns.by_dot[0]
    assert (column.first, column.low, column.high, column.last) == (5.0, 1.0, 9.0, 4.0)
    assert columns.extent() == (1.0, 9.0)


def test_points_added_one_by_one_equal_points_added_at_once():
    rng = random.Random(3)
    xs = [float(x) for x in range(500)]
    ys = [math.nan if rng.random() < 0.05 else rng.gauss(0, 1) for _ in xs]
    whole, grown = Columns(0, 500, 40, smoothing=0.9), Columns(0, 500, 40, smoothing=0.9)
    whole.extend(xs, ys)
    for count in range(1, 501):
        assert grown.continues(xs[:count], ys[:count])
        grown.extend(xs[:count], ys[:count])
    assert grown.by_dot == whole.by_dot and grown.skipped == whole.skipped > 0


def test_smoothing_is_the_weighted_mean_of_the_past():
    ys = [3.0, 1.0, 4.0, 1.0, 5.0]
    columns = Columns(0, 4, 5, smoothing=0.8)
    columns.extend(range(5), ys)
    for index in range(5):
        weights = [0.8 ** (index - past) for past in range(index + 1)]
        expected = sum(w * y for w, y in zip(weights, ys, strict=False)) / sum(weights)
        assert columns.by_dot[index].last == pytest.approx(expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e301])
def test_what_is_not_finite_is_counted_skipped_and_breaks_the_line(bad):
    columns = Columns(0, 3, 4, smoothing=0.5)
    columns.extend([0, 1, 2, 3], [1.0, bad, 1.0, 1.0])
    assert sorted(columns.by_dot) == [0, 2, 3]
    assert [columns.by_dot[dot].joined for dot in (0, 2, 3)] == [False, False, True]
    assert columns.skipped == 1 and columns.by_dot[3].last == pytest.approx(1.0)


def test_a_log_axis_skips_zero_and_below():
    columns = Columns(0, 3, 4, positive=True)
    columns.extend([0, 1, 2, 3], [0.0, -1.0, 1e-3, 2.0])
    assert sorted(columns.by_dot) == [2, 3] and columns.skipped == 2


def test_points_out_of_sight_are_averaged_but_not_drawn():
    columns = Columns(2, 3, 2, smoothing=0.5)
    columns.extend([0, 1, 2, 3], [8.0, 8.0, 0.0, 0.0])
    assert sorted(columns.by_dot) == [0, 1] and columns.by_dot[0].last > 0


@pytest.mark.parametrize(
    ("xs", "ys"), [([0, 1], [1.0, 2.0]), ([0, 1, 2], [1.0, 2.0, 4.0]), ([0, 1, 5], [1.0, 2.0, math.nan])]
)
def test_other_points_are_no_continuation(xs, ys):
    columns = Columns(0, 10, 5)
    columns.extend([0, 1, 2], [1.0, 2.0, math.nan])
    assert columns.continues([0, 1, 2, 3], [1.0, 2.0, math.nan, 3.0])
    assert not columns.continues(xs, ys)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("window", [(0, 2000), (700, 900), (-5, 300), (1999, 5000)])
@pytest.mark.parametrize("smoothing", [0.0, 0.9])
def test_many_points_are_folded_as_the_same_points_one_by_one_are(positive, window, smoothing):
    rng = random.Random(9)
    xs = sorted(rng.uniform(0, 2000) for _ in range(2000))
    ys = [math.nan if rng.random() < 0.01 else math.inf if rng.random() < 0.005 else rng.gauss(0.5, 0.3) for _ in xs]
    ys[400:800] = [abs(y) + 0.1 if math.isfinite(y) else 1.0 for y in ys[400:800]]
    many = Columns(*window, 37, smoothing=smoothing, positive=positive)
    single = Columns(*window, 37, smoothing=smoothing, positive=positive)
    many.extend(xs, ys)
    for count in range(1, len(xs) + 1):
        single.extend(xs[:count], ys[:count])
    assert many.by_dot == single.by_dot
    assert (many.skipped, many.last) == (single.skipped, single.last)


def test_the_median_is_of_the_points_of_its_column_or_of_the_nearest_hundred():
    rng = random.Random(4)
    ys = [rng.random() + (50 if rng.random() < 0.1 else 0) for _ in range(5000)]
    xs = list(range(1, 5001))
    whole, grown = Medians(0, 5000, 11), Medians(0, 5000, 11)
    whole.extend(xs, ys)
    for count in range(250, 5001, 250):
        grown.extend(xs[:count], ys[:count])
    assert {dot: column.last for dot, column in whole.by_dot.items()} == {
        dot: column.last for dot, column in grown.by_dot.items()
    }
    middle = [y for x, y in zip(xs, ys, strict=True) if 2250 <= x < 2750]
    assert whole.by_dot[5].last == statistics.median(middle)
    assert max(column.last for column in whole.by_dot.values()) < 2
    few = Medians(0, 5000, 5001)
    few.extend(xs, ys)
    assert few.by_dot[2500].last == statistics.median(ys[2449:2550])
