"""Patterns that mean nothing in the base checkpoint are refused, each at its line, with what to write instead."""

from pathlib import Path

import pytest

from engine.contract.check import check_file


@pytest.fixture
def check(demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is said of a profile with these lines more, by path: text and remedy."""
    monkeypatch.setenv("AOZORA_RUNS", str(tmp_path / "runs"))

    def check(lines: str, severity: str = "error") -> dict[str, tuple[str, str]]:
        profile = tmp_path / "profile.toml"
        profile.write_text(
            f'[model]\nbase = "{demo_folder}/aozora-demo.safetensors"\ntokenizer = "{demo_folder}/tokenizer"\n'
            f'[data]\ncache = "{tmp_path}/cache"\n[[data.folders]]\npath = "{demo_folder}/pictures"\n{lines}\n'
        )
        problems = check_file(profile).problems
        assert {problem.severity for problem in problems} <= {severity}
        return {problem.path: (problem.text, problem.remedy) for problem in problems}

    return check


@pytest.mark.parametrize(
    ("lines", "path", "remedy"),
    [
        ('[layers]\ntrain = ["*", "atn2"]', "layers.train", "Did you mean `attn2`?"),
        ('[layers]\nfreeze = ["zzzz"]', "layers.freeze", "Patterns look like"),
        ('[layers]\ntrain = ["depth:0-2", "depth:3"]', "layers.train", "write `depth:2` or `depth:0-1`"),
        ('[layers]\nfreeze = ["depth:x"]', "layers.freeze", "write `depth:2` or `depth:0-1`"),
        ('[optimizer.rates]\n"attn2" = 0.5\n"atn1" = 2', "optimizer.rates.atn1", "Did you mean `attn1`?"),
        ('[optimizer.rates]\n"depth:3-1" = 0.5', 'optimizer.rates."depth:3-1"', "write `depth:2`"),
        ('[optimizer.rates]\n"*.atn1.*" = 0.5', 'optimizer.rates."*.atn1.*"', "Did you mean `attn1`?"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error(check, lines: str, path: str, remedy: str):
    found = check(lines)
    assert list(found) == [path]
    text, said = found[path]
    assert text.endswith("matches no tensor of the UNet") and remedy in said


@pytest.mark.parametrize(
    "lines",
    [
        '[layers]\ntrain = ["depth:1-2", "conv_in"]\nfreeze = ["depth:2"]',
        '[optimizer.rates]\nattn2 = 0.5\n"depth:1" = 2\n"*.bias" = 0',
        '[text_encoders]\ntrain = "both"\n[optimizer.rates]\n"text_encoder_2.text_model.encoder.layers.1" = 2',
        '[text_encoders]\ntrain = "second"\n[optimizer.rates]\n"text_encoder_2.text_projection.weight" = 2',
        '[text_encoders]\ntrain = "first"\n[optimizer.rates]\nself_attn = 2\n"*.mlp.fc1.*" = 0.5',
        '[text_encoders]\ntrain = "first"\n[optimizer.rates]\n"text_encoder.encoder.layers.0" = 0',
        '[text_encoders]\ntrain = "second"\ntoken_embedding = "row_wise"\n[optimizer.rates]\ntoken_embedding = 0.1',
        '[layers]\ntrain = ["mid_block"]\n[optimizer.rates]\nmid_block = 0\n[text_encoders]\ntrain = "first"',
    ],
)
def test_patterns_that_mean_something_pass(check, lines: str):
    assert check(lines) == {}


@pytest.mark.parametrize(
    ("lines", "path", "text", "remedy"),
    [
        (
            '[text_encoders]\ntrain = "both"\n[optimizer.rates]\n"text_encoder_2.text_model.whatever" = 2',
            'optimizer.rates."text_encoder_2.text_model.whatever"',
            "matches no tensor of the text encoders",
            "Patterns look like",
        ),
        (
            '[text_encoders]\ntrain = "first"\n[optimizer.rates]\n"text_encoder.*.self_atn.*" = 2',
            'optimizer.rates."text_encoder.*.self_atn.*"',
            "matches no tensor of the text encoders",
            "Did you mean `self_attn`?",
        ),
        (
            '[text_encoders]\ntrain = "first"\n[optimizer.rates]\nself_atn = 2',
            "optimizer.rates.self_atn",
            "matches no tensor of the UNet or the text encoders",
            "Did you mean `self_attn`?",
        ),
        (
            "[optimizer.rates]\nself_attn = 2",
            "optimizer.rates.self_attn",
            '"self_attn" is of a text encoder that does not learn',
            'write train = "both" in [text_encoders].',
        ),
        (
            '[text_encoders]\ntrain = "first"\n[optimizer.rates]\ntext_projection = 2',
            "optimizer.rates.text_projection",
            "is of a text encoder that does not learn",
            'write train = "both" in [text_encoders].',
        ),
    ],
)
def test_rates_of_text_encoders_are_looked_up_in_them(check, lines: str, path: str, text: str, remedy: str):
    found = check(lines)
    assert list(found) == [path]
    assert text in found[path][0] and remedy in found[path][1]


@pytest.mark.parametrize(
    ("lines", "path", "text", "remedy"),
    [
        (
            '[text_encoders]\ntrain = "first"\n[optimizer.rates]\ntoken_embedding = 2',
            "optimizer.rates.token_embedding",
            "the token embedding is frozen",
            'write token_embedding = "row_wise"',
        ),
        (
            '[text_encoders]\ntrain = "first"\n[optimizer.rates]\n"text_encoder.final_layer_norm" = 2',
            'optimizer.rates."text_encoder.final_layer_norm"',
            "before its last layer, which never learns",
            "Remove it.",
        ),
    ],
)
def test_rates_of_what_never_learns_are_warned_of(check, lines: str, path: str, text: str, remedy: str):
    found = check(lines, "warning")
    assert list(found) == [path] and text in found[path][0] and remedy in found[path][1]


UNET_RESTS = '[layers]\ntrain = ["mid_block"]\n[optimizer.rates]\nmid_block = 0\n[text_encoders]\n'


@pytest.mark.parametrize(
    ("lines", "path", "text"),
    [
        ('train = "first"\nstop_after = 100', "text_encoders.stop_after", "nothing learn after step 100"),
        ('train = "both"\nstop_after = 999', "text_encoders.stop_after", "nothing learn after step 999"),
        ('train = "first"\nrate = 0', "optimizer.rates", "every layer and text encoder that is trained is 0"),
        ('train = "both"\nrate = 0\nrate_2 = 0\nstop_after = 9', "optimizer.rates", "let nothing learn"),
    ],
)
def test_a_run_in_which_at_some_step_nothing_learns_is_refused(check, lines: str, path: str, text: str):
    found = check(UNET_RESTS + lines)
    assert list(found) == [path] and text in found[path][0]


@pytest.mark.parametrize(
    "lines", ['train = "both"\nrate = 0', 'train = "first"\nstop_after = 1000', 'train = "second"']
)
def test_a_run_in_which_something_learns_at_every_step_passes(check, lines: str):
    assert check(UNET_RESTS + lines) == {}


@pytest.mark.parametrize("pattern", ["text_encoder.*", "text_encoder_2", "text_encoder*"])
def test_text_encoders_among_the_layers_are_named_once(check, pattern: str):
    found = check(f'[layers]\ntrain = ["*", "{pattern}"]')
    assert list(found) == ["layers.train"] and "[text_encoders]" in found["layers.train"][1]


def test_a_pattern_of_an_encoder_is_not_judged_while_it_is_open_which_of_them_learn(check):
    found = check(
        '[text_encoders]\ntrain = "CLIP-L"\n[optimizer.rates]\nself_attn = 2\n"text_encoder.*" = 0.5\natn1 = 2'
    )
    assert list(found) == ["text_encoders.train", "optimizer.rates.atn1"]


def test_rates_that_let_nothing_learn_are_an_error(check):
    found = check('[layers]\ntrain = ["mid_block"]\n[optimizer.rates]\n"mid_block.*" = 0\nattn2 = 3')
    assert list(found) == ["optimizer.rates"] and "let nothing learn" in found["optimizer.rates"][0]
    assert list(check('[optimizer.rates]\n"*" = 0')) == ['optimizer.rates."*"']
