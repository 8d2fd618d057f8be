"""What a file or a folder says of its widths and groups is read, or refused in one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.architecture import ARCHITECTURE_KEY, Architecture, configured, read_architecture
from engine.contract.checkpoint_kind import identify
from engine.contract.safetensors_header import CheckpointError, Header, TensorInfo, read_header

UNET = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "attention_head_dim": [5, 10, 20],
}


@pytest.fixture(scope="module")
def demo(demo_checkpoint: Path) -> Header:
    return read_header(demo_checkpoint)


def described(header: Header, **said: object) -> Header:
    values = json.loads(header.metadata[ARCHITECTURE_KEY]) | said
    return replace(header, metadata={ARCHITECTURE_KEY: json.dumps(values)})


@pytest.mark.parametrize(
    "note",
    [
        *("[" * 100_000, "[]", "1" * 5000, '"\\ud800"', '{"unet_head_dim": true}'),
        json.dumps({"unet_head_dim": 10**30}),
    ],
)
def test_a_note_that_makes_no_sense_is_quoted_in_one_short_sentence(demo, note):
    header = replace(demo, metadata={ARCHITECTURE_KEY: note})
    with pytest.raises(CheckpointError, match="describes its architecture in a way not known here") as caught:
        read_architecture(header)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400
    assert identify(header).why_not.startswith("aozora-demo.safetensors describes its architecture in a way")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"unet_norm_groups": 7}, "cannot have norms of 7 groups in its UNet, which has 32 channels"),
        ({"vae_norm_groups": 999_999}, "cannot have norms of 999999 groups in its VAE, which has "),
        ({"unet_head_dim": 3}, "cannot have attention heads of 3 channels in its UNet, which has 64 channels"),
        ({"text_head_dim": 5}, "cannot have attention heads of 5 channels in its first text encoder, which has "),
    ],
)
def test_widths_that_the_tensors_contradict_are_refused_before_anything_is_loaded(demo, said, says):
    assert identify(demo).trainable
    why = identify(described(demo, **said)).why_not
    assert why.startswith(f"aozora-demo.safetensors {says}") and why.endswith("it is described wrongly, or not at all.")


def test_a_level_without_attention_may_have_any_width(demo):
    def widened(block: int) -> Header:
        name = f"model.diffusion_model.input_blocks.{block}.0.out_layers.3.weight"
        return replace(demo, tensors={**demo.tensors, name: TensorInfo("F16", (40, 40, 3, 3), ())})

    assert json.loads(demo.metadata[ARCHITECTURE_KEY])["unet_head_dim"] == 16
    assert identify(widened(1)).trainable
    assert "attention heads of 16 channels in its UNet, which has 40 channels" in identify(widened(4)).why_not


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"down_block_types": [1, 2, 3]}, "1 is no kind of block"),
        ({"down_block_types": "abc"}, "down_block_types is not a list"),
        ({"down_block_types": None}, "down_block_types is not a list"),
        ({"block_out_channels": None}, "block_out_channels is not a list"),
        ({"block_out_channels": [320]}, "do not describe an SDXL model"),
        ({"block_out_channels": [10**400] * 3}, "is no number of heads, channels or groups"),
        ({"block_out_channels": [float("inf")] * 3}, "inf is no number of heads, channels or groups"),
        ({"attention_head_dim": [0.5] * 3}, "0.5 is no number of heads, channels or groups"),
        ({"attention_head_dim": 0}, "0 is no number of heads, channels or groups"),
        ({"attention_head_dim": {}}, "{} is no number of heads, channels or groups"),
        ({"norm_num_groups": 10**4000}, "is no number of heads, channels or groups"),
    ],
)
def test_configs_that_are_no_configs_are_refused_in_one_sentence(changes, says):
    assert configured(Path("model"), {"unet": UNET}) == Architecture()
    with pytest.raises(CheckpointError) as caught:
        configured(Path("model"), {"unet": UNET | changes})
    said = str(caught.value)
    assert said.startswith("model has config files that do not describe an SDXL model: ") and says in said
    assert said.isprintable() and len(said) < 250


@pytest.mark.parametrize("name", ["block_out_channels", "down_block_types"])
def test_a_config_without_what_is_needed_names_it(name):
    config = {key: value for key, value in UNET.items() if key != name}
    with pytest.raises(CheckpointError, match=f"{name} is not a list"):
        configured(Path("model"), {"unet": config})


def test_a_config_nested_without_end_is_refused():
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(CheckpointError, match="do not describe an SDXL model"):
        configured(Path("model"), {"text_encoder": {"hidden_size": nested}})
