"""The formula against what torch's own rounding does, and against the experiment of 500 steps."""

import pytest
import torch

from engine.contract.rounding_loss import share_lost


@pytest.mark.parametrize(("rate", "moved"), [(8e-7, 0.0096), (4e-6, 0.047), (1e-5, 0.12), (1e-4, 0.68)])
def test_the_shares_are_those_of_the_experiment(rate: float, moved: float):
    assert 1 - share_lost(rate) == pytest.approx(moved, rel=0.04)


@pytest.mark.parametrize("rate", [1e-6, 1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("std", [0.02, 0.3])
def test_the_formula_counts_what_torch_rounds_back(rate: float, std: float):
    draw = torch.Generator().manual_seed(0)
    weights = (torch.randn(1 << 21, generator=draw) * std).bfloat16()
    updated = weights.float() - rate * torch.randn(1 << 21, generator=draw)
    kept = (updated.bfloat16() == weights).double().mean().item()
    assert share_lost(rate, std) == pytest.approx(kept, abs=0.004)


def test_larger_rates_and_smaller_weights_lose_less():
    losses = [share_lost(10.0**exponent) for exponent in range(-9, 0)]
    assert losses == sorted(losses, reverse=True) and losses[0] > 0.999 > 0.01 > losses[-1] > 0
    assert share_lost(1e-6, 0.001) < share_lost(1e-6, 0.02)
