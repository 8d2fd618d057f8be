"""Golden losses: no change of code moves them unless it means to."""

import itertools
import json

import pytest
import torch

from tests.golden.curves import FILE, OBJECTIVES, OPTIMIZERS, curve

GOLDEN: dict[str, list[float]] = json.loads(FILE.read_text())


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("how", OPTIMIZERS)
@pytest.mark.parametrize("about", OBJECTIVES)
def test_losses_are_what_they_were(about, how):
    # Processors differ in the last digits of a sum; a formula that differs is seen in the third.
    assert curve(OBJECTIVES[about], OPTIMIZERS[how]) == pytest.approx(GOLDEN[f"{about}/{how}"], rel=5e-4)


def test_the_curves_tell_objectives_and_optimizers_apart():
    assert set(GOLDEN) == {f"{about}/{how}" for about in OBJECTIVES for how in OPTIMIZERS}
    for one, other in itertools.combinations(GOLDEN.values(), 2):
        assert max(abs(a - b) / b for a, b in zip(one, other, strict=True)) > 5e-3
