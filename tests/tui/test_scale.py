import math

import pytest

from aozora_tui.widgets.scale import linear_ticks, log_ticks, nice_step, reach, settle, short, tick_labels, whole


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.12344, "0.1234"),
        (0.0012, "0.0012"),
        (1.0, "1.000"),
        (12.345, "12.35"),
        (999.96, "1.000k"),
        (123456.0, "123.5k"),
        (-1234567.0, "-1.235M"),
        (1.5e-5, "1.500e-5"),
        (1e20, "1.000e20"),
        (math.nan, "not finite"),
        (-math.inf, "not finite"),
    ],
)
def test_numbers_are_short_and_keep_four_places(value, text):
    assert short(value) == text


def test_step_numbers_are_written_out_up_to_six_digits():
    assert [whole(x) for x in (0, 1500, 999_999, 1_250_000)] == ["0", "1,500", "999,999", "1.25M"]


@pytest.mark.parametrize(("span", "count", "step"), [(1, 5, 0.2), (1, 2, 0.5), (7, 7, 1), (7, 6, 2), (3e-5, 3, 1e-5)])
def test_steps_are_one_two_or_five(span, count, step):
    assert nice_step(span, count) == pytest.approx(step)


def test_ticks_lie_inside_and_carry_no_float_noise():
    assert linear_ticks(0.0, 0.3, 3) == (0.0, 0.1, 0.2, 0.3)
    assert linear_ticks(-1.2, 1.2, 5) == (-1.0, -0.5, 0.0, 0.5, 1.0)


def test_log_ticks_are_decades_with_twos_and_fives_where_few():
    assert log_ticks(1e-6, 1e-3, 4) == (1e-6, 1e-5, 1e-4, 1e-3)
    assert log_ticks(0.1, 1.0, 4) == (0.1, 0.2, 0.5, 1.0)
    assert len(log_ticks(1e-30, 1e30, 5)) <= 5


def test_labels_of_one_axis_share_their_decimals():
    assert tick_labels((0.1, 0.15, 0.2)) == ("0.10", "0.15", "0.20")
    assert tick_labels((0.0, 5e-6, 1e-5)) == ("0", "5e-6", "1e-5")
    assert tick_labels((0.0, 20_000.0, 40_000.0)) == ("0", "20k", "40k")
    assert tick_labels((0.001, 0.01, 0.1, 1.0)) == ("0.001", "0.01", "0.1", "1")


def test_a_range_stays_while_the_data_fit_and_fill_it():
    first = settle(None, 0.09, 0.21)
    assert first[0] <= 0.09 and first[1] >= 0.21
    assert settle(first, 0.1, 0.2) == first
    assert settle(first, 0.09, first[1] * 1.01)[1] > first[1]
    assert settle((0.0, 100.0), 0.1, 0.2)[1] < 1


@pytest.mark.parametrize("value", [0.0, 1e-5, -3.0, 1e300, 1e-310])
def test_a_constant_gets_a_range_around_it(value):
    low, high = settle(None, value, value)
    assert low <= value <= high and low < high
    assert settle((low, high), value, value) == (low, high)


@pytest.mark.parametrize(("low", "high"), [(1e-6, 1e-6), (3e-7, 0.4), (1.0, 9.0), (1e-290, 1e300)])
def test_a_log_range_is_positive_and_encloses_the_data(low, high):
    bottom, top = settle(None, low, high, log=True)
    assert 0 < bottom <= low and high <= top and bottom < top
    assert settle((bottom, top), low, high, log=True) == (bottom, top)


def test_an_axis_of_unknown_length_grows_in_round_jumps():
    assert [reach(None, x) for x in (0, 1, 7, 150)] == pytest.approx([1, 1, 10, 200])
    assert reach(200.0, 180.0) == 200.0
    assert reach(200.0, 201.0) == pytest.approx(500)
    assert reach(200.0, 3.0) == pytest.approx(5)
