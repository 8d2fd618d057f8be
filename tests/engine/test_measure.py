import math

import pytest
import torch

from engine.model.measure import Change, measure


def test_equal_bytes_are_identical_whatever_they_mean():
    for tensor in (torch.randn(3, 5), torch.tensor(1.5), torch.arange(7), torch.empty(0), torch.tensor([math.nan])):
        assert measure(tensor, tensor.clone()).status == "identical"
    assert measure(torch.tensor([0.0]), torch.tensor([-0.0])) == Change("changed")


def test_sums_are_those_of_double_precision():
    before = torch.randn(700, 900)  # several pieces
    after = before.clone()
    after[:10] += torch.randn(10, 900) * 1e-4
    difference = after.double() - before.double()
    found = measure(before, after)
    assert (found.status, found.elements_changed) == ("changed", int((after != before).sum()))
    assert found.before_squared == pytest.approx(float(before.double().square().sum()), rel=1e-12)
    assert found.difference_squared == pytest.approx(float(difference.square().sum()), rel=1e-6)
    assert found.max_abs == pytest.approx(float(difference.abs().max()), rel=1e-6)


def test_a_cast_is_no_change_in_either_direction():
    numbers = torch.randn(40, 50)
    for one, other in (
        (torch.float32, torch.float16),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.bfloat16),
    ):
        assert measure(numbers.to(one), numbers.to(one).to(other)).status == "recast"
        assert measure(numbers.to(one).to(other), numbers.to(one)).status == "recast"
    moved = numbers.half()
    moved[3, 4] += 1
    assert measure(numbers, moved) == measure(numbers, moved.float())


def test_numbers_that_are_not_finite_are_counted_and_left_out_of_the_sums():
    before = torch.tensor([4.0, math.nan, math.inf, 2.0, 3.0])
    after = torch.tensor([4.5, math.nan, math.inf, math.inf, 3.0])
    assert measure(before, after) == Change("changed", 2, 25.0, 0.25, 0.5, (2, 3))
    assert measure(before, before.clone()) == Change("identical", not_finite=(2, 2))
    assert measure(before, before.half()).not_finite == (2, 2)
    assert measure(before.to(torch.float8_e5m2), before.to(torch.float8_e5m2)).not_finite == (2, 2)


def test_huge_numbers_do_not_overflow():
    found = measure(torch.tensor([3e38, 1.0]), torch.tensor([-3e38, 1.0]))
    assert found.max_abs == pytest.approx(6e38)
    assert found.not_finite == (0, 0)


def test_integers_and_transposed_tensors_compare_as_well():
    found = measure(torch.tensor([1, 2, 1 << 60]), torch.tensor([1, 3, 1 << 60]))
    assert (found.elements_changed, found.max_abs) == (1, 1.0)
    matrix = torch.randn(6, 4)
    assert measure(matrix.T, matrix.T.contiguous()).status == "identical"
    assert measure(matrix.T, matrix.T.contiguous() + 1).elements_changed == 24
