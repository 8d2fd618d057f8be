"""Draws: functions of (seed, stream, position), with the distribution that they promise."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from engine.contract.sections import Objective as Settings
from engine.contract.sections import Point
from engine.contract.seeding import derive
from engine.contract.timesteps import cumulative, density, timestep_at
from engine.objective.objective import Objective
from engine.objective.randomness import _within, noise_of, timesteps_of

DENSITIES = [
    Settings(timesteps="uniform"),
    Settings(timesteps="noisier_half"),
    Settings(timesteps="logit_normal", logit_mean=0.5),
    Settings(timesteps="log_snr_laplace"),
    Settings(timesteps="beta", beta_a=0.5, beta_b=0.5),
    Settings(timesteps="curve", timestep_curve=(Point(10, 0.0), Point(20, 1.0), Point(500, 0.0))),
]
UNIFORM = cumulative(density(DENSITIES[0]))


def drawn(settings: Settings, positions: range, *, seed: int = 1, window: int) -> list[int]:
    objective = Objective(settings, seed, window=window)
    return objective.ask(torch.zeros(len(positions), 4, 1, 1), positions).timesteps.tolist()


def stratified(settings: Settings) -> Settings:
    return Settings(
        timesteps=settings.timesteps,
        logit_mean=settings.logit_mean,
        beta_a=settings.beta_a,
        beta_b=settings.beta_b,
        timestep_curve=settings.timestep_curve,
        stratified=True,
    )


@pytest.mark.parametrize("settings", DENSITIES, ids=lambda settings: settings.timesteps)
def test_drawn_timesteps_have_the_density(settings):
    probabilities = np.array(density(settings))
    counts = np.bincount(timesteps_of(1, range(20_000), cumulative(probabilities)).numpy(), minlength=1000)
    assert counts[probabilities == 0].sum() == 0
    # Neighbours put together until 200 draws are expected of each group, as a chi-square test wants it.
    groups = np.floor(np.cumsum(probabilities) * 100 - 1e-9).clip(0).astype(int)
    observed, expected = np.bincount(groups, counts), np.bincount(groups, probabilities) * 20_000
    kept = expected > 0
    assert stats.chisquare(observed[kept], expected[kept]).pvalue > 0.001


def test_uniform_draws_reach_both_ends_inclusive():
    found = set(timesteps_of(1, range(20_000), UNIFORM).tolist())
    assert found == set(range(1000))


def test_noisier_half_draws_500_to_999_inclusive():
    found = set(timesteps_of(1, range(20_000), cumulative(density(DENSITIES[1]))).tolist())
    assert found == set(range(500, 1000))


@pytest.mark.parametrize("settings", DENSITIES, ids=lambda settings: settings.timesteps)
def test_a_stratified_window_draws_once_from_every_equal_share(settings):
    """A timestep of probability p holds p x W shares of the window's W, so it comes up that often, give or take the
    two shares that it has a part of."""
    window = 2000
    counts = np.bincount(drawn(stratified(settings), range(window, 2 * window), window=window), minlength=1000)
    expected = np.array(density(settings)) * window
    assert (counts >= np.floor(expected) - 1).all() and (counts <= np.ceil(expected) + 1).all()
    assert counts[expected == 0].sum() == 0 and counts.sum() == window
    if settings.timesteps == "uniform":
        assert set(counts) == {2}


def test_every_stratified_window_is_a_new_order_of_all_its_shares():
    orders = []
    for window in range(50):
        shares = [t // 125 for t in drawn(stratified(DENSITIES[0]), range(8 * window, 8 * window + 8), window=8)]
        assert sorted(shares) == list(range(8))
        orders.append(tuple(shares))
    assert len(set(orders)) > 45
    # Over the windows each position sees every share: 50 draws of 8, six of each expected.
    assert all(len({order[place] for order in orders}) == 8 for place in range(8))


def test_stratified_draws_have_the_density_too():
    """Each window's draws are spread out; over many windows every timestep is as frequent as it should be."""
    counts = np.bincount(drawn(stratified(DENSITIES[0]), range(20_000), window=8), minlength=1000)
    assert stats.chisquare(counts.reshape(100, 10).sum(1)).pvalue > 0.001
    within = np.array(drawn(stratified(DENSITIES[0]), range(4000), window=4)) % 250
    assert stats.kstest((within + 0.5) / 250, "uniform").pvalue > 0.001


def test_a_windows_mean_timestep_is_steadier_when_stratified():
    plain, spread = (
        np.array(drawn(settings, range(3200), window=16)).reshape(200, 16).mean(1).std()
        for settings in (DENSITIES[0], stratified(DENSITIES[0]))
    )
    assert plain == pytest.approx(1000 / math.sqrt(12 * 16), rel=0.2)
    assert spread == pytest.approx(1000 / math.sqrt(12 * 16**3), rel=0.2)


def test_timesteps_depend_on_seed_and_position_only():
    for settings in (DENSITIES[0], stratified(DENSITIES[0])):
        whole = drawn(settings, range(64), window=16)
        assert drawn(settings, range(37, 41), window=16) == whole[37:41]
        backwards = [drawn(settings, range(at, at + 1), window=16)[0] for at in reversed(range(64))]
        assert backwards[::-1] == whole
        assert drawn(settings, range(64), window=16, seed=2) != whole


def test_the_end_of_the_last_share_does_not_round_up_to_a_timestep_beyond_the_last():
    assert timestep_at(UNIFORM, _within(511, 512, 1 - 2.0**-53)) == 999


def test_draws_depend_on_seed_stream_and_position_only():
    together = noise_of(5, [10, 11, 12], (4, 2, 2))
    assert torch.equal(together[1:2], noise_of(5, [11], (4, 2, 2)))
    assert not torch.equal(together[1:2], noise_of(6, [11], (4, 2, 2)))
    assert not torch.equal(together[1:2], noise_of(5, [11], (4, 2, 2), stream="ip_noise"))


def test_streams_do_not_coincide_where_32_bits_of_a_hash_would():
    """These two hashes agree in their lower half, all that torch's CPU generator would keep of them."""
    assert derive(42, "noise", 9521) % 2**32 == derive(42, "ip_noise", 76118) % 2**32
    first, second = noise_of(42, [9521], (4, 8, 8)), noise_of(42, [76118], (4, 8, 8), stream="ip_noise")
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 0.3


def test_noise_is_standard_normal():
    taken = noise_of(3, range(400), (4, 16, 16)).double()
    assert taken.mean().item() == pytest.approx(0, abs=0.01) and taken.std().item() == pytest.approx(1, abs=0.01)
    assert (taken**4).mean().item() == pytest.approx(3, abs=0.05)
