"""Settings that do nothing beside others: said, each with where it would."""

import pytest

from engine.contract.fields import form_fields
from engine.contract.only_with import ONLY_WITH
from tests.engine.settings import problems_of, warned

IMPORTED = ["optimizer.kind = 'imported'", "optimizer.import_path = 'prodigyopt.Prodigy'"]
DRAWN = ["schedule.shape = 'curve'", "schedule.curve = [[0, 1], [1, 0.5]]"]

# What does nothing alone, and with what it does something.
BESIDE = [
    ("memory.limit = 8.0", ["memory.device = 'cpu'"], []),
    ("memory.keep = 60", ["memory.plan = 'resident'"], ["memory.plan = 'fast'"]),
    ("memory.group = 2", ["memory.plan = 'fast'"], ["memory.plan = 'stage-major'"]),
    ("memory.graphs = false", ["memory.device = 'cpu'"], []),
    ("memory.compile = true", ["memory.device = 'cpu'"], []),
    ("memory.checkpointing = false", ["memory.plan = 'stage-major'"], []),
    ("memory.checkpointing = false", ["memory.plan = 'fast'"], ["memory.plan = 'plain'"]),
    (
        "memory.checkpointing = false",
        ["memory.plan = 'resident'"],
        ["memory.plan = 'resident'", "text_encoders.train = 'first'"],
    ),
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
    ("optimizer.master = 'fp32'", ["model.precision = 'fp32'"], []),
    ("optimizer.weight_decay = 0.1", IMPORTED, []),
    ("optimizer.weight_decay = 0.1", IMPORTED, ["optimizer.kind = 'adamw'"]),
    ("optimizer.decay_exponent = 0.7", ["optimizer.kind = 'adamw'"], []),
    ("optimizer.clip_threshold = 2.0", ["optimizer.kind = 'adamw'"], []),
    ("optimizer.momentum = 0.9", ["optimizer.kind = 'adamw'"], []),
    ("optimizer.beta1 = 0.8", [], ["optimizer.kind = 'adamw'"]),
    ("optimizer.beta2 = 0.99", [], ["optimizer.kind = 'adamw'"]),
    ("optimizer.epsilon = 1e-6", [], ["optimizer.kind = 'adamw'"]),
    ("optimizer.moments = 'bf16'", IMPORTED, ["optimizer.kind = 'adamw'"]),
    ("optimizer.import_path = 'a.B'", ["optimizer.kind = 'adamw'"], ["optimizer.kind = 'imported'"]),
    ("optimizer.arguments = { betas = [0.9, 0.99] }", [], IMPORTED),
    ("schedule.warmup = 0.2", ["schedule.warmup_steps = 5"], ["schedule.shape = 'constant'"]),
    ("schedule.warmup = 0.2", DRAWN, []),
    ("schedule.warmup_steps = 5", DRAWN, []),
    ("schedule.minimum = 0.1", ["schedule.shape = 'constant'"], ["schedule.shape = 'linear'"]),
    ("schedule.minimum = 0.1", DRAWN, ["schedule.shape = 'rex'"]),
    ("schedule.power = 3.0", [], ["schedule.shape = 'polynomial'"]),
    ("schedule.cycles = 3", [], ["schedule.shape = 'restarts'"]),
    ("schedule.decay = 0.1", [], ["schedule.shape = 'wsd'"]),
    ("schedule.curve = [[0, 1], [1, 0]]", [], ["schedule.shape = 'curve'"]),
    ("text_encoders.rate = 0.2", ["text_encoders.train = 'second'"], ["text_encoders.train = 'first'"]),
    ("text_encoders.rate_2 = 0.2", ["text_encoders.train = 'first'"], ["text_encoders.train = 'both'"]),
    ("text_encoders.token_embedding = 'row_wise'", [], ["text_encoders.train = 'first'"]),
    ("text_encoders.element_clip = 1.0", [], ["text_encoders.train = 'second'"]),
    ("text_encoders.element_clip = 1.0", ["text_encoders.train = 'both'", *IMPORTED], ["text_encoders.train = 'both'"]),
    ("text_encoders.stop_after = 9", [], ["text_encoders.train = 'both'"]),
    ("ema.warmup = false", [], ["ema.decay = 0.99"]),
    ("validation.every = 7", [], ["validation.pictures = 2"]),
    ("ema.previews = false", ["ema.decay = 0.99"], ["ema.decay = 0.99", "preview.prompts = ['a']"]),
    ("ema.previews = false", ["preview.prompts = ['a']"], ["ema.decay = 0.99", "preview.prompts = ['a']"]),
    ("ema.previews_of_both = true", ["ema.decay = 0.99"], ["ema.decay = 0.99", "preview.prompts = ['a']"]),
    ("ema.export = 'both'", [], ["ema.decay = 0.99"]),
    ("ema.export = 'both'", ["ema.decay = 0.99", "save.export = false"], ["ema.decay = 0.99"]),
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
    (found,) = problems_of("optimizer.arguments = { a = 1 }")
    assert found.remedy == "Change that, or write arguments = {}."
    (found,) = problems_of("objective.stratified = true", "train.accumulate = 1")
    assert found.remedy == "Change that, or write stratified = false."
