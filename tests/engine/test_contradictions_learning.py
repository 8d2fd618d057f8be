"""What is refused and warned of between optimizer, schedule, rates and text encoders."""

import pytest
import torch

from engine.optim.average import Average
from tests.engine.settings import problems_of, warned

IMPORTED = "optimizer.kind = 'imported'"


def refused(*settings: str) -> dict[str, str]:
    problems = problems_of(*settings)
    assert all(problem.severity == "error" and problem.text and problem.remedy for problem in problems), problems
    return {problem.path: problem.text for problem in problems}


@pytest.mark.parametrize(
    ("settings", "path", "text"),
    [
        ([IMPORTED], "optimizer.import_path", "needs to be told which class"),
        (["optimizer.rates = { '*' = 0 }"], 'optimizer.rates."*"', "nothing learn"),
        (["optimizer.rates = { '*' = 0.0, attn2 = 5 }"], 'optimizer.rates."*"', "nothing learn"),
        (["optimizer.rates = { 'text_encoder.*' = 1 }"], 'optimizer.rates."text_encoder.*"', "does not learn"),
        (
            ["optimizer.rates = { text_encoder_2 = 1 }", "text_encoders.train = 'first'"],
            "optimizer.rates.text_encoder_2",
            "does not learn",
        ),
        (
            ["schedule.warmup_steps = 1000"],
            "schedule.warmup_steps",
            "as long as the run (1,000 steps): the rate would never fall",
        ),
        (["schedule.warmup_steps = 7", "train.steps = 5", "save.every = 5"], "schedule.warmup_steps", "5 steps"),
        (["schedule.shape = 'wsd'", "schedule.decay = 0.91"], "schedule.decay", "warm-up (0.1) and decay (0.91)"),
        (["schedule.shape = 'wsd'", "schedule.warmup_steps = 900"], "schedule.decay", "warm-up (0.9) and decay (0.2)"),
        (["schedule.shape = 'curve'"], "schedule.curve", "has no points"),
        (
            ["schedule.shape = 'constant'", "schedule.warmup_steps = 1000"],
            "schedule.warmup_steps",
            "would never be level at its peak",
        ),
        (["layers.train = ['*', 'text_encoder.*']"], "layers.train", "is of a text encoder, and here stand layers"),
        (["layers.freeze = ['text_encoder_2']"], "layers.freeze", "is of a text encoder, and here stand layers"),
        (["schedule.shape = 'curve'", "schedule.curve = [[0.5, 1], [0.5, 0]]"], "schedule.curve", "left to right"),
        (["schedule.shape = 'curve'", "schedule.curve = [[0, 0], [0.5, 0]]"], "schedule.curve", "is 0 at every step"),
        (
            ["text_encoders.train = 'both'", "save.export_format = 'unet'"],
            "save.export_format",
            "cannot hold the trained text encoders",
        ),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_to_be_changed(settings: list[str], path: str, text: str):
    found = refused(*settings)
    assert list(found) == [path] and text in found[path]


@pytest.mark.parametrize(
    "settings",
    [
        [IMPORTED, "optimizer.import_path = 'torch.optim.NAdam'"],
        ["optimizer.rates = { '*' = 0.5, mid_block = 0 }"],
        ["optimizer.rates = { 'text_encoder*' = 0.5 }", "text_encoders.train = 'second'"],
        ["schedule.warmup_steps = 999"],
        ["schedule.warmup_steps = 5000", "train.steps = 5001"],
        ["schedule.shape = 'wsd'", "schedule.decay = 0.9"],
        ["schedule.shape = 'wsd'", "schedule.warmup = 0.7", "schedule.decay = 0.3"],
        ["schedule.shape = 'wsd'", "schedule.warmup = 0.5", "schedule.decay = 0.5", "train.steps = 103"],
        ["schedule.shape = 'curve'", "schedule.curve = [[0, 0], [0.5, 2], [1, 0]]"],
        ["schedule.shape = 'restarts'", "schedule.cycles = 900"],
        ["text_encoders.train = 'both'", "text_encoders.stop_after = 1000"],
        ["text_encoders.train = 'both'", "save.export = false"],
        ["ema.decay = 0.9999"],
        ["ema.decay = 0.9999", "train.steps = 1", "save.every = 1"],
        ["ema.decay = 0.999", "ema.warmup = false"],
        ["ema.decay = 0.9993", "ema.warmup = false"],
        ["optimizer.master = 'fp32'"],
        ["optimizer.master = 'stochastic'", "optimizer.learning_rate = 1e-5"],
        [IMPORTED, "optimizer.import_path = 'a.B'", "optimizer.master = 'stochastic'"],
    ],
)
def test_what_can_be_is_not_spoken_of(settings: list[str]):
    assert problems_of(*settings) == []


@pytest.mark.parametrize(
    ("settings", "path", "text"),
    [
        (
            ["text_encoders.train = 'both'", "text_encoders.stop_after = 1001"],
            "text_encoders.stop_after",
            "beyond the last step (1,000)",
        ),
        (["ema.decay = 0.9994", "ema.warmup = false"], "ema.decay", "would still be 55 % base at the end"),
        (
            ["ema.decay = 0.9999", "ema.warmup = false", "train.steps = 100"],
            "ema.decay",
            "would still be 99 % base",
        ),
        (["schedule.shape = 'restarts'", "schedule.cycles = 901"], "schedule.cycles", "901 times in 900 steps"),
        (
            ["optimizer.master = 'nearest'", "optimizer.learning_rate = 8e-7"],
            "optimizer.master",
            "about 99 % of the updates at 8e-07 are lost",
        ),
        (
            ["optimizer.master = 'nearest'", "optimizer.learning_rate = 1e-5", "optimizer.kind = 'adamw'"],
            "optimizer.master",
            "about 88 % of the updates at 1e-05 are lost",
        ),
        (
            ["optimizer.master = 'nearest'", "optimizer.learning_rate = 1e-8"],
            "optimizer.master",
            "more than 99 % of the updates",
        ),
        (["optimizer.master = 'stochastic'"], "optimizer.master", "will mostly be noise at 1e-06: about 99 %"),
        (
            ["optimizer.master = 'nearest'", IMPORTED, "optimizer.import_path = 'a.B'"],
            "optimizer.master",
            "updates of less than half a bf16 step are lost",
        ),
    ],
)
def test_what_is_unwise_is_said(settings: list[str], path: str, text: str):
    found = warned(*settings)
    assert list(found) == [path] and text in found[path]


def test_a_network_in_fp32_loses_nothing():
    said = warned("model.precision = 'fp32'", "optimizer.master = 'nearest'")
    assert list(said) == ["optimizer.master"] and said["optimizer.master"].startswith("has no effect")


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        (["layers.train = ['text_encoder.*']"], 'and write train = "first" in [text_encoders].'),
        (["layers.train = ['text_encoder_2']"], 'and write train = "second" in [text_encoders].'),
        (["layers.train = ['text_encoder*']"], 'and write train = "both" in [text_encoders].'),
        (
            ["layers.train = ['text_encoder_2.*']", "text_encoders.train = 'first'"],
            'and write train = "both" in [text_encoders].',
        ),
        (["layers.train = ['text_encoder.*']", "text_encoders.train = 'first'"], "Remove it: [text_encoders] says"),
        (["layers.freeze = ['text_encoder.*']"], "Remove it: [text_encoders] says"),
    ],
)
def test_layers_of_text_encoders_are_led_to_their_own_section(settings: list[str], remedy: str):
    (problem,) = problems_of(*settings)
    assert remedy in problem.remedy


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9, 0.999, 0.9999])
def test_an_average_with_warm_up_keeps_no_more_of_the_base_than_a_tenth(decay: float):
    """Which is why it is never warned of: what the average itself does in its first step."""
    average = Average({"a": torch.Size([1])}, decay, warmup=True)
    average.start("a", torch.ones(1))
    average.begin_step()
    average.update("a", torch.zeros(1))
    assert average.tensors()["a"].item() <= 0.1 + 1e-7
