"""What a profile refuses or warns of before it is looked at on a machine: where, why, and that the remedy is one."""

import pytest

from engine.contract.contradictions import objective_contradictions
from engine.contract.sections import Objective, Point
from tests.engine.settings import problems_of, warned

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


def test_unwise_objectives_are_warned_of():
    assert found(noise_offset=0.05) == [("warning", "noise_offset")]


def test_a_warning_does_not_hide_behind_an_error():
    wrong = {"noise_offset": 0.05, "weight_curve": (Point(0, 0),)}
    assert found(**wrong) == [("error", "weight_curve"), ("warning", "noise_offset")]


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


# Between sections


def test_an_export_that_leaves_the_vae_behind_is_said():
    vae = "model.vae = 'vae.safetensors'"
    assert warned(vae) == warned(vae, "save.export_format = 'diffusers'") == {}
    assert list(warned(vae, "save.export_format = 'unet'")) == ["model.vae"]
    assert list(warned(vae, "save.export_format = 'unet'", "save.export = false")) == ["save.export_format"]


@pytest.mark.parametrize(
    ("settings", "figure"),
    [
        # The bytes a pixel times the largest bucket, and the weights.
        (["data.resolution = 2304"], "encoding 2304x2304 in one piece takes about 13.0 GiB of the card in fp32"),
        (["data.resolution = 2240"], "12.3 GiB"),
        (["data.resolution = 2176"], ""),
        (["data.resolution = 1152"], ""),
        (["data.resolution = 2880", "data.vae_precision = 'bf16'"], "12.1 GiB of the card in bf16"),
        (["data.resolution = 2816", "data.vae_precision = 'bf16'"], ""),
        (["data.resolution = 4096"], "40.5 GiB"),
        (["data.resolution = 4096", "data.vae_tiling = 'on'"], ""),
        (["data.resolution = 4096", "data.vae_tiling = 'auto'"], ""),
    ],
)
def test_encoding_that_no_usual_card_can_do_in_one_piece_is_said_with_the_figure(settings: list[str], figure: str):
    said = warned("data.vae_tiling = 'off'", *settings)
    assert list(said) == (["data.vae_tiling"] if figure else [])
    assert figure in said.get("data.vae_tiling", "")


def test_a_resolution_below_one_step_is_one_error():
    (found,) = problems_of("data.resolution = 64", "data.bucket_step = 128", "data.vae_tiling = 'off'")
    assert (found.path, found.severity) == ("data.resolution", "error")
