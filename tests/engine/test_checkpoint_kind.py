"""What a file is said to be, and what it is taken to predict."""

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.contract.architecture import ARCHITECTURE_KEY
from engine.contract.base_checkpoint import read_base
from engine.contract.checkpoint_kind import Kind, identify
from engine.contract.safetensors_header import CheckpointError, Header, TensorInfo, read_header
from engine.contract.unet_names import UNET_PREFIX
from tests.engine.sparse import write_sparse

PUBLISHED = Path(__file__).parent / "sdxl_tensors.json"
UNET, VAE = UNET_PREFIX, "first_stage_model."

# Tensors as these models publish them: enough of each to know it by.
SD_UNET = {
    f"{UNET}time_embed.0.weight": [1280, 320],
    f"{UNET}input_blocks.0.0.weight": [320, 4, 3, 3],
    f"{UNET}input_blocks.1.1.proj_in.weight": [320, 320, 1, 1],
}
SD_VAE = {f"{VAE}encoder.conv_in.weight": [128, 3, 3, 3], f"{VAE}post_quant_conv.weight": [4, 4, 1, 1]}
SD1 = SD_UNET | {
    f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [320, 768],
    "cond_stage_model.transformer.text_model.final_layer_norm.weight": [768],
    **SD_VAE,
}
SD2 = SD_UNET | {
    f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [320, 1024],
    "cond_stage_model.model.ln_final.weight": [1024],
    **SD_VAE,
}
REFINER = {
    f"{UNET}input_blocks.0.0.weight": [384, 4, 3, 3],
    f"{UNET}label_emb.0.0.weight": [1536, 2560],
    "conditioner.embedders.0.model.ln_final.weight": [1280],
    **SD_VAE,
}
FLUX = {
    f"{UNET}double_blocks.0.img_attn.qkv.weight": [9216, 3072],
    f"{UNET}single_blocks.0.linear1.weight": [21504, 3072],
    "vae.decoder.conv_in.weight": [512, 16, 3, 3],
}
FLUX_DIFFUSERS = {"single_transformer_blocks.0.proj_mlp.weight": [12288, 3072], "x_embedder.weight": [3072, 64]}
SD3 = {f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": [4608, 1536], f"{VAE}decoder.conv_in.weight": [512, 16, 3, 3]}
SD3_DIFFUSERS = {"transformer_blocks.0.attn.add_k_proj.weight": [1536, 1536], "pos_embed.proj.weight": [1536, 16, 2, 2]}
ADAPTERS = {
    "LoRA": [
        {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": [8, 1280], "lora_te1_x.alpha": []},
        {"unet.mid_block.attentions.0.proj_in.lora_A.weight": [8, 1280]},
        {"unet.mid_block.attentions.0.processor.to_q_lora.down.weight": [8, 1280]},
        {"unet.mid_block.attentions.0.proj_in.lora.down.weight": [8, 1280]},
    ],
    "LoHa": [{"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": [1280, 8]}],
    "LoKr": [{"lora_unet_mid_block_attentions_0_proj_in.lokr_w1": [16, 16]}],
    "OFT": [{"lora_unet_mid_block_attentions_0_proj_in.oft_diag": [4, 320, 320]}],
}


@pytest.fixture(scope="module")
def header(demo_checkpoint: Path) -> Header:
    return read_header(demo_checkpoint)


@pytest.fixture(scope="module")
def sdxl() -> dict[str, list[int]]:
    """Of the published file: every name and shape."""
    return json.loads(PUBLISHED.read_text())


@pytest.fixture
def sparse(tmp_path: Path) -> Callable[..., Path]:
    return lambda shapes, name="model.safetensors": write_sparse(tmp_path / name, shapes)


def sentence(path: Path) -> str:
    """Why it cannot be trained here."""
    try:
        return identify(read_base(path)).why_not
    except CheckpointError as error:
        return f"{error}."


def changed(header: Header, *, drop: tuple[str, ...] = (), add: dict[str, tuple[int, ...]] | None = None) -> Header:
    tensors = {name: info for name, info in header.tensors.items() if not name.startswith(drop or ("\0",))}
    tensors |= {name: TensorInfo("F16", shape, ()) for name, shape in (add or {}).items()}
    return dataclasses.replace(header, tensors=tensors)


# Refusals


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (SD1, "is Stable Diffusion 1, not SDXL: only SDXL can be trained here."),
        (SD2, "is Stable Diffusion 2, not SDXL: only SDXL can be trained here."),
        (SD_UNET, "has a UNet without SDXL's size conditioning: it is not SDXL."),
        (REFINER, "is the SDXL refiner, which has another layout: choose an SDXL base checkpoint."),
        (FLUX, "is a FLUX-like transformer, not SDXL: only SDXL can be trained here."),
        (FLUX_DIFFUSERS, "is a FLUX-like transformer, not SDXL: only SDXL can be trained here."),
        (SD3, "is Stable Diffusion 3, not SDXL: only SDXL can be trained here."),
        (SD3_DIFFUSERS, "is Stable Diffusion 3, not SDXL: only SDXL can be trained here."),
        (
            {"control_model.input_hint_block.0.weight": [16, 3, 3, 3]},
            "is a ControlNet, not SDXL: only SDXL can be trained here.",
        ),
        (
            {"clip_l": [4, 768], "clip_g": [4, 1280]},
            "is a textual inversion embedding, not a checkpoint: choose an SDXL checkpoint.",
        ),
        ({}, "holds no tensors."),
        ({"v_pred": [0]}, "holds no weights."),
        ({"some.layer.weight": [4]}, "holds no UNet (some.layer.weight ...): choose a whole SDXL checkpoint."),
    ],
)
def test_other_models_are_refused_in_one_sentence(sparse, shapes, says):
    assert sentence(sparse(shapes)) == f"model.safetensors {says}"


@pytest.mark.parametrize(
    ("kind", "shapes"), [(kind, shapes) for kind, several in ADAPTERS.items() for shapes in several]
)
def test_adapters_are_refused_by_their_kind(sparse, kind, shapes):
    expected = f"mine.safetensors is a {kind}, an adapter and not a checkpoint: merge it into its base first."
    assert sentence(sparse(shapes, "mine.safetensors")) == expected


def test_an_inpainting_model_is_refused(sparse, sdxl):
    path = sparse(sdxl | {UNET + "input_blocks.0.0.weight": [320, 9, 3, 3]}, "inpaint.safetensors")
    assert sentence(path) == (
        "inpaint.safetensors takes 9 input channels, not 4 (an inpainting or edit model): choose a plain SDXL "
        "checkpoint."
    )


@pytest.mark.parametrize(
    ("prefixes", "says"),
    [
        ((UNET,), "is an SDXL UNet alone, without VAE and text encoders: choose the whole checkpoint it belongs to."),
        ((VAE,), "is a VAE alone: choose a whole SDXL checkpoint as the base, and name this as its VAE."),
        (("conditioner.",), "is a text encoder alone: choose a whole SDXL checkpoint."),
        ((UNET, "conditioner."), "lacks the VAE: name a VAE file (model.vae), or choose a whole SDXL checkpoint."),
        (
            (UNET, VAE),
            "lacks the first text encoder and the second text encoder: choose a whole SDXL checkpoint.",
        ),
        (
            (UNET, VAE, "conditioner.embedders.0."),
            "lacks the second text encoder: choose a whole SDXL checkpoint.",
        ),
    ],
)
def test_parts_of_sdxl_are_refused_by_what_is_missing(sparse, sdxl, prefixes, says):
    shapes = {name: shape for name, shape in sdxl.items() if name.startswith(prefixes)}
    assert sentence(sparse(shapes | {"v_pred": [0]})) == f"model.safetensors {says}"


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        (VAE, "is a VAE alone: choose a whole SDXL checkpoint as the base, and name this as its VAE."),
        ("conditioner.embedders.1.model.", "is a text encoder alone: choose a whole SDXL checkpoint."),
        ("conditioner.embedders.0.transformer.", "is a text encoder alone: choose a whole SDXL checkpoint."),
        (
            UNET,
            "is a UNet alone, without VAE and text encoders: choose the whole checkpoint it belongs to, or its "
            "diffusers folder.",
        ),
    ],
)
def test_parts_under_bare_names_are_refused(sparse, sdxl, prefix, says):
    shapes = {name.removeprefix(prefix): shape for name, shape in sdxl.items() if name.startswith(prefix)}
    assert sentence(sparse(shapes)) == f"model.safetensors {says}"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\n<!DOCTYPE html><html>", "is a web page saved under this name: the download needs a login or another link"),
        (
            b"PK\x03\x04archive/data.pkl",
            "is a pickled PyTorch checkpoint (.ckpt), which can run code when opened: use its .safetensors version",
        ),
        (
            struct.pack("<Q", 1000) + b'{"a": ',
            "is cut short: its header alone has 1,000 bytes, the file 14",
        ),
    ],
)
def test_files_of_other_formats_are_refused_in_one_sentence(tmp_path, content, says):
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    assert sentence(path) == f"{path} {says}."


def test_a_checkpoint_cut_short_is_refused(sparse, sdxl):
    path = sparse(sdxl)
    whole = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(whole // 2)
    start = read_length(path)
    assert sentence(path) == (
        f"{path} is cut short: {whole // 2 - start:,} of {whole - start:,} bytes of tensors are there; fetch it again."
    )


def read_length(path: Path) -> int:
    with path.open("rb") as file:
        return 8 + struct.unpack("<Q", file.read(8))[0]


@pytest.mark.parametrize(
    ("drop", "add", "says"),
    [
        ((UNET + "middle_block.1",), {}, "may be a pruned model"),
        ((), {"edm_mean": (4,), "edm_std": (4,)}, "EDM noise levels"),
        ((), {VAE + "post_quant_conv.weight": (16, 16, 1, 1)}, "has a VAE of 16 latent channels"),
        (
            ("conditioner.embedders.1.model.text_projection",),
            {},
            r"lacks conditioner.embedders.1.model.text_projection",
        ),
        ((), {UNET + "out.2.weight": (4,)}, "has model.diffusion_model.out.2.weight in the shape (4,)"),
    ],
)
def test_altered_checkpoints_are_refused_by_what_is_odd(header, drop, add, says):
    kind = identify(changed(header, drop=drop, add=add))
    assert not kind.trainable
    assert says in kind.why_not and kind.why_not.startswith(header.path.name) and kind.why_not.count(". ") == 0


# What it predicts


def test_the_demo_is_recognised_with_its_markers(header):
    kind = identify(header)
    assert kind == Kind("SDXL base", "", "v_prediction", True, "the v_pred and ztsnr markers", "v_prediction")


def announced(header: Header, *markers: str, scheduler: dict[str, object] | None = None, **metadata: str) -> Kind:
    bare = changed(header, drop=("v_pred", "ztsnr"), add=dict.fromkeys(markers, (0,)))
    said = {ARCHITECTURE_KEY: header.metadata[ARCHITECTURE_KEY]}
    said |= {f"{key.replace('__', '.')}": value for key, value in metadata.items()}
    return identify(dataclasses.replace(bare, metadata=said, scheduler=scheduler or {}))


def test_markers_are_read_as_comfyui_reads_them(header):
    def read(*markers: str) -> tuple[str, bool]:
        kind = announced(header, *markers)
        assert kind.comfyui == kind.prediction_type
        return kind.prediction_type, kind.zero_terminal_snr

    assert read() == ("epsilon", False)
    assert read("ztsnr") == ("epsilon", False)
    assert read("v_pred") == ("v_prediction", False)
    assert read("v_pred", "ztsnr") == ("v_prediction", True)
    assert read("v_pred", "edm_vpred.sigma_max") == ("edm_v", False)
    assert read("v_pred", "edm_mean", "edm_std") == ("edm", False)
    assert read("v_pred", "edm_mean") == ("v_prediction", False)


def test_how_the_prediction_type_was_found_is_said(header):
    assert announced(header).announced_by == "no marker: epsilon is assumed, as ComfyUI does"
    assert announced(header, "v_pred").announced_by == "the v_pred marker"
    alone = "its ztsnr marker does nothing in ComfyUI without v_pred"
    assert announced(header, "ztsnr").announced_by == f"no marker: epsilon is assumed, as ComfyUI does; {alone}"
    ours = announced(header, aozora__prediction_type="flow")
    assert ours.announced_by == "its own metadata (aozora.prediction_type)"
    spec = announced(header, "ztsnr", modelspec__prediction_type="v")
    assert spec.announced_by == f"modelspec.prediction_type in its metadata; {alone}"
    assert (spec.prediction_type, spec.zero_terminal_snr, spec.comfyui) == ("v_prediction", True, "epsilon")


@pytest.mark.parametrize(
    ("word", "means"),
    [
        *[(word, "v_prediction") for word in ("v", "V", "v_prediction", "v-prediction")],
        *[(word, "epsilon") for word in ("epsilon", "eps", "", "something else")],
    ],
)
def test_modelspec_metadata_speaks_where_markers_are_missing(header, word, means):
    assert announced(header, modelspec__prediction_type=word).prediction_type == means


def test_the_more_certain_word_goes_first(header):
    """EDM markers, our metadata, v markers, modelspec, the folder's scheduler."""
    words = {"modelspec__prediction_type": "epsilon", "aozora__prediction_type": "flow"}
    scheduler = {"prediction_type": "epsilon", "rescale_betas_zero_snr": True}

    def read(*markers: str, **metadata: str) -> str:
        return announced(header, *markers, scheduler=scheduler, **metadata).prediction_type

    assert read("edm_mean", "edm_std", "v_pred", **words) == "edm"
    assert read("v_pred", **words) == "flow"
    assert read("v_pred", modelspec__prediction_type="epsilon") == "v_prediction"
    assert announced(header, scheduler=scheduler, modelspec__prediction_type="v").prediction_type == "v_prediction"
    assert read() == "epsilon"
    assert read("v_pred", aozora__prediction_type="something else") == "v_prediction"


@pytest.mark.parametrize(
    ("scheduler", "means"),
    [
        ({"_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon"}, ("epsilon", False)),
        ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, ("v_prediction", True)),
        ({"prediction_type": "v_prediction"}, ("v_prediction", False)),
        ({"prediction_type": "epsilon", "rescale_betas_zero_snr": True}, ("epsilon", False)),
        ({"_class_name": "DDIMScheduler"}, ("epsilon", False)),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}, ("flow", False)),
        ({"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction"}, ("flow", False)),
        ({"_class_name": "EDMDPMSolverMultistepScheduler", "prediction_type": "epsilon"}, ("edm", False)),
    ],
)
def test_a_folders_scheduler_says_what_it_predicts(header, scheduler, means):
    kind = announced(header, scheduler=scheduler)
    assert (kind.prediction_type, kind.zero_terminal_snr, kind.comfyui) == (*means, "epsilon")
    assert kind.announced_by == "its scheduler_config.json"
    assert kind.trainable == (means[0] != "edm")


def test_a_folder_that_predicts_something_else_is_refused(header):
    for word in ("sample", ["v"]):
        says = f"predicts {word} (its scheduler_config.json), which no objective here can continue."
        assert announced(header, scheduler={"prediction_type": word}).why_not.endswith(says)


def test_what_our_own_metadata_says_comes_before_the_markers(header):  # v_pred and ztsnr are in it
    def read(said: str, *markers: str) -> tuple[str, bool]:
        kind = announced(header, "v_pred", "ztsnr", *markers, aozora__prediction_type=said)
        return kind.prediction_type, kind.zero_terminal_snr

    assert read("v_prediction") == ("v_prediction", True)
    assert read("flow") == ("flow", False)
    assert read("epsilon") == ("epsilon", False)
    # No export of ours carries EDM's markers: what does is another model, whatever it was made from.
    assert read("flow", "edm_mean", "edm_std") == ("edm", False)
