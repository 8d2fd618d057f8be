"""Which tensors a pattern means, and what rates by pattern make of each."""

import json
from pathlib import Path

import pytest

from engine.contract.patterns import depth, encoders_meant, factors, matcher, mend, to_train, trained_encoders
from engine.contract.sections import TextEncoders
from engine.contract.unet_names import unet_names


@pytest.fixture(scope="module")
def names() -> list[str]:
    """SDXL's, as diffusers calls them."""
    return sorted(unet_names(json.loads((Path(__file__).parent / "sdxl_tensors.json").read_text())).values())


def meant(names: list[str], pattern: str) -> set[str]:
    matches = matcher(pattern)
    return {name for name in names if matches(name)}


def blocks(names: set[str]) -> set[str]:
    return {
        ".".join(name.split(".")[:2]) if name.startswith(("down_blocks", "up_blocks")) else name.split(".")[0]
        for name in names
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("depth:0", {"conv_in", "down_blocks.0", "up_blocks.2", "conv_norm_out", "conv_out"}),
        ("depth:1", {"down_blocks.1", "up_blocks.1"}),
        ("depth:2", {"down_blocks.2", "mid_block", "up_blocks.0"}),
        ("depth:1-2", {"down_blocks.1", "up_blocks.1", "down_blocks.2", "mid_block", "up_blocks.0"}),
        ("depth:2-9", {"down_blocks.2", "mid_block", "up_blocks.0"}),
    ],
)
def test_a_depth_is_whole_blocks(names: list[str], pattern: str, expected: set[str]):
    assert blocks(meant(names, pattern)) == expected
    inside = {name for name in names if blocks({name}) <= expected}
    assert meant(names, pattern) == inside  # with their downsamplers and upsamplers


def test_only_the_embeddings_of_time_and_size_have_no_depth(names: list[str]):
    assert blocks({name for name in names if depth(name) is None}) == {"time_embedding", "add_embedding"}
    assert blocks(set(names) - meant(names, "depth:0-2")) == {"time_embedding", "add_embedding"}
    assert depth("text_encoder.down_blocks.0.weight") is None


@pytest.mark.parametrize("pattern", ["depth:x", "depth:3-1", "depth:3", "depth:", "depth:-1", "depth:1-", "depth:[0]"])
def test_depths_that_are_none_match_nothing_and_say_how_to_write_one(names: list[str], pattern: str):
    assert meant(names, pattern) == set()
    assert "write `depth:2` or `depth:0-1`" in mend(pattern, [])


def test_other_patterns_are_mended_by_the_nearest_word():
    assert mend("atn2", ["attn1", "attn2", "ff"]) == "Did you mean `attn2`?"
    assert "Patterns look like" in mend("zzzz", ["attn1"])
    assert mend("mid_blok.attentions.0", ["mid_block", "attentions"]) == "Did you mean `mid_block`?"
    assert mend("text_encoder.*", ["attn1"]) == "Text encoders are chosen in [text_encoders], not by layer."
    assert mend("text_encoder.self_atn", ["text_encoder", "self_attn"]) == "Did you mean `self_attn`?"


def test_what_must_be_trained_for_an_encoder_to_learn_keeps_those_that_do():
    first, second = frozenset({"text_encoder"}), frozenset({"text_encoder_2"})
    assert [to_train(first, ()), to_train(second, ()), to_train(first | second, ())] == ["first", "second", "both"]
    assert to_train(second, ("text_encoder",)) == "both" and to_train(first, ("text_encoder",)) == "first"


def test_factors_of_patterns_that_meet_multiply(names: list[str]):
    found = factors(names, {"attn2": 0.5, "mid_block": 4.0, "depth:2": 0.5, "*.bias": 0.0})

    assert found["down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q.weight"] == 0.5
    assert found["mid_block.resnets.0.conv1.weight"] == 2.0
    assert found["up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q.weight"] == 0.25
    assert found["conv_in.bias"] == 0.0
    assert "conv_in.weight" not in found and not found.keys() - set(names)


def test_names_whose_factor_is_one_are_left_out(names: list[str]):
    assert factors(names, {}) == factors(names, {"*": 1.0}) == factors(names, {"attn2": 2.0, "*.attn2.*": 0.5}) == {}
    assert factors(["text_encoder.a.weight", "conv_in.weight"], {"text_encoder.*": 3.0}) == {
        "text_encoder.a.weight": 3.0
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("text_encoder", {"text_encoder"}),
        ("text_encoder.*", {"text_encoder"}),
        ("text_encoder_2.text_model.encoder.layers.3", {"text_encoder_2"}),
        ("text_encoder*", {"text_encoder", "text_encoder_2"}),
        ("text_encoder_3.*", set()),
        ("*", set()),
        ("attn2", set()),
    ],
)
def test_a_pattern_means_the_text_encoders_that_it_begins_with(pattern: str, expected: set[str]):
    assert encoders_meant(pattern) == expected


def test_what_learns_of_the_text_encoders():
    assert [trained_encoders(TextEncoders(train=train)) for train in ("none", "first", "second", "both")] == [
        (),
        ("text_encoder",),
        ("text_encoder_2",),
        ("text_encoder", "text_encoder_2"),
    ]
