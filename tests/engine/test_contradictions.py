"""What a profile refuses or warns of before it is looked at on a machine: where, why, and that the remedy is one."""

import tomllib

import pytest

from engine.contract.contradictions import objective_contradictions
from engine.contract.fields import form_fields
from engine.contract.only_with import ONLY_WITH
from engine.contract.problems import Problem
from engine.contract.profile import decode_profile
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


def problems_of(*settings: str) -> list[Problem]:
    """Of a profile with these settings, each written `section.name = value`."""
    profile = {"model": {"base": "base.safetensors"}, "data": {"folders": [{"path": "pictures"}]}}
    for setting in settings:
        for section, fields in tomllib.loads(setting).items():
            profile[section] = profile.get(section, {}) | fields
    return decode_profile(profile)[1]


def warned(*settings: str) -> dict[str, str]:
    problems = problems_of(*settings)
    assert all(problem.severity == "warning" and problem.remedy for problem in problems), problems
    return {problem.path: problem.text for problem in problems}


# What does nothing alone, and with what it does something.
BESIDE = [
    ("model.fetch_tokenizer = true", ["model.tokenizer = 'folder'"], []),
    ("objective.huber_delta = 0.2", [], ["objective.loss = 'huber'"]),
    ("objective.huber_delta = 0.2", [], ["objective.loss = 'smooth_l1'"]),
    ("objective.min_snr_gamma = 3.0", ["objective.loss_weight = 'debiased'"], []),
    (
        "objective.min_snr_gamma = 3.0",
        ["objective.loss_weight = 'none'"],
        ["objective.loss_weight = 'debiased_aozora'"],
    ),
    ("objective.weight_floor = 0.1", ["objective.loss_weight = 'none'"], []),
    ("objective.logit_mean = 0.5", [], ["objective.timesteps = 'logit_normal'"]),
    ("objective.logit_std = 0.5", [], ["objective.timesteps = 'logit_normal'"]),
    ("objective.laplace_scale = 0.3", [], ["objective.timesteps = 'log_snr_laplace'"]),
    ("objective.beta_a = 2.0", [], ["objective.timesteps = 'beta'"]),
    ("objective.beta_b = 2.0", [], ["objective.timesteps = 'beta'"]),
    ("objective.timestep_curve = [[0, 0.5], [999, 1]]", [], ["objective.timesteps = 'curve'"]),
    ("objective.stratified = true", ["train.accumulate = 1"], []),
    ("objective.stratified = true", ["train.accumulate = 1"], ["train.accumulate = 1", "train.batch_size = 2"]),
    ("objective.null_condition = 'zeros'", ["objective.conditional_dropout = 0.0"], []),
    (
        "objective.null_condition = 'zeros'",
        ["objective.conditional_dropout = 0.0", "preview.prompts = ['a']", "preview.guidance = 1.0"],
        ["objective.conditional_dropout = 0.0", "preview.prompts = ['a']"],
    ),
    (
        "objective.null_condition = 'zeros'",
        ["objective.conditional_dropout = 0.0", "preview.prompts = ['a']", "preview.negative = 'b'"],
        ["objective.conditional_dropout = 0.0", "save.export_format = 'diffusers'"],
    ),
    ("schedule.minimum = 0.1", ["schedule.shape = 'constant'"], ["schedule.shape = 'linear'"]),
    ("save.export_format = 'unet'", ["save.export = false"], []),
    ("save.export_precision = 'bf16'", ["save.export = false"], []),
]


@pytest.mark.parametrize(("setting", "idle", "used"), BESIDE)
def test_a_setting_that_does_nothing_is_said(setting: str, idle: list[str], used: list[str]):
    path = setting.partition(" = ")[0]
    said = warned(setting, *idle)
    assert list(said) == [path] and said[path].startswith("has no effect ")
    assert warned(setting, *used) == {}


@pytest.mark.parametrize(("setting", "idle", "used"), BESIDE)
def test_a_default_that_does_nothing_is_not_worth_a_word(setting: str, idle: list[str], used: list[str]):
    assert warned(*idle) == {}


def test_every_row_of_the_table_is_a_setting_and_is_tried():
    assert ONLY_WITH.keys() <= form_fields().keys()
    assert ONLY_WITH.keys() == {setting.partition(" = ")[0] for setting, *_ in BESIDE}


def test_the_remedy_names_the_default_as_it_is_written():
    (found,) = problems_of("objective.logit_std = 0.5")
    assert str(found) == (
        'objective.logit_std: has no effect without timesteps = "logit_normal". Change that, or write logit_std = 1.0.'
    )
    (found,) = problems_of("objective.timestep_curve = [[0, 1]]")
    assert found.remedy == "Change that, or write timestep_curve = []."
    (found,) = problems_of("objective.stratified = true", "train.accumulate = 1")
    assert found.remedy == "Change that, or write stratified = false."


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
