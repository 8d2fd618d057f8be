"""Loss weights against published values, and against formulas written out here for each prediction type."""

import itertools
import math

import msgspec
import numpy as np
import pytest

from engine.contract import noise
from engine.contract.contradictions import objective_contradictions
from engine.contract.loss_weight import weights
from engine.contract.problems import errors
from engine.contract.sections import Objective, Point
from engine.contract.timesteps import density, mean_weight

# t, epsilon weight on the plain schedule, v weight on the zero-terminal one, both Min-SNR with gamma 5.
MIN_SNR = [
    (0, 0.004253616, 0.00425),
    (1, 0.008534403, 0.008832769),
    (100, 0.5914434, 0.5661936),
    (250, 1.0, 0.652457),
    (500, 1.0, 0.2410188),
    (750, 1.0, 0.03279912),
    (998, 1.0, 1.967888e-07),
    (999, 1.0, 0.0),
]
EPSILON = Objective(prediction_type="epsilon", zero_terminal_snr=False)
V = Objective(prediction_type="v_prediction", zero_terminal_snr=False)
V_ZERO_TERMINAL = Objective(prediction_type="v_prediction", zero_terminal_snr=True)
FLOW = Objective(prediction_type="flow", zero_terminal_snr=False)
KINDS = ("none", "min_snr", "debiased", "debiased_sd_scripts", "debiased_onetrainer", "debiased_aozora")
DENSITIES = ("uniform", "noisier_half", "logit_normal", "log_snr_laplace", "beta", "curve")


def changed(objective: Objective, **fields) -> Objective:
    return msgspec.structs.replace(objective, **fields)


@pytest.mark.parametrize("row", MIN_SNR, ids=lambda row: f"t={row[0]}")
def test_min_snr_has_the_published_values(row):
    t, epsilon, v = row
    assert weights(EPSILON)[t] == pytest.approx(epsilon, rel=1e-5)
    assert weights(V_ZERO_TERMINAL)[t] == pytest.approx(v, rel=1e-5)


def test_min_snr_of_v_peaks_where_published():
    table = weights(V_ZERO_TERMINAL)
    assert max(table) == pytest.approx(0.8322, abs=5e-5) and table.index(max(table)) == 139


def test_mean_weight_is_as_published_over_all_timesteps_and_over_the_noisier_half():
    assert mean_weight(V_ZERO_TERMINAL) == pytest.approx(0.2776, abs=5e-5)
    assert mean_weight(changed(V_ZERO_TERMINAL, timesteps="noisier_half")) == pytest.approx(0.0628, abs=5e-5)


@pytest.mark.parametrize("kind", ["min_snr", "debiased"])
@pytest.mark.parametrize("objective", [EPSILON, V, FLOW], ids=lambda objective: objective.prediction_type)
def test_a_papers_weight_counts_an_error_in_the_picture_the_same_whatever_is_predicted(objective, kind):
    """An x_0 that is off by 1 makes the prediction of a network that keeps to x_t off by this much, per pixel."""
    t = np.arange(1, 1001) / 1000
    alpha = 1 - t if objective.prediction_type == "flow" else np.sqrt(noise.alphas_cumprod(zero_terminal_snr=False))
    sigma = t if objective.prediction_type == "flow" else np.sqrt(1 - alpha**2)
    noise_off = alpha / sigma  # x_t stands, so what x_0 gains the noise loses
    off = {"epsilon": noise_off, "v_prediction": alpha * noise_off + sigma, "flow": noise_off + 1}
    snr = (alpha / sigma) ** 2
    expected = {"min_snr": np.minimum(snr, 2.5), "debiased": np.sqrt(snr)}[kind]
    table = np.array(weights(changed(objective, loss_weight=kind, min_snr_gamma=2.5)))
    np.testing.assert_allclose(table * off[objective.prediction_type] ** 2, expected, rtol=1e-9, atol=1e-15)


def test_the_forms_for_flow_are_as_derived():
    t = np.arange(1, 1001) / 1000
    np.testing.assert_allclose(weights(changed(FLOW, loss_weight="debiased")), (1 - t) * t, rtol=1e-12, atol=1e-18)
    table = weights(changed(FLOW, loss_weight="min_snr", min_snr_gamma=3.0))
    np.testing.assert_allclose(table, np.minimum((1 - t) ** 2, 3 * t**2), rtol=1e-12, atol=1e-18)


def test_other_programs_forms_have_the_published_values():
    sd_scripts, onetrainer = (changed(V, loss_weight=f"debiased_{name}") for name in ("sd_scripts", "onetrainer"))
    assert weights(sd_scripts)[500] == pytest.approx(0.72367, abs=5e-6)
    assert weights(onetrainer)[500] == pytest.approx(0.85069, abs=5e-6)
    assert weights(sd_scripts)[0] == pytest.approx(0.000999, abs=5e-7)
    assert weights(onetrainer)[0] == pytest.approx(0.031607, abs=5e-7)
    ratios = np.array(noise.snr(EPSILON))
    for name in ("sd_scripts", "onetrainer"):
        table = weights(changed(EPSILON, loss_weight=f"debiased_{name}"))
        np.testing.assert_allclose(table, 1 / np.sqrt(np.minimum(ratios, 1000)), rtol=1e-12)
    assert weights(changed(EPSILON, loss_weight="debiased"))[0] == pytest.approx(1 / math.sqrt(1175.4706), rel=1e-7)


@pytest.mark.parametrize("objective", [EPSILON, V, V_ZERO_TERMINAL], ids=["epsilon", "v", "v zero-terminal"])
def test_old_aozoras_form_is_the_same_whatever_is_predicted(objective):
    table = weights(changed(objective, loss_weight="debiased_aozora", min_snr_gamma=2.0))
    ratios = noise.snr(objective)
    assert table[-1] == 1
    assert table[:999] == pytest.approx([min(1, 2 / math.sqrt(ratio)) for ratio in ratios[:999]], rel=1e-12)


def test_the_floor_lifts_what_is_below_it_and_the_curve_multiplies_afterwards():
    plain = np.array(weights(V_ZERO_TERMINAL))
    floored = changed(V_ZERO_TERMINAL, weight_floor=0.1)
    np.testing.assert_array_equal(weights(floored), np.maximum(plain, 0.1))
    drawn = changed(floored, weight_curve=(Point(100, 1.0), Point(300, 3.0), Point(999, 0.0)))
    factor = np.interp(np.arange(1000), [100, 300, 999], [1, 3, 0])
    np.testing.assert_allclose(weights(drawn), np.maximum(plain, 0.1) * factor, rtol=1e-12, atol=1e-15)
    assert set(weights(changed(V_ZERO_TERMINAL, loss_weight="none"))) == {1.0}


def test_every_weight_is_a_number_or_the_objective_is_refused():
    """All prediction types, schedules, weights and densities: what `contradictions` lets pass has finite tables."""
    kinds = itertools.product(("epsilon", "v_prediction", "flow"), (False, True), KINDS, DENSITIES)
    passed = 0
    for prediction_type, zero_terminal_snr, kind, timesteps in kinds:
        objective = Objective(
            prediction_type=prediction_type,
            zero_terminal_snr=zero_terminal_snr,
            loss_weight=kind,
            timesteps=timesteps,
            timestep_curve=(Point(0, 1.0), Point(999, 2.0)),
        )
        if errors(objective_contradictions(objective)):
            continue
        passed += 1
        table = np.array(weights(objective), dtype=np.float32)
        assert np.isfinite(table).all() and (table >= 0).all(), objective
        assert sum(density(objective)) == pytest.approx(1, abs=1e-12) and min(density(objective)) >= 0
        assert math.isfinite(mean_weight(objective)) and mean_weight(objective) > 0
    assert passed == 6 * (6 + 12 + 3)  # epsilon plain; v twice; flow without the forms that it does not have


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        (changed(EPSILON, zero_terminal_snr=True), "no weight where there is no signal"),
        (changed(EPSILON, zero_terminal_snr=True, loss_weight="none"), "no weight where there is no signal"),
        (changed(FLOW, loss_weight="debiased_sd_scripts"), "no form for rectified flow"),
        (changed(FLOW, loss_weight="debiased_onetrainer"), "no form for rectified flow"),
        (changed(FLOW, loss_weight="debiased_aozora"), "no form for rectified flow"),
        (changed(V, weight_curve=(Point(5, 1.0), Point(5, 2.0))), "points go from left to right"),
    ],
)
def test_what_has_no_weight_is_an_error_not_a_wrong_number(objective, reason):
    with pytest.raises(ValueError, match=reason):
        weights(objective)
    assert errors(objective_contradictions(objective))
