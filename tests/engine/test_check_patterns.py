"""Patterns that mean nothing in the base checkpoint are refused, each at its line, with what to write instead."""

from pathlib import Path

import pytest

from engine.contract.check import check_file


@pytest.fixture
def check(demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The errors of a profile with these lines more, by path: text and remedy."""
    monkeypatch.setenv("AOZORA_RUNS", str(tmp_path / "runs"))

    def check(lines: str) -> dict[str, tuple[str, str]]:
        profile = tmp_path / "profile.toml"
        profile.write_text(
            f'[model]\nbase = "{demo_folder}/aozora-demo.safetensors"\ntokenizer = "{demo_folder}/tokenizer"\n'
            f'[data]\ncache = "{tmp_path}/cache"\n[[data.folders]]\npath = "{demo_folder}/pictures"\n{lines}\n'
        )
        problems = check_file(profile).problems
        assert {problem.severity for problem in problems} <= {"error"}
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
        '[text_encoders]\ntrain = "both"\n[optimizer.rates]\n"text_encoder_2.text_model.whatever" = 2',
        '[layers]\ntrain = ["mid_block"]\n[optimizer.rates]\nmid_block = 0\n[text_encoders]\ntrain = "first"',
    ],
)
def test_patterns_that_mean_something_pass(check, lines: str):
    assert check(lines) == {}


def test_rates_that_let_nothing_learn_are_an_error(check):
    found = check('[layers]\ntrain = ["mid_block"]\n[optimizer.rates]\n"mid_block.*" = 0\nattn2 = 3')
    assert list(found) == ["optimizer.rates"] and "let nothing learn" in found["optimizer.rates"][0]
    assert list(check('[optimizer.rates]\n"*" = 0')) == ['optimizer.rates."*"']
