"""Folders whose index or config files lead somewhere else."""

import json

import pytest

from engine.contract.base_checkpoint import read_base
from engine.contract.safetensors_header import CheckpointError
from engine.contract.vae_file import read_vae
from tests.engine.folders import configure, refused


@pytest.fixture
def shards(folder):
    """Puts the UNet's one file under another name, and an index in its place; gives what is said of it."""
    unet = folder / "unet"
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / "a.safetensors")

    def said(name: str) -> str:
        index = unet / "diffusion_pytorch_model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"conv_in.bias": name}}))
        with pytest.raises(CheckpointError) as caught:
            read_base(folder)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 400
        return str(caught.value).removeprefix(f"{index} ")

    return said


@pytest.mark.parametrize(
    "name",
    [
        *("a\0b", "half\ud800", "", ".", "..", "/etc/passwd", "../vae/diffusion_pytorch_model.safetensors"),
        *("../unet/a.safetensors", "sub/a.safetensors", "a.safetensors/", "a" * 5000),
    ],
)
def test_an_index_names_files_of_its_own_folder_or_none(shards, name):
    assert shards(name).startswith("is damaged: it names a file that cannot be (")


def test_an_index_may_name_any_letters(shards):
    assert shards("日本.safetensors").endswith("日本.safetensors does not exist: check the path")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"_class_name": "AutoencoderTiny"}, "is a folder of diffusers' AutoencoderTiny, not a VAE of SDXL's kind"),
        ({"_class_name": ["x"]}, "is a folder of diffusers' ['x'], not a VAE of SDXL's kind (AutoencoderKL)"),
        ({"scaling_factor": 0.18215}, "is a VAE for another model: its latents are scaled by 0.18215, SDXL's by 0.130"),
        ({"scaling_factor": "x"}, "is a VAE for another model: its latents are scaled by x, SDXL's by 0.13025"),
        ({"shift_factor": 0.1159}, "is a VAE for another model: its latents are shifted by 0.1159, SDXL's are not"),
        ({"latents_mean": [1, 2, 3, 4]}, "is a VAE for another model: its latents are normalised (latents_mean)"),
        ({"latents_std": [1, 2, 3, 4]}, "is a VAE for another model: its latents are normalised (latents_std)"),
        ({"latent_channels": 16, "scaling_factor": 0.3611}, "is a VAE of 16 latent channels"),
    ],
)
def test_a_vae_of_other_latents_is_refused_in_the_base_as_by_itself(folder, tmp_path, changes, says):
    assert refused(folder) == ""
    configure(folder, "vae", **changes)
    assert refused(folder).startswith(f"{folder / 'vae'} {says}")
    with pytest.raises(CheckpointError) as caught:
        read_vae(folder / "vae")
    assert f"{caught.value}." == refused(folder)


def test_a_vae_that_is_replaced_may_be_anything(folder, demo_checkpoint):
    configure(folder, "vae", _class_name="AutoencoderTiny")
    assert refused(folder, demo_checkpoint) == ""


def test_a_vae_config_that_says_nothing_unusual_is_taken(folder):
    configure(folder, "vae", shift_factor=None, latents_mean=None, latents_std=None, scaling_factor=0.13025)
    assert refused(folder) == ""
