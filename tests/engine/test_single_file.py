import hashlib
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file, save_file

from engine.contract.atomic import Interrupted
from engine.contract.safetensors_header import CheckpointError, TensorInfo, identify, read_header
from engine.contract.unet_names import to_diffusers, to_published
from engine.model.components import load_text_encoders, text_2_config, unet_config, vae_config
from engine.model.convert import published_text_2, published_vae, vae_state
from engine.model.export import export
from engine.model.single_file import Checkpoint, fingerprint, open_checkpoint

UNET = "model.diffusion_model."
TEXT_2 = "conditioner.embedders.1.model."


@pytest.fixture(scope="module")
def checkpoint(demo_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(demo_checkpoint)


@pytest.fixture(scope="module")
def published(demo_checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(demo_checkpoint)


def _bytes(content: bytes, info: TensorInfo) -> bytes:
    return b"".join(content[piece.start : piece.start + piece.bytes] for piece in info.pieces)


def digests(path: Path) -> dict[str, str]:
    header = read_header(path)
    content = path.read_bytes()
    return {
        name: f"{info.dtype}{info.shape}{hashlib.sha256(_bytes(content, info)).hexdigest()}"
        for name, info in header.tensors.items()
    }


def exported(base: Path, out: Path, **changes: object) -> Path:
    options = {"unet": {}, "dtype": None, "prediction_type": "v_prediction", "zero_terminal_snr": True, "metadata": {}}
    return export(base, out, **(options | changes)).path


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


def test_export_replaces_only_the_trained_tensors(demo_checkpoint, tmp_path):
    names = ["conv_in.weight", "mid_block.attentions.0.transformer_blocks.1.attn2.to_k.weight"]
    base = open_checkpoint(demo_checkpoint)
    trained = {name: base.unet()[name] * 2 + 1 for name in names}
    out = exported(demo_checkpoint, tmp_path / "out.safetensors", unet=trained)
    before, after = digests(demo_checkpoint), digests(out)
    assert list(before) == list(after)
    assert {name for name in before if before[name] != after[name]} == {UNET + to_published(name) for name in names}
    again = load_file(out)
    for name, tensor in trained.items():
        assert torch.equal(again[UNET + to_published(name)], tensor)
    assert again["conditioner.embedders.0.transformer.text_model.embeddings.position_ids"].dtype == torch.int64


def test_export_keeps_unknown_tensors_and_narrow_dtypes(demo_checkpoint, tmp_path):
    tensors = load_file(demo_checkpoint)
    mixed = {name: tensor.half() if tensor.dtype == torch.float32 else tensor for name, tensor in tensors.items()}
    mixed["someone.elses.key"] = torch.arange(5, dtype=torch.int16)
    mixed["three.bytes"] = torch.arange(3, dtype=torch.uint8)
    metadata = read_header(demo_checkpoint).metadata
    base = tmp_path / "base.safetensors"
    save_file(mixed, base, metadata=dict(metadata) | {"modelspec.hash_sha256": "0xabc", "author": "someone"})
    trained = {"conv_out.bias": torch.full((4,), 1 / 3)}
    narrow = exported(base, tmp_path / "narrow.safetensors", unet=trained)
    wide = exported(base, tmp_path / "wide.safetensors", unet=trained, dtype=torch.float32)
    name = UNET + "out.2.bias"
    assert torch.equal(load_file(narrow)[name], torch.full((4,), 1 / 3).half())
    assert torch.equal(load_file(wide)[name], torch.full((4,), 1 / 3))
    assert {key: value for key, value in digests(base).items() if key != name} == {
        key: value for key, value in digests(wide).items() if key != name
    }
    described = read_header(narrow).metadata
    assert described["author"] == "someone" and "modelspec.hash_sha256" not in described


def test_markers_follow_the_runs_objective(demo_checkpoint, tmp_path):
    plain = exported(demo_checkpoint, tmp_path / "eps.safetensors", prediction_type="epsilon", zero_terminal_snr=False)
    assert {"v_pred", "ztsnr"}.isdisjoint(read_header(plain).tensors)
    assert read_header(plain).metadata["modelspec.prediction_type"] == "epsilon"
    v_only = exported(plain, tmp_path / "v.safetensors", zero_terminal_snr=False)
    assert identify(read_header(v_only)).prediction_type == "v_prediction"
    assert "ztsnr" not in read_header(v_only).tensors
    both = exported(v_only, tmp_path / "both.safetensors", metadata={"run": "a", "modelspec.title": "Mine"})
    assert load_file(both)["ztsnr"].shape == (0,) and load_file(both)["v_pred"].dtype == torch.float32
    described = read_header(both).metadata
    assert (described["run"], described["modelspec.title"]) == ("a", "Mine")
    assert described["modelspec.prediction_type"] == "v"
    assert "aozora.architecture" in described
    with pytest.raises(ValueError, match="needs v-prediction"):
        exported(plain, tmp_path / "no.safetensors", prediction_type="epsilon")


def test_a_flow_export_opens_again_as_flow(demo_checkpoint, tmp_path):
    flow = exported(demo_checkpoint, tmp_path / "flow.safetensors", prediction_type="flow", zero_terminal_snr=False)
    header = read_header(flow)
    assert {"v_pred", "ztsnr"}.isdisjoint(header.tensors)
    assert "modelspec.prediction_type" not in header.metadata  # it has no word for it
    assert header.metadata["aozora.prediction_type"] == "flow"
    kind = open_checkpoint(flow).kind
    assert (kind.prediction_type, kind.zero_terminal_snr) == ("flow", False)
    with pytest.raises(ValueError, match="needs v-prediction"):
        exported(flow, tmp_path / "no.safetensors", prediction_type="flow")


@pytest.mark.parametrize(("prediction_type", "word"), [("v_prediction", "v"), ("epsilon", "epsilon")])
def test_an_export_from_a_flow_base_is_announced_as_what_it_was_trained_to(
    demo_checkpoint, tmp_path, prediction_type, word
):
    flow = exported(demo_checkpoint, tmp_path / "flow.safetensors", prediction_type="flow", zero_terminal_snr=False)
    out = exported(flow, tmp_path / "out.safetensors", prediction_type=prediction_type, zero_terminal_snr=False)
    assert read_header(out).metadata["modelspec.prediction_type"] == word
    assert open_checkpoint(out).kind.prediction_type == prediction_type


def test_what_the_metadata_says_comes_before_the_markers(demo_checkpoint):
    header = read_header(demo_checkpoint)  # v_pred and ztsnr are in it

    def read(said: str, **more: TensorInfo) -> tuple[str, bool]:
        kind = identify(replace(header, metadata={"aozora.prediction_type": said}, tensors={**header.tensors, **more}))
        return kind.prediction_type, kind.zero_terminal_snr

    assert read("v_prediction") == ("v_prediction", True)
    assert read("flow") == ("flow", False)
    assert read("epsilon") == ("epsilon", False)
    assert read("something else") == ("v_prediction", True)
    # No export of ours carries EDM's markers: what does is another model, whatever it was made from.
    assert read("flow", edm_mean=TensorInfo("F32", (0,), ())) == ("edm", False)


def test_text_encoders_trained_in_part_are_exported(demo_checkpoint, tmp_path):
    base = open_checkpoint(demo_checkpoint)
    query = "text_model.encoder.layers.1.self_attn.q_proj.weight"
    second = {query: torch.randn(48, 48), "text_projection.weight": torch.randn(48, 48)}
    first = {"final_layer_norm.bias": torch.randn(32)}
    out = exported(demo_checkpoint, tmp_path / "out.safetensors", text_encoder=first, text_encoder_2=second)
    after = open_checkpoint(out)
    assert_same(after.text_encoder_2(), base.text_encoder_2() | second)
    assert_same(after.text_encoder(), base.text_encoder() | first)
    before, after_digests = digests(demo_checkpoint), digests(out)
    assert sum(before[name] != after_digests[name] for name in before) == 3


def test_export_over_its_own_base_is_safe(demo_checkpoint, tmp_path):
    base = tmp_path / "base.safetensors"
    shutil.copy(demo_checkpoint, base)
    base.chmod(0o640)
    mapped = open_checkpoint(base).unet()
    before = {name: tensor.clone() for name, tensor in mapped.items()}
    exported(base, base, unet={"conv_in.bias": torch.ones(32)})
    assert_same(mapped, before)
    assert torch.equal(open_checkpoint(base).unet()["conv_in.bias"], torch.ones(32))
    assert stat.S_IMODE(base.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("unet", "dtype", "sentence"),
    [
        ({"conv_in.bias": torch.ones(31)}, None, r"has shape \(31,\), the base \(32,\)"),
        ({"conv_in.bias": torch.full((32,), torch.nan)}, None, "is not finite in F32"),
        ({"conv_in.bias": torch.full((32,), 1e6)}, torch.float16, "is not finite in F16"),
        ({"down_blocks.0.attentions.0.norm.bias": torch.ones(32)}, None, "has no tensor"),
        ({"lost.bias": torch.ones(32)}, None, "has no place in SDXL"),
    ],
)
def test_what_cannot_be_exported_leaves_no_file(demo_checkpoint, tmp_path, unet, dtype, sentence):
    with pytest.raises(ValueError, match=sentence):
        exported(demo_checkpoint, tmp_path / "out.safetensors", unet=unet, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_a_stop_during_export_leaves_no_file(demo_checkpoint, tmp_path):
    asked = iter([False] * 20 + [True])
    with pytest.raises(Interrupted):
        exported(demo_checkpoint, tmp_path / "out.safetensors", should_stop=lambda: next(asked))
    assert list(tmp_path.iterdir()) == []


def test_fingerprints_follow_their_own_part_only(demo_checkpoint, tmp_path):
    def prints(path: Path) -> dict[str, str]:
        return {part: fingerprint(open_checkpoint(path), part) for part in ("unet", "vae", "text")}

    base = prints(demo_checkpoint)
    out = exported(demo_checkpoint, tmp_path / "out.safetensors", unet={"conv_in.bias": torch.ones(32)})
    assert prints(out) == base | {"unet": prints(out)["unet"]} != base
    tensors = load_file(demo_checkpoint)
    resaved = tmp_path / "resaved.safetensors"  # another tensor order
    save_file(tensors, resaved, metadata=dict(read_header(demo_checkpoint).metadata))
    assert prints(resaved) == base


def test_other_files_are_refused_when_opened(tmp_path):
    path = tmp_path / "vae.safetensors"
    save_file({"first_stage_model.quant_conv.bias": torch.zeros(8)}, path)
    with pytest.raises(CheckpointError, match="holds no UNet"):
        open_checkpoint(path)


def test_names_convert_both_ways_for_every_tensor(published):
    for name in published:
        if name.startswith(UNET):
            assert to_published(to_diffusers(name.removeprefix(UNET))) == name.removeprefix(UNET)
