"""What the objective refuses or warns of: where, why, and that the remedy is one."""

import pytest

from engine.contract.contradictions import objective_contradictions
from engine.contract.sections import Objective, Point

RISING = (Point(0, 0.5), Point(999, 1.0))
FLOW = {"prediction_type": "flow", "zero_terminal_snr": False}


def found(**fields) -> list[tuple[str, str]]:
    problems = objective_contradictions(Objective(**fields))
    assert all(problem.text and problem.remedy for problem in problems)
    return [(problem.severity, problem.path.removeprefix("objective.")) for problem in problems]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"prediction_type": "epsilon", "zero_terminal_snr": True}, "zero_terminal_snr"),
        ({"prediction_type": "flow", "zero_terminal_snr": True}, "zero_terminal_snr"),
        (FLOW | {"loss_weight": "debiased_sd_scripts"}, "loss_weight"),
        (FLOW | {"loss_weight": "debiased_onetrainer"}, "loss_weight"),
        (FLOW | {"loss_weight": "debiased_aozora"}, "loss_weight"),
        ({"timesteps": "curve"}, "timestep_curve"),
        ({"timesteps": "curve", "timestep_curve": (Point(0, 1), Point(1000, 1))}, "timestep_curve"),
        ({"timesteps": "curve", "timestep_curve": (Point(9, 1), Point(9, 1))}, "timestep_curve"),
        ({"timesteps": "curve", "timestep_curve": (Point(0, 0),)}, "timestep_curve"),
        ({"weight_curve": (Point(0, 1), Point(1000, 1))}, "weight_curve"),
        ({"weight_curve": (Point(9, 1), Point(8, 1))}, "weight_curve"),
        ({"weight_curve": (Point(0, 0),)}, "weight_curve"),
        # The last timestep alone, which counts nothing at zero terminal SNR, by its weight or by what is drawn.
        ({"timesteps": "curve", "timestep_curve": (Point(998, 0), Point(999, 1))}, "loss_weight"),
        ({"timesteps": "logit_normal", "logit_mean": 10.0, "logit_std": 0.01}, "loss_weight"),
        ({"timesteps": "noisier_half", "weight_curve": (Point(0, 1), Point(400, 0))}, "weight_curve"),
    ],
)
def test_impossible_objectives_are_refused_at_the_setting_to_change(fields, path):
    assert found(**fields) == [("error", path)]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"timestep_curve": RISING}, "timestep_curve"),
        ({"noise_offset": 0.05}, "noise_offset"),
    ],
)
def test_unwise_objectives_are_warned_of(fields, path):
    assert found(**fields) == [("warning", path)]


def test_a_warning_does_not_hide_behind_an_error():
    wrong = {"noise_offset": 0.05, "weight_curve": (Point(0, 0),), "timestep_curve": RISING}
    assert found(**wrong) == [("error", "weight_curve"), ("warning", "timestep_curve"), ("warning", "noise_offset")]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prediction_type": "epsilon", "zero_terminal_snr": False, "noise_offset": 0.05},
        FLOW | {"loss_weight": "debiased", "noise_offset": 0.05},
        {"timesteps": "curve", "timestep_curve": RISING, "weight_curve": RISING},
        {"timesteps": "curve", "timestep_curve": (Point(998, 0), Point(999, 1)), "weight_floor": 0.01},
        {"loss_weight": "debiased_sd_scripts"},
        {"stratified": True, "loss": "huber", "ip_noise_gamma": 0.1, "timesteps": "noisier_half"},
    ],
)
def test_possible_objectives_pass(fields):
    assert found(**fields) == []
