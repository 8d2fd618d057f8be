"""A diffusers folder becomes the table of contents that the single file has."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from engine.contract.architecture import ARCHITECTURE_KEY, Architecture, read_architecture
from engine.contract.base_checkpoint import read_base
from engine.contract.checkpoint_kind import identify
from engine.contract.layers import read_layers
from engine.contract.part_names import NOT_LOADED
from engine.contract.safetensors_header import CheckpointError, Header, TensorInfo
from engine.contract.unet_names import UNET_PREFIX
from engine.model.components import (
    load_text_encoders,
    load_unet,
    load_vae,
    text_2_config,
    text_config,
    unet_config,
)
from engine.model.single_file import Checkpoint, fingerprint, open_checkpoint, raw
from tests.engine.folders import OLD_ATTENTION, WEIGHTS, State, configure, refused, rewrite
from tests.engine.sparse import write_sparse

PUBLISHED = Path(__file__).parent / "sdxl_tensors.json"
UNET, VAE, TEXT, TEXT_2 = (
    UNET_PREFIX,
    "first_stage_model.",
    "conditioner.embedders.0.transformer.text_model.",
    "conditioner.embedders.1.model.",
)
MARKERS = {"v_pred", "ztsnr"}


@pytest.fixture(scope="module")
def single(demo_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(demo_checkpoint)


def assert_same_bytes(found: Checkpoint, single: Checkpoint, but: set[str] = frozenset()) -> None:
    """Of every tensor that a module loads, and the same names, shapes and types."""
    not_saved = MARKERS | {TEXT + NOT_LOADED[0], TEXT_2 + NOT_LOADED[1]}
    assert single.header.tensors.keys() - found.header.tensors.keys() <= not_saved
    assert found.header.tensors.keys() <= single.header.tensors.keys()
    for name, info in found.header.tensors.items():
        expected = single.header.tensors[name]
        assert (info.dtype, info.shape) == (expected.dtype, expected.shape), name
        assert (raw(found, name) == raw(single, name)) == (name not in but), name


def test_a_saved_pipeline_is_the_single_file_again(demo_diffusers, single):
    found = open_checkpoint(demo_diffusers)
    assert_same_bytes(found, single)
    for part in ("unet", "vae", "text"):
        assert fingerprint(found, part) == fingerprint(single, part)
    assert read_architecture(found.header) == read_architecture(single.header) != Architecture()
    kind = found.kind
    assert (kind.prediction_type, kind.zero_terminal_snr) == ("v_prediction", True)
    assert kind.announced_by == "its scheduler_config.json"
    assert read_layers(found.header) == read_layers(single.header)
    assert found.header.size == sum(file.stat().st_size for file in demo_diffusers.rglob("*.safetensors"))


def test_a_folders_modules_are_the_single_files(demo_diffusers, single):
    found = open_checkpoint(demo_diffusers)
    for load in (load_unet, load_vae):
        ours, theirs = (load(checkpoint, "cpu", torch.float32).state_dict() for checkpoint in (found, single))
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    ours, theirs = (load_text_encoders(checkpoint, "cpu", torch.float32) for checkpoint in (found, single))
    ids = torch.tensor([[588, 320, 400, 589, 0, 0]])
    assert torch.equal(ours.text_encoder_2(ids).text_embeds, theirs.text_encoder_2(ids).text_embeds)
    assert torch.equal(ours.text_encoder(ids).last_hidden_state, theirs.text_encoder(ids).last_hidden_state)


def test_variants_and_shards_are_read(demo_pipeline, single, tmp_path):
    demo_pipeline.save_pretrained(tmp_path, variant="fp16", max_shard_size="1MB")
    assert not (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").exists()
    assert len(list((tmp_path / "unet").glob("*.fp16-0*.safetensors"))) > 2
    found = open_checkpoint(tmp_path)
    assert_same_bytes(found, single)
    assert fingerprint(found, "unet") == fingerprint(single, "unet")
    index = tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json"
    next((tmp_path / "unet").glob("*.fp16-00002*")).unlink()
    with pytest.raises(CheckpointError, match=r"fp16-00002-of-\d+\.safetensors does not exist"):
        read_base(tmp_path)
    for damage in ('{"weight_map": {"a": "../a"}}', '{"weight_map": 3}', "[]", "{"):
        index.write_text(damage)
        with pytest.raises(CheckpointError, match=r"index\.fp16\.json is damaged"):
            read_base(tmp_path)


def test_the_most_exact_variant_is_taken(folder, single):
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    narrow = {name: tensor.half() for name, tensor in load_file(unet).items()}
    save_file(narrow, unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    save_file(narrow, unet.with_name("diffusion_pytorch_model.non_ema.safetensors"))
    assert_same_bytes(open_checkpoint(folder), single)
    unet.unlink()
    assert open_checkpoint(folder).unet()["conv_in.bias"].dtype == torch.float16
    assert (
        read_base(folder).tensors[UNET + "out.2.bias"].pieces[0].path.name == "diffusion_pytorch_model.fp16.safetensors"
    )


def test_the_layouts_of_older_libraries_are_read(folder, single):
    def text(state: State) -> State:
        flat = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
        level = {
            name if name.startswith("text_proj") else f"text_model.{name}": tensor for name, tensor in flat.items()
        }
        return level | {"text_model.embeddings.position_ids": torch.arange(77)[None]}

    def vae(state: State) -> State:
        renamed = {}
        for name, tensor in state.items():
            for new, old in OLD_ATTENTION.items():
                name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
            renamed[name] = tensor
        assert sum(".query." in name for name in renamed) == 4
        return renamed

    for component in ("text_encoder", "text_encoder_2"):
        rewrite(folder, component, text)
    rewrite(folder, "vae", vae)
    found = open_checkpoint(folder)
    assert_same_bytes(found, single)
    assert TEXT + "embeddings.position_ids" in found.header.tensors  # old folders have them


def test_a_text_encoder_without_the_extra_level_is_read(folder, single):
    for component in ("text_encoder", "text_encoder_2"):
        rewrite(folder, component, lambda state: {name.removeprefix("text_model."): t for name, t in state.items()})
    rewrite(folder, "text_encoder", lambda state: state | {"text_projection.weight": torch.ones(32, 32)})
    assert_same_bytes(open_checkpoint(folder), single)


def test_the_second_encoders_projection_is_turned_round(folder, single):
    projection = torch.randn(48, 48)
    rewrite(folder, "text_encoder_2", lambda state: state | {"text_projection.weight": projection})
    found = open_checkpoint(folder)
    assert_same_bytes(found, single, but={TEXT_2 + "text_projection"})
    assert torch.equal(found.tensor(TEXT_2 + "text_projection"), projection.T)
    assert torch.equal(
        torch.frombuffer(bytearray(raw(found, TEXT_2 + "text_projection")), dtype=torch.float32), projection.T.flatten()
    )


# The full-size model, from files without weights


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SDXL base as a folder, with the published config files as far as they are read."""
    tensors = {name: TensorInfo("F16", tuple(shape), ()) for name, shape in json.loads(PUBLISHED.read_text()).items()}
    header = Header(Path("sdxl"), {}, tensors, 0)
    folder = tmp_path_factory.mktemp("full") / "stable-diffusion-xl-base-1.0"
    with torch.device("meta"):
        modules = {
            "unet": UNet2DConditionModel(**unet_config(header)),
            "text_encoder": CLIPTextModel(text_config(header)),
            "text_encoder_2": CLIPTextModelWithProjection(text_2_config(header)),
        }
    configs = {
        "unet": {
            "attention_head_dim": [5, 10, 20],
            "block_out_channels": [320, 640, 1280],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "norm_num_groups": 32,
        },
        "text_encoder": {"hidden_size": 768, "num_attention_heads": 12},
        "text_encoder_2": {"hidden_size": 1280, "num_attention_heads": 20},
    }
    for name, module in modules.items():
        shapes = {tensor: value.shape for tensor, value in module.state_dict().items()}
        write_sparse(folder / name / f"{WEIGHTS[name]}.fp16.safetensors", shapes)
        (folder / name / "config.json").write_text(json.dumps(configs[name]))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    return folder


def test_the_published_folder_has_the_published_files_names_and_shapes(full_size):
    shapes = {name: tuple(shape) for name, shape in json.loads(PUBLISHED.read_text()).items()}
    vae = {name.removeprefix(VAE): shape for name, shape in shapes.items() if name.startswith(VAE)}
    header = read_base(full_size, write_sparse(full_size.parent / "sdxl_vae.safetensors", vae))
    missing = {TEXT + "embeddings.position_ids", TEXT_2 + "logit_scale"}
    assert {name: info.shape for name, info in header.tensors.items()} == {
        name: shape for name, shape in shapes.items() if name not in missing
    }
    assert ARCHITECTURE_KEY not in header.metadata
    kind = identify(header)
    assert kind.trainable and kind.announced_by == "no marker: epsilon is assumed, as ComfyUI does"
    stacked = header.tensors[TEXT_2 + "transformer.resblocks.31.attn.in_proj_weight"]
    assert len(stacked.pieces) == 3 and stacked.bytes == 2 * 3840 * 1280


def test_a_folder_without_config_files_is_taken_for_sdxls(folder):
    for file in folder.glob("*/config.json"):
        file.unlink()
    assert read_architecture(read_base(folder)) == Architecture()


# Folders that are refused


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({"_class_name": "StableDiffusionPipeline"}, "is a folder for diffusers' StableDiffusionPipeline, not SDXL"),
        ({"_class_name": "FluxPipeline"}, "is a folder for diffusers' FluxPipeline, not SDXL"),
        ({"_class_name": "StableDiffusion3Pipeline"}, "is a folder for diffusers' StableDiffusion3Pipeline, not SDXL"),
        (
            {"_class_name": "StableDiffusionXLImg2ImgPipeline", "text_encoder": [None, None]},
            "is the SDXL refiner, which has one text encoder only: choose an SDXL base checkpoint",
        ),
    ],
)
def test_folders_of_other_models_are_refused(tmp_path, index, says):
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert refused(tmp_path).startswith(f"{tmp_path} {says}") and refused(tmp_path).count(". ") == 0


def test_folders_that_are_no_pipeline_say_what_to_name(demo_diffusers, tmp_path, demo_checkpoint):
    empty = f"{tmp_path} is a folder without model_index.json: "
    assert refused(tmp_path) == f"{empty}name a .safetensors file, or a diffusers folder of SDXL."
    shutil.copy(demo_checkpoint, tmp_path / "mine.safetensors")
    assert refused(tmp_path) == f"{empty}name the file in it, for example mine.safetensors."
    part = "is one component of a diffusers folder (UNet2DConditionModel): name the folder that it lies in"
    assert refused(demo_diffusers / "unet") == f"{demo_diffusers / 'unet'} {part}."
    cached = tmp_path / "models--a--b" / "snapshots" / "abc"
    cached.mkdir(parents=True)
    shutil.copy(demo_diffusers / "model_index.json", cached)
    assert refused(cached.parents[1]) == f"{cached.parents[1]} is a folder of the Hugging Face cache: name {cached}."
    assert refused(tmp_path / "nothing") == f"{tmp_path / 'nothing'} does not exist: check the path."


def test_components_that_are_missing_or_pickles_are_named(folder):
    def lacks(what: str) -> str:
        return f"folder lacks the {what}: choose a whole SDXL checkpoint."

    pickles = folder / "text_encoder_2"
    (pickles / "model.safetensors").rename(pickles / "pytorch_model.bin")
    assert refused(folder) == (
        f"{pickles} holds its weights only as a pickle (pytorch_model.bin), which can run code when opened: fetch or "
        "convert them as .safetensors."
    )
    (pickles / "pytorch_model.bin").unlink()
    assert refused(folder) == f"{pickles} holds no model.safetensors: fetch the folder again."
    shutil.rmtree(pickles)
    assert refused(folder) == lacks("second text encoder")
    shutil.rmtree(folder / "vae")
    assert refused(folder) == lacks("VAE and the second text encoder")
    shutil.rmtree(folder / "unet")
    assert refused(folder) == "folder is a text encoder alone: choose a whole SDXL checkpoint."


def test_tensors_and_configs_that_are_not_sdxls_are_named(folder):
    inpainting = torch.zeros(32, 9, 3, 3)
    rewrite(folder, "unet", lambda state: state | {"conv_in.weight": inpainting})
    assert "takes 9 input channels" in refused(folder)
    rewrite(folder, "unet", lambda state: state | {"lost.weight": inpainting})
    assert refused(folder) == f"{folder / 'unet'} is not SDXL's unet: the UNet tensor lost.weight has no place in SDXL."
    query = "text_model.encoder.layers.0.self_attn.q_proj.weight"
    original = (folder / "text_encoder_2" / "model.safetensors").read_bytes()
    rewrite(folder, "unet", lambda state: {name: tensor for name, tensor in state.items() if name != "lost.weight"})
    rewrite(folder, "text_encoder_2", lambda state: {name: t for name, t in state.items() if name != query})
    missing = "encoder.layers.0.self_attn.q_proj.weight is missing"
    assert refused(folder) == f"{folder / 'text_encoder_2'} is not SDXL's text_encoder_2: {missing}."
    (folder / "text_encoder_2" / "model.safetensors").write_bytes(original)
    rewrite(folder, "text_encoder_2", lambda state: state | {query: torch.zeros(48, 48).half()})
    assert "differ in shape or type" in refused(folder)
    (folder / "text_encoder_2" / "model.safetensors").write_bytes(original[:1000])
    assert "is cut short" in refused(folder)


@pytest.mark.parametrize(
    ("component", "changes", "says"),
    [
        ("unet", {"attention_head_dim": 8}, "attention heads are [6, 8] wide, not all alike"),
        ("unet", {"attention_head_dim": "many"}, "config files that do not describe an SDXL model"),
        ("unet", {"attention_head_dim": [2, 0, 4]}, "config files that do not describe an SDXL model"),
        ("vae", {"norm_num_groups": None}, "None is no number of heads, channels or groups"),
        ("text_encoder", {"num_attention_heads": 4}, "attention heads are [8, 16] wide, not all alike"),
        ("scheduler", {"_class_name": "EDMEulerScheduler"}, "uses EDM noise levels"),
    ],
)
def test_configs_that_ask_for_another_arrangement_are_refused(folder, component, changes, says):
    configure(folder, component, **changes)
    assert says in refused(folder)


def test_damaged_configs_are_named(folder):
    (folder / "unet" / "config.json").write_text("{")
    assert refused(folder) == f"{folder / 'unet' / 'config.json'} is damaged: it is not JSON."
