"""What the shipped profiles teach by their commented-out blocks works when it is uncommented."""

import re
import tomllib

import pytest

from engine.contract.places import shipped_profiles_folder
from engine.contract.profile import parse

TEXT = (shipped_profiles_folder() / "whole-unet.toml").read_text()
_OFF = re.compile(r"^#(?=\S)", re.MULTILINE)  # prose has a space behind its sign, a setting has none


def blocks() -> list[str]:
    """Runs of commented-out settings, without their sign."""
    runs = re.findall(r"(?:^#\S.*\n)+", TEXT, re.MULTILINE)
    return [_OFF.sub("", run) for run in runs if run.startswith("#[")]


def with_block(block: str) -> str:
    """The profile with it, without its own sections of the same names."""
    names = re.findall(r"^\[([\w.]+)\]", block, re.MULTILINE)
    kept = TEXT
    for name in names:
        kept = re.sub(rf"^\[{re.escape(name)}\].*\n(?:(?!\[).*\n)*?(?=\n|\[|\Z)", "", kept, flags=re.MULTILINE)
    return f"{kept}\n{block}"


@pytest.mark.parametrize("block", blocks(), ids=lambda block: " ".join(re.findall(r"^\[.*\]", block, re.MULTILINE)))
def test_a_block_that_is_uncommented_is_valid(block: str):
    text = with_block(block)
    profile, problems = parse(text, "whole-unet.toml")
    assert problems == [] and profile != parse(TEXT, "whole-unet.toml")[0]
    for section, settings in tomllib.loads(block).items():
        for name, value in settings.items():
            assert tomllib.loads(text)[section][name] == value


def test_the_blocks_teach_what_there_is():
    taught = "\n".join(blocks())
    for part in ('"adamw"', "[ema]", '"prodigyopt.Prodigy"', "learning_rate = 1.0", "[text_encoders]", '"wsd"'):
        assert part in taught
    for part in ("warmup_steps", "curve = [[", "[optimizer.rates]", "[optimizer.arguments]"):
        assert part in taught


def test_the_settings_that_are_commented_out_within_a_section_are_valid():
    text = re.sub(r"^#(?=tokenizer)", "", TEXT, flags=re.MULTILINE)
    profile, problems = parse(text, "whole-unet.toml")
    assert profile is not None and problems == [] and profile.model.tokenizer
