"""`components.verify` finds by names and shapes alone what loading would find."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.contract.checkpoint_kind import identify
from engine.contract.safetensors_header import CheckpointError, Header, TensorInfo, read_header
from engine.contract.unet_names import UNET_PREFIX
from engine.model.components import load_text_encoders, load_unet, load_vae, verify
from engine.model.single_file import Checkpoint, open_checkpoint
from tests.engine.sparse import write_sparse

PUBLISHED = Path(__file__).parent / "sdxl_tensors.json"
UNET, VAE = UNET_PREFIX, "first_stage_model."
TEXT, TEXT_2 = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
BLOCK = UNET + "input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture(scope="module")
def demo(demo_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(demo_checkpoint)


@pytest.fixture
def altered(demo: Checkpoint, tmp_path: Path) -> Callable[..., Checkpoint]:
    """The demo's names and shapes but for some: None leaves a tensor out. Its weights are zeros."""

    def alter(changes: dict[str, tuple[int, ...] | None]) -> Checkpoint:
        shapes = {name: info.shape for name, info in demo.header.tensors.items()} | changes
        path = write_sparse(tmp_path / "m.safetensors", {n: s for n, s in shapes.items() if s is not None})
        tensors = read_header(path).tensors
        header = replace(demo.header, path=path, tensors=tensors)
        assert identify(header).trainable
        return Checkpoint(path, header, identify(header))

    return alter


def sentence(check: Callable[[], object]) -> str:
    with pytest.raises(CheckpointError) as caught:
        check()
    assert str(caught.value).isprintable()
    return str(caught.value)


def load(checkpoint: Checkpoint) -> None:
    load_unet(checkpoint, "cpu", torch.float32)
    load_vae(checkpoint, "cpu")
    load_text_encoders(checkpoint, "cpu", torch.float32)


def test_a_sound_checkpoint_passes(demo, demo_diffusers):
    verify(demo)
    verify(open_checkpoint(demo_diffusers))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (UNET + "time_embed.2.bias", "lacks time_embedding.linear_2.bias of its UNet2DConditionModel"),
        (UNET + "input_blocks.4.1.norm.weight", "lacks down_blocks.1.attentions.0.norm.weight of its UNet"),
        (VAE + "quant_conv.bias", "lacks quant_conv.bias of its AutoencoderKL"),
        (VAE + "decoder.mid.attn_1.k.bias", "lacks decoder.mid_block.attentions.0.to_k.bias of its AutoencoderKL"),
        (TEXT + "final_layer_norm.weight", "lacks final_layer_norm.weight of its CLIPTextModel"),
        (TEXT_2 + "ln_final.bias", "lacks text_model.final_layer_norm.bias of its CLIPTextModelWithProjection"),
        (
            TEXT_2 + "transformer.resblocks.0.attn.in_proj_bias",
            "lacks text_model.encoder.layers.0.self_attn.k_proj.bias, ",
        ),
    ],
)
def test_what_is_missing_is_said_as_loading_would_say_it(altered, name, says):
    checkpoint = altered({name: None})
    said = sentence(lambda: verify(checkpoint))
    assert said.startswith(f"{checkpoint.path} {says}") and said == sentence(lambda: load(checkpoint))


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        (BLOCK, (1,), "has another shape of down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight of its"),
        (BLOCK, (2, 3), "has another shape of down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight of"),
        (VAE + "encoder.conv_in.weight", (3, 16, 3, 3), "has another shape of encoder.conv_in.weight of its Auto"),
        (TEXT_2 + "transformer.resblocks.0.attn.in_proj_weight", (7, 5), "has another shape of text_model.encoder.lay"),
        (TEXT_2 + "transformer.resblocks.0.attn.in_proj_bias", (), "has another shape of text_model.encoder.layers.0."),
        (VAE + "encoder.conv_in.weight", (0, 1 << 62, 1 << 62), "has another shape of encoder.conv_in.weight of its"),
        (VAE + "decoder.up.9.block.0.x", (1,), "has, unexpectedly, decoder.up_blocks."),
        (TEXT + "encoder.layers.99.x", (1,), "lacks encoder.layers."),
        (TEXT_2 + "transformer.resblocks.99.foo", (0,), "lacks text_model.encoder.layers."),
        (UNET + "middle_block.1.norm.extra", (1,), "has, unexpectedly, mid_block.attentions.0.norm.extra of its UNet"),
    ],
)
def test_what_is_misshapen_or_left_over_is_named(altered, name, shape, says):
    checkpoint = altered({name: shape})
    said = sentence(lambda: verify(checkpoint))
    assert said.startswith(f"{checkpoint.path} {says}") and said == sentence(lambda: load(checkpoint))


def test_a_tensor_without_a_place_is_one_sentence_too(altered):
    checkpoint = altered({UNET + "input_blocks.99999999999.0.in_layers.0.weight": (0,)})
    assert sentence(lambda: verify(checkpoint)) == (
        f"{checkpoint.path} does not hold an SDXL model: the UNet tensor "
        "input_blocks.99999999999.0.in_layers.0.weight has no place in SDXL"
    )


def test_widths_that_no_machine_could_hold_are_one_sentence(demo):
    wide = {
        f"{UNET}input_blocks.{block}.0.out_layers.3.weight": TensorInfo("F16", (1 << 40, 1, 3, 3), ())
        for block in (1, 4, 7)
    }
    header = replace(demo.header, tensors={**demo.header.tensors, **wide})
    assert identify(header).trainable
    said = sentence(lambda: verify(Checkpoint(demo.path, header, identify(header))))
    assert said.startswith(f"{demo.path} does not hold an SDXL model: ")


def test_no_tensor_is_read_and_sdxl_itself_takes_no_time():
    tensors = {name: TensorInfo("F16", tuple(shape), ()) for name, shape in json.loads(PUBLISHED.read_text()).items()}
    header = Header(Path("sd_xl_base.safetensors"), {}, tensors, 0)
    started = time.process_time()
    verify(Checkpoint(header.path, header, identify(header)))  # there is no such file
    assert time.process_time() - started < 3
