import struct
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file

from engine.contract.unet_names import to_diffusers, to_published
from engine.model.components import load_text_encoders, text_2_config, unet_config, vae_config
from engine.model.convert import published_text_2, published_vae, vae_state
from engine.model.single_file import Checkpoint, open_checkpoint

UNET = "model.diffusion_model."
TEXT_2 = "conditioner.embedders.1.model."


@pytest.fixture(scope="module")
def checkpoint(demo_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(demo_checkpoint)


@pytest.fixture(scope="module")
def published(demo_checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(demo_checkpoint)


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_the_unet_converts_as_diffusers_converts_it(checkpoint, published):
    config = dict(UNet2DConditionModel(**unet_config(checkpoint.header)).config)
    assert_same(checkpoint.unet(), convert_ldm_unet_checkpoint(dict(published), config))


def test_the_vae_converts_as_diffusers_converts_it(checkpoint, published):
    # Values that differ everywhere, so that a swapped q and k would show.
    values = {
        name: torch.randn_like(tensor) if name.startswith("first_stage_model.") else tensor
        for name, tensor in published.items()
    }
    config = dict(AutoencoderKL(**vae_config(checkpoint.header)).config)
    theirs = convert_ldm_vae_checkpoint(dict(values), config)
    ours = {name: tensor for name, tensor in values.items() if name.startswith("first_stage_model.")}
    stripped = {name.removeprefix("first_stage_model."): tensor for name, tensor in ours.items()}
    assert_same(vae_state(stripped), theirs)
    assert_same(published_vae(vae_state(stripped)), stripped)


def test_the_second_text_encoder_converts_as_diffusers_converts_it(checkpoint, published):
    class Model:
        config = text_2_config(checkpoint.header)

    theirs = convert_open_clip_checkpoint(Model, dict(published), TEXT_2)
    assert_same(checkpoint.text_encoder_2(), theirs)
    back = published_text_2(checkpoint.text_encoder_2())
    assert_same(
        back,
        {
            name.removeprefix(TEXT_2): tensor
            for name, tensor in published.items()
            if name.startswith(TEXT_2) and not name.endswith("logit_scale")
        },
    )


def test_the_projection_is_applied_as_x_times_p(checkpoint, published):
    projection = published[f"{TEXT_2}text_projection"]
    assert not torch.allclose(projection, projection.T, atol=0.1)
    second = load_text_encoders(checkpoint, "cpu", torch.float32).text_encoder_2
    end = published[f"{TEXT_2}token_embedding.weight"].shape[0] - 1
    ids = torch.tensor([[end - 1, 320, 400, end, 0, 0]])
    output = second(ids)
    torch.testing.assert_close(output.text_embeds[0], output.last_hidden_state[0, 3] @ projection, rtol=1e-5, atol=1e-5)


def test_tensors_that_are_not_aligned_in_their_file_are_read(demo_checkpoint, checkpoint, tmp_path):
    content = demo_checkpoint.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + length].rstrip()
    header += b" " * ((3 - len(header)) % 8)
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])
    found = open_checkpoint(path)
    assert found.unet()["conv_in.weight"].data_ptr() % 4 == 3
    assert_same(found.unet(), checkpoint.unet())


def test_names_convert_both_ways_for_every_tensor(published):
    for name in published:
        if name.startswith(UNET):
            assert to_published(to_diffusers(name.removeprefix(UNET))) == name.removeprefix(UNET)
