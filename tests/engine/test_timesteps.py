"""Timestep densities against scipy, and against values computed in float64 elsewhere."""

import math

import numpy as np
import pytest
from scipy import stats

from engine.contract import noise
from engine.contract.sections import Objective, Point
from engine.contract.timesteps import cumulative, density, timestep_at

EDGES = np.arange(1001) / 1000
CURVE = (Point(200, 0.0), Point(400, 2.0), Point(700, 2.0), Point(700.5, 0.0))
EVERY_KIND = [
    Objective(timesteps="uniform"),
    Objective(timesteps="noisier_half"),
    Objective(timesteps="logit_normal", logit_mean=0.7, logit_std=0.6),
    Objective(timesteps="log_snr_laplace", laplace_scale=0.3),
    Objective(timesteps="beta", beta_a=2.0, beta_b=5.0),
    Objective(timesteps="curve", timestep_curve=CURVE),
]

FLAT = [EVERY_KIND[0], EVERY_KIND[1], EVERY_KIND[-1]]


def laplace(scale: float, *, zero_terminal_snr: bool) -> np.ndarray:
    objective = Objective(timesteps="log_snr_laplace", laplace_scale=scale, zero_terminal_snr=zero_terminal_snr)
    return np.array(density(objective))


@pytest.mark.parametrize("objective", EVERY_KIND, ids=lambda objective: objective.timesteps)
def test_every_density_sums_to_one(objective):
    assert len(density(objective)) == 1000
    assert math.fsum(density(objective)) == pytest.approx(1, abs=1e-13) and min(density(objective)) >= 0


def test_uniform_and_noisier_half_hold_both_ends():
    assert density(EVERY_KIND[0]) == pytest.approx([0.001] * 1000)
    assert density(EVERY_KIND[1]) == pytest.approx([0.0] * 500 + [0.002] * 500)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-0.8, 0.4), (10.0, 0.05), (-3.0, 10.0)])
def test_logit_normal_has_scipys_masses(mean, deviation):
    objective = Objective(timesteps="logit_normal", logit_mean=mean, logit_std=deviation)
    with np.errstate(divide="ignore"):
        logits = np.log(EDGES) - np.log1p(-EDGES)
    expected = np.diff(stats.norm.cdf(logits, mean, deviation))
    np.testing.assert_allclose(density(objective), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (2.0, 5.0), (0.3, 0.3), (0.01, 3.0), (100.0, 100.0), (100.0, 0.02)])
def test_beta_has_scipys_masses(a, b):
    expected = np.diff(stats.beta.cdf(EDGES, a, b))
    np.testing.assert_allclose(density(Objective(timesteps="beta", beta_a=a, beta_b=b)), expected, atol=1e-13)


@pytest.mark.parametrize("low", [5e-324, 1e-9])
def test_a_beta_at_the_edge_of_its_range_is_still_a_density(low):
    for a, b in ((low, low), (low, 100.0), (100.0, low)):
        table = density(Objective(timesteps="beta", beta_a=a, beta_b=b))
        assert min(table) >= 0 and math.fsum(table) == pytest.approx(1)
        assert (table[0], table[-1]) == pytest.approx((b / (a + b), a / (a + b)), abs=1e-8)


def test_laplace_has_the_published_modes_and_masses():
    plain, zero_terminal = laplace(1.0, zero_terminal_snr=False), laplace(1.0, zero_terminal_snr=True)
    assert plain.argmax() == 354 and plain.max() == pytest.approx(3.7620e-3, abs=5e-8)
    assert plain[500] == pytest.approx(1.4376e-3, abs=5e-8) and plain[500:].sum() == pytest.approx(0.1915, abs=5e-5)
    assert zero_terminal.argmax() == 337 and zero_terminal.max() == pytest.approx(4.0000e-3, abs=5e-8)
    assert zero_terminal[500] == pytest.approx(1.2724e-3, abs=5e-8)
    assert zero_terminal[500:].sum() == pytest.approx(0.1469, abs=5e-5)


@pytest.mark.parametrize("scale", [0.3, 2.5])
def test_laplace_is_scipys_at_each_timesteps_log_snr(scale):
    signal = np.clip(noise.alphas_cumprod(zero_terminal_snr=True), 1e-8, 1 - 1e-8)
    expected = stats.laplace.pdf(np.log(signal / (1 - signal)), scale=scale)
    np.testing.assert_allclose(laplace(scale, zero_terminal_snr=True), expected / expected.sum(), rtol=1e-9)


def test_laplace_of_flow_stands_on_flows_own_scale():
    flow = Objective(prediction_type="flow", zero_terminal_snr=False, timesteps="log_snr_laplace")
    table = np.array(density(flow))
    assert table.argmax() == 499  # t = 1/2, where signal and noise are equal
    # ln snr = 2 ln((1 - t) / t): at t = 1/4 that is 2 ln 3, so e^-|ln snr| is 1/9.
    assert table[249] / table[499] == pytest.approx(1 / 9)


@pytest.mark.parametrize("scale", [5e-324, 1e-9, 100.0])
def test_laplace_at_the_edge_of_its_range_is_still_a_density(scale):
    table = laplace(scale, zero_terminal_snr=True)
    assert np.isfinite(table).all() and table.sum() == pytest.approx(1) and table.argmax() == 337


def test_a_drawn_curve_is_proportional_to_what_is_drawn():
    expected = np.interp(np.arange(1000), [200, 400, 700, 700.5], [0, 2, 2, 0])
    np.testing.assert_allclose(density(EVERY_KIND[-1]), expected / expected.sum(), rtol=1e-12)
    ten_times = Objective(timesteps="curve", timestep_curve=tuple(Point(point.at, point.value * 10) for point in CURVE))
    assert density(ten_times) == pytest.approx(density(EVERY_KIND[-1]), rel=1e-12)


@pytest.mark.parametrize("objective", EVERY_KIND, ids=lambda objective: objective.timesteps)
def test_the_cumulative_table_reaches_every_possible_timestep_and_no_other(objective):
    probabilities = np.array(density(objective))
    table = cumulative(density(objective))
    assert table[-1] == 1 and np.all(np.diff(table) >= 0)
    assert probabilities[timestep_at(table, 0.0)] > 0
    assert probabilities[timestep_at(table, math.nextafter(1, 0))] > 0
    assert all(probabilities[timestep_at(table, u)] > 0 for u in table if u < 1)
    middles = (np.array([0, *table[:-1]]) + table) / 2
    possible = [t for t in range(1000) if probabilities[t] > 1e-12]  # less than that no double next to 1 can tell
    assert [timestep_at(table, middles[t]) for t in possible] == possible


def test_the_cumulative_table_holds_both_ends_of_what_is_possible():
    below_one = math.nextafter(1, 0)
    ends = [(timestep_at(table, 0.0), timestep_at(table, below_one)) for table in map(cumulative, map(density, FLAT))]
    assert ends == [(0, 999), (500, 999), (201, 700)]
