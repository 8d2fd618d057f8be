"""A VAE of its own stands where the base checkpoint's was, whatever form it comes in."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.contract.architecture import read_architecture
from engine.contract.base_checkpoint import read_base
from engine.contract.safetensors_header import CheckpointError
from engine.contract.unet_names import UNET_PREFIX
from engine.contract.vae_file import read_vae
from engine.model.components import load_vae, vae_config
from engine.model.convert import vae_state
from engine.model.single_file import Checkpoint, fingerprint, open_checkpoint, raw
from tests.engine.folders import OLD_ATTENTION, State, configure, refused, rewrite
from tests.engine.sparse import write_sparse

PUBLISHED = Path(__file__).parent / "sdxl_tensors.json"
UNET, VAE = UNET_PREFIX, "first_stage_model."


@pytest.fixture(scope="module")
def single(demo_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(demo_checkpoint)


@pytest.fixture(scope="module")
def other_vae(demo_checkpoint: Path) -> State:
    """Another VAE than the demo's own, under the names of LDM."""
    torch.manual_seed(0)
    tensors = {name.removeprefix(VAE): t for name, t in load_file(demo_checkpoint).items() if name.startswith(VAE)}
    return {name: torch.randn_like(tensor) for name, tensor in tensors.items()}


def ldm(vae: State) -> State:
    return dict(vae)


def with_prefix(vae: State) -> State:
    return {VAE + name: tensor for name, tensor in vae.items()}


def with_losses(vae: State) -> State:
    return vae | {"loss.logvar": torch.zeros(1), "model_ema.decay": torch.zeros(1)}


def with_matrices(vae: State) -> State:
    return {name: t[:, :, 0, 0].clone() if ".attn_1." in name and t.ndim == 4 else t for name, t in vae.items()}


def of_diffusers(vae: State) -> State:
    return {name: tensor.clone() for name, tensor in vae_state(vae).items()}


def of_old_diffusers(vae: State) -> State:
    state = of_diffusers(vae)
    for new, old in OLD_ATTENTION.items():
        state = {name.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): t for name, t in state.items()}
    return state


FORMS = [ldm, with_prefix, with_losses, with_matrices, of_diffusers, of_old_diffusers]


def assert_carries(found: Checkpoint, vae: State, base: Checkpoint) -> None:
    ours = {name: info for name, info in found.header.tensors.items() if name.startswith(VAE)}
    assert ours.keys() == {VAE + name for name in vae}
    for name, tensor in vae.items():
        assert ours[VAE + name].shape == tuple(tensor.shape) and torch.equal(found.tensor(VAE + name), tensor), name
    for name in base.header.tensors:
        if not name.startswith(VAE):
            assert raw(found, name) == raw(base, name)
    assert fingerprint(found, "vae") != fingerprint(base, "vae")
    assert fingerprint(found, "text") == fingerprint(base, "text")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_separate_vae_stands_for_the_bases_own(demo_checkpoint, single, other_vae, tmp_path, form):
    path = tmp_path / "vae.safetensors"
    save_file(form(other_vae), path)
    found = open_checkpoint(demo_checkpoint, path)
    assert_carries(found, other_vae, single)
    assert all(len(found.header.tensors[f"{VAE}decoder.mid.attn_1.{name}.weight"].shape) == 4 for name in "qkv")
    assert found.header.size == single.header.size
    state = load_vae(found, "cpu").state_dict()
    assert torch.equal(state["encoder.conv_in.weight"], other_vae["encoder.conv_in.weight"])


def test_a_whole_checkpoint_gives_its_vae(demo_checkpoint, single, other_vae, tmp_path):
    tensors, path = load_file(demo_checkpoint), tmp_path / "other.safetensors"
    save_file(tensors | with_prefix(other_vae), path, metadata=dict(single.header.metadata))
    assert_carries(open_checkpoint(demo_checkpoint, path), other_vae, single)


def test_a_folder_gives_its_vae_and_its_norm_groups(demo_checkpoint, single, other_vae, folder):
    rewrite(folder, "vae", lambda state: of_diffusers(other_vae))
    for path in (folder, folder / "vae"):
        found = open_checkpoint(demo_checkpoint, path)
        assert_carries(found, other_vae, single)
        assert read_architecture(found.header) == read_architecture(single.header)
    configure(folder, "vae", norm_num_groups=4)
    found = open_checkpoint(demo_checkpoint, folder / "vae")
    assert vae_config(found.header)["norm_num_groups"] == 4
    assert read_architecture(found.header).unet_norm_groups == read_architecture(single.header).unet_norm_groups


def test_a_base_without_a_vae_needs_one(demo_checkpoint, single, other_vae, folder, tmp_path):
    bare, vae = tmp_path / "bare.safetensors", tmp_path / "vae.safetensors"
    tensors = {name: tensor for name, tensor in load_file(demo_checkpoint).items() if not name.startswith(VAE)}
    save_file(tensors, bare, metadata=dict(single.header.metadata))
    save_file(other_vae, vae, metadata=dict(single.header.metadata))
    lacks = "lacks the VAE: name a VAE file (model.vae), or choose a whole SDXL checkpoint."
    assert refused(bare) == f"bare.safetensors {lacks}"
    assert_carries(open_checkpoint(bare, vae), other_vae, single)
    shutil.rmtree(folder / "vae")
    assert refused(folder) == f"folder {lacks}"
    assert refused(folder, vae) == ""
    assert open_checkpoint(folder, vae).header.tensors.keys() == read_base(folder, vae).tensors.keys()


@pytest.fixture(scope="module")
def shapes() -> dict[str, list[int]]:
    """Of the published VAE, bare names."""
    published = json.loads(PUBLISHED.read_text())
    return {name.removeprefix(VAE): shape for name, shape in published.items() if name.startswith(VAE)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"decoder.conv_in.weight": [512, 16, 3, 3]},
            "is a VAE of 16 latent channels (16: FLUX or Stable Diffusion 3), SDXL's has 4",
        ),
        ({"encoder.down.3.block.1.conv2.weight": None}, "is not a VAE of SDXL's arrangement: it lacks encoder.down.3."),
        ({"decoder.conv_in.weight": None}, "is not a VAE of SDXL's arrangement: it lacks decoder.conv_in.weight"),
    ],
)
def test_other_vaes_are_refused(tmp_path, shapes, change, says):
    altered = {name: shape for name, shape in (shapes | change).items() if shape is not None}
    path = write_sparse(tmp_path / "vae.safetensors", altered)
    with pytest.raises(CheckpointError) as caught:
        read_vae(path)
    assert str(caught.value).startswith(f"{path} {says}")


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"lora_unet_mid_block.lora_down.weight": [8, 8]}, "is a LoRA, not a VAE"),
        ({f"{UNET}input_blocks.0.0.weight": [8, 4, 3, 3]}, "is a UNet without size conditioning, not a VAE"),
        ({"text_model.final_layer_norm.bias": [8]}, "is a text encoder alone, not a VAE"),
        ({"1.weight": [8]}, "is an unknown model, not a VAE"),
        (
            {f"{UNET}input_blocks.0.0.weight": [8, 4, 3, 3], "cond_stage_model.transformer.x": [8]},
            "is Stable Diffusion 1 or 2, whose VAE makes other latents than SDXL's",
        ),
    ],
)
def test_what_is_no_vae_is_refused(tmp_path, tensors, says):
    path = write_sparse(tmp_path / "vae.safetensors", tensors)
    with pytest.raises(CheckpointError) as caught:
        read_vae(path)
    assert str(caught.value) == f"{path} {says}"


def test_vae_folders_of_other_models_are_refused(folder, tmp_path):
    unet, vae = folder / "unet", folder / "vae"
    with pytest.raises(CheckpointError, match="not a VAE of SDXL's kind"):
        read_vae(unet)
    configure(folder, "vae", scaling_factor=0.18215)
    with pytest.raises(CheckpointError, match=r"its latents are scaled by 0\.18215, SDXL's by 0\.13025"):
        read_vae(vae)
    with pytest.raises(CheckpointError, match="holds no diffusion_pytorch_model"):
        read_vae(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_vae(tmp_path / "none.safetensors")
