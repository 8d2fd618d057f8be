import gzip
import hashlib
import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from engine.contract import tokenizer_files
from engine.contract.checkpoint_kind import identify
from engine.contract.part_names import NOT_LOADED
from engine.contract.safetensors_header import CheckpointError, Header, TensorInfo, read_header
from engine.contract.unet_names import UNET_PREFIX, unet_names
from engine.model.components import (
    load_text_encoders,
    load_unet,
    load_vae,
    set_trained,
    text_2_config,
    text_config,
    unet_config,
    vae_config,
)
from engine.model.convert import text_2_state, text_state, vae_state
from engine.model.single_file import open_checkpoint
from engine.model.tokenizers import load_tokenizers
from tests.engine.words import spell_out, useless_merges, write_tokenizer

PUBLISHED = Path(__file__).parent / "sdxl_tensors.json"


@pytest.fixture(scope="module")
def sdxl() -> Header:
    """The published SDXL file's table of contents: 2,515 names with their shapes."""
    shapes = json.loads(PUBLISHED.read_text())
    tensors = {name: TensorInfo("F16", tuple(shape), ()) for name, shape in shapes.items()}
    return Header(Path("sd_xl_base.safetensors"), {}, tensors, 0)


def on_meta(header: Header, prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): torch.empty(info.shape, device="meta")
        for name, info in header.tensors.items()
        if name.startswith(prefix)
    }


def shapes_of(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_the_published_list_is_recognised_and_configured_as_sdxl(sdxl):
    assert len(sdxl.tensors) == 2515 and identify(sdxl).why_not == ""
    config = unet_config(sdxl)
    # As in the published model's unet/config.json.
    assert config["block_out_channels"] == [320, 640, 1280]
    assert config["attention_head_dim"] == [5, 10, 20]
    assert config["transformer_layers_per_block"] == [1, 2, 10]
    assert config["down_block_types"] == ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]
    assert config["up_block_types"] == ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]
    assert (config["cross_attention_dim"], config["addition_time_embed_dim"]) == (2048, 256)
    assert (config["projection_class_embeddings_input_dim"], config["norm_num_groups"]) == (2816, 32)
    assert vae_config(sdxl)["block_out_channels"] == [128, 256, 512, 512]
    assert (vae_config(sdxl)["scaling_factor"], vae_config(sdxl)["norm_num_groups"]) == (0.13025, 32)
    first, second = text_config(sdxl), text_2_config(sdxl)
    assert (first.num_hidden_layers, first.num_attention_heads, first.hidden_size) == (12, 12, 768)
    assert (first.intermediate_size, first.hidden_act, first.vocab_size) == (3072, "quick_gelu", 49408)
    assert (second.num_hidden_layers, second.num_attention_heads, second.hidden_size) == (32, 20, 1280)
    assert (second.intermediate_size, second.hidden_act, second.projection_dim) == (5120, "gelu", 1280)
    assert first.max_position_embeddings == second.max_position_embeddings == 77
    assert first.eos_token_id == second.eos_token_id == 49407


def test_all_published_tensors_find_their_place_and_none_is_left(sdxl):
    with torch.device("meta"):
        modules = {
            UNET_PREFIX: UNet2DConditionModel(**unet_config(sdxl)),
            "first_stage_model.": AutoencoderKL(**vae_config(sdxl)),
            "conditioner.embedders.0.transformer.text_model.": CLIPTextModel(text_config(sdxl)),
            "conditioner.embedders.1.model.": CLIPTextModelWithProjection(text_2_config(sdxl)),
        }
    names = unet_names(sdxl.tensors)
    states = {prefix: on_meta(sdxl, prefix) for prefix in modules}
    converted = dict(
        zip(
            modules,
            (
                {names[UNET_PREFIX + name]: tensor for name, tensor in states[UNET_PREFIX].items()},
                vae_state(states["first_stage_model."]),
                text_state(states["conditioner.embedders.0.transformer.text_model."]),
                text_2_state(states["conditioner.embedders.1.model."]),
            ),
            strict=True,
        )
    )
    for prefix, module in modules.items():
        assert shapes_of(converted[prefix]) == shapes_of(module.state_dict()), prefix
    assert sum(len(state) for state in states.values()) == 2515
    assert sum(parameter.numel() for parameter in modules[UNET_PREFIX].parameters()) == 2_567_463_684
    left_out = [name for state in states.values() for name in state if name in NOT_LOADED]
    assert sorted(left_out) == ["embeddings.position_ids", "logit_scale"]


def test_the_demos_unet_is_what_its_own_names_say(demo_checkpoint):
    checkpoint = open_checkpoint(demo_checkpoint)
    unet = load_unet(checkpoint, "cpu", torch.bfloat16)
    assert unet.dtype == torch.bfloat16 and unet.training
    assert not any(parameter.requires_grad for parameter in unet.parameters())
    assert not any(tensor.is_meta for tensor in (*unet.parameters(), *unet.buffers()))
    assert unet.config.attention_head_dim == [2, 3, 4]
    source = checkpoint.unet()
    assert all(torch.equal(tensor, source[name].bfloat16()) for name, tensor in unet.state_dict().items())


def test_loaded_modules_outlive_the_file(demo_checkpoint, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(demo_checkpoint.read_bytes())
    vae = load_vae(open_checkpoint(path), "cpu")
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert all(torch.equal(tensor, before[name]) for name, tensor in vae.state_dict().items())
    assert vae.config.scaling_factor == 0.13025 and vae.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "replacement", "sentence"),
    [
        ("middle_block.1.norm.bias", None, r"lacks mid_block\.attentions\.0\.norm\.bias of its UNet2DConditionModel"),
        ("middle_block.1.norm.extra", torch.ones(1), r"has, unexpectedly, mid_block\.attentions\.0\.norm\.extra"),
        ("middle_block.1.norm.bias", torch.ones(3), r"another shape of mid_block\.attentions\.0\.norm\.bias"),
    ],
)
def test_missing_unexpected_and_misshapen_tensors_are_named(demo_checkpoint, tmp_path, name, replacement, sentence):
    tensors = load_file(demo_checkpoint)
    if replacement is None:
        del tensors[UNET_PREFIX + name]
    else:
        tensors[UNET_PREFIX + name] = replacement
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata=dict(read_header(demo_checkpoint).metadata))
    with pytest.raises(CheckpointError, match=sentence):
        load_unet(open_checkpoint(path), "cpu", torch.float32)


def test_an_unknown_architecture_note_is_refused(demo_checkpoint, tmp_path):
    path = tmp_path / "model.safetensors"
    for note in ("[]", '{"unet_head_dim": 0}', '{"colour": 3}', "{"):
        save_file(load_file(demo_checkpoint), path, metadata={"aozora.architecture": note})
        with pytest.raises(CheckpointError, match="describes its architecture"):
            load_vae(open_checkpoint(path), "cpu")


def test_only_the_chosen_tensors_train(demo_checkpoint):
    unet = load_unet(open_checkpoint(demo_checkpoint), "cpu", torch.float32)
    chosen = set_trained(unet, {"conv_out.weight", "conv_in.bias"})
    assert [name for name, _ in chosen] == ["conv_in.bias", "conv_out.weight"]
    assert {name for name, parameter in unet.named_parameters() if parameter.requires_grad} == dict(chosen).keys()
    assert [name for name, _ in set_trained(unet, {"conv_in.weight"})] == ["conv_in.weight"]
    assert not unet.conv_out.weight.requires_grad
    with pytest.raises(ValueError, match=r"no such tensor to train: conv_in\.wait"):
        set_trained(unet, {"conv_in.wait"})


def test_text_encoders_have_real_position_ids(demo_checkpoint):
    encoders = load_text_encoders(open_checkpoint(demo_checkpoint), "cpu", torch.float32)
    embeddings = encoders.text_encoder_2.text_model.embeddings
    assert torch.equal(embeddings.position_ids, torch.arange(77)[None])
    assert not encoders.text_encoder.training


def test_tokenizers_cut_alike(demo_folder, demo_checkpoint):
    checkpoint = open_checkpoint(demo_checkpoint)
    pair = load_tokenizers(demo_folder, checkpoint)
    assert load_tokenizers(demo_folder / "tokenizer", checkpoint).fingerprint == pair.fingerprint
    assert pair.tokenizer.eos_token_id == pair.tokenizer_2.eos_token_id == len(pair.tokenizer) - 1
    assert pair.tokenizer_2.convert_ids_to_tokens(0) == "!"
    text = "A red circle, 'naïve'! 日本 <3"
    assert pair.tokenizer(text).input_ids == pair.tokenizer_2(text).input_ids
    assert pair.tokenizer.decode(pair.tokenizer("a teal hexagon").input_ids[1:-1]) == "a teal hexagon"


def test_encodings_made_while_exclamation_marks_were_padding_are_not_used_again(demo_folder, demo_checkpoint):
    vocabulary = json.loads((demo_folder / "tokenizer" / "vocab.json").read_text())
    merges = (demo_folder / "tokenizer" / "merges.txt").read_text().splitlines()[1:]
    first_format = json.dumps([vocabulary, merges], sort_keys=True).encode() * 2
    fingerprint = load_tokenizers(demo_folder, open_checkpoint(demo_checkpoint)).fingerprint
    assert fingerprint != hashlib.blake2b(first_format, digest_size=32).hexdigest()


def test_two_subfolders_give_two_vocabularies(demo_folder, demo_checkpoint, tmp_path):
    checkpoint = open_checkpoint(demo_checkpoint)
    for name in ("tokenizer", "tokenizer_2"):
        (tmp_path / name).mkdir()
        for file in (demo_folder / "tokenizer").iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    same = load_tokenizers(tmp_path, checkpoint)
    assert same.fingerprint == load_tokenizers(demo_folder, checkpoint).fingerprint
    spell_out(tmp_path / "tokenizer_2")
    other = load_tokenizers(tmp_path, checkpoint)
    assert other.fingerprint != same.fingerprint
    assert len(other.tokenizer_2("triangle").input_ids) > len(other.tokenizer("triangle").input_ids)


def test_missing_foreign_and_damaged_tokenizers_are_explained(demo_folder, demo_checkpoint, tmp_path, monkeypatch):
    checkpoint = open_checkpoint(demo_checkpoint)
    with pytest.raises(ValueError, match=r"Put CLIP's vocab\.json and merges\.txt there"):
        load_tokenizers(tmp_path, checkpoint)
    (tmp_path / "merges.txt").write_text("")
    for content, sentence in [("{", "is damaged"), ('{"a": 0}', "is not CLIP's")]:
        (tmp_path / "vocab.json").write_text(content)
        with pytest.raises(ValueError, match=sentence):
            load_tokenizers(tmp_path, checkpoint)
    write_tokenizer(tmp_path, useless_merges(999))
    with pytest.raises(ValueError, match="belongs to another model"):
        load_tokenizers(tmp_path, checkpoint)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(tokenizer_files, "_PACKAGES", ())
    with pytest.raises(ValueError, match="no CLIP tokenizer on this machine"):
        load_tokenizers(None, checkpoint)


def test_a_package_that_carries_the_merges_is_enough(demo_folder, demo_checkpoint, tmp_path, monkeypatch):
    merges = (demo_folder / "tokenizer" / "merges.txt").read_text()
    package = tmp_path / "open_clip"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "bpe_simple_vocab_16e6.txt.gz").write_bytes(gzip.compress(merges.rstrip("\n").encode()))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    checkpoint = open_checkpoint(demo_checkpoint)
    assert load_tokenizers(None, checkpoint).fingerprint == load_tokenizers(demo_folder, checkpoint).fingerprint
