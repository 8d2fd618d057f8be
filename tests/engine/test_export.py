import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.contract.atomic import Interrupted, NoSpaceError
from engine.contract.safetensors_header import read_header
from engine.contract.unet_names import to_published
from engine.model.components import load_text_encoders, load_unet
from engine.model.export import base_hash
from engine.model.single_file import Checkpoint, fingerprint, open_checkpoint
from tests.engine.exports import OneAtATime, assert_same, digests, exported, in_folder, narrowed, state_of

UNET = "model.diffusion_model."
TEXT = "conditioner.embedders.0.transformer.text_model."
TEXT_2 = "conditioner.embedders.1.model."
PUBLISHED = Path(__file__).parent / "sdxl_tensors.json"


@pytest.fixture(scope="module")
def base(demo_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(demo_checkpoint)


# The whole checkpoint


def test_export_replaces_only_the_trained_tensors(demo_checkpoint, base, tmp_path):
    names = ["conv_in.weight", "mid_block.attentions.0.transformer_blocks.1.attn2.to_k.weight"]
    trained = {name: base.unet()[name] * 2 + 1 for name in names}
    out = exported(base, tmp_path / "out.safetensors", unet=trained)
    before, after = digests(demo_checkpoint), digests(out)
    assert list(before) == list(after)
    assert {name for name in before if before[name] != after[name]} == {UNET + to_published(name) for name in names}
    again = load_file(out)
    for name, tensor in trained.items():
        assert torch.equal(again[UNET + to_published(name)], tensor)
    assert again[TEXT + "embeddings.position_ids"].dtype == torch.int64


def test_an_export_is_named_as_sdxl_is_published(base, tmp_path):
    def without_numbers(names: Mapping[str, object]) -> set[str]:
        return {re.sub(r"\d+", "N", name) for name in names}

    encoders = load_text_encoders(base, "cpu", torch.float32)
    out = exported(
        base,
        tmp_path / "out.safetensors",
        unet=state_of(load_unet(base, "cpu", torch.float32)),
        text_encoder=state_of(encoders.text_encoder),
        text_encoder_2=state_of(encoders.text_encoder_2),
    )
    ours, published = without_numbers(load_file(out)), without_numbers(json.loads(PUBLISHED.read_text()))
    assert ours - published == {"v_pred", "ztsnr"}
    # The demo's VAE has one width throughout.
    assert all(".nin_shortcut." in name for name in published - ours)
    assert list(read_header(out).tensors) == list(base.header.tensors)


def test_export_keeps_unknown_tensors_and_narrow_dtypes(demo_checkpoint, tmp_path):
    unknown = {
        "someone.elses.key": torch.arange(5, dtype=torch.int16),
        "three.bytes": torch.arange(3, dtype=torch.uint8),
    }
    base = narrowed(demo_checkpoint, tmp_path / "base.safetensors", **unknown)
    trained = {"conv_out.bias": torch.full((4,), 1 / 3)}
    narrow = exported(base, tmp_path / "narrow.safetensors", unet=trained)
    wide = exported(base, tmp_path / "wide.safetensors", unet=trained, dtype=torch.float32)
    name = UNET + "out.2.bias"
    assert torch.equal(load_file(narrow)[name], torch.full((4,), 1 / 3).half())
    assert torch.equal(load_file(wide)[name], torch.full((4,), 1 / 3))
    assert {key: value for key, value in digests(base).items() if key != name} == {
        key: value for key, value in digests(wide).items() if key != name
    }


def test_text_encoders_trained_in_part_are_exported(demo_checkpoint, base, tmp_path):
    query = "text_model.encoder.layers.1.self_attn.q_proj.weight"
    second = {query: torch.randn(48, 48), "text_projection.weight": torch.randn(48, 48)}
    first = {"final_layer_norm.bias": torch.randn(32)}
    out = exported(base, tmp_path / "out.safetensors", text_encoder=first, text_encoder_2=second)
    after = open_checkpoint(out)
    assert_same(after.text_encoder_2(), dict(base.text_encoder_2()) | second)
    assert_same(after.text_encoder(), dict(base.text_encoder()) | first)
    before, after_digests = digests(demo_checkpoint), digests(out)
    assert sum(before[name] != after_digests[name] for name in before) == 3
    # Stored for x @ P, so the transpose of a Linear's weight: no shape can tell.
    projection = load_file(out)[f"{TEXT_2}text_projection"]
    assert torch.equal(projection, second["text_projection.weight"].T) and not torch.equal(projection, projection.T)


def test_export_over_its_own_base_is_safe(demo_checkpoint, tmp_path):
    base = tmp_path / "base.safetensors"
    shutil.copy(demo_checkpoint, base)
    base.chmod(0o640)
    mapped = dict(open_checkpoint(base).unet())
    before = {name: tensor.clone() for name, tensor in mapped.items()}
    exported(base, base, unet={"conv_in.bias": torch.ones(32)})
    assert_same(mapped, before)
    assert torch.equal(open_checkpoint(base).unet()["conv_in.bias"], torch.ones(32))
    assert stat.S_IMODE(base.stat().st_mode) == 0o640


def test_fingerprints_follow_their_own_part_only(demo_checkpoint, base, tmp_path):
    def prints(path: Path) -> dict[str, str]:
        return {part: fingerprint(open_checkpoint(path), part) for part in ("unet", "vae", "text")}

    before = prints(demo_checkpoint)
    out = exported(base, tmp_path / "out.safetensors", unet={"conv_in.bias": torch.ones(32)})
    assert prints(out) == before | {"unet": prints(out)["unet"]} != before
    resaved = tmp_path / "resaved.safetensors"  # another tensor order
    save_file(load_file(demo_checkpoint), resaved, metadata=dict(read_header(demo_checkpoint).metadata))
    assert prints(resaved) == before


# What the file says of itself


def test_markers_follow_the_runs_objective(base, tmp_path):
    plain = exported(base, tmp_path / "eps.safetensors", prediction_type="epsilon", zero_terminal_snr=False)
    assert {"v_pred", "ztsnr"}.isdisjoint(read_header(plain).tensors)
    assert read_header(plain).metadata["modelspec.prediction_type"] == "epsilon"
    v_only = exported(plain, tmp_path / "v.safetensors", zero_terminal_snr=False)
    assert open_checkpoint(v_only).kind.prediction_type == "v_prediction"
    assert "ztsnr" not in read_header(v_only).tensors
    both = exported(v_only, tmp_path / "both.safetensors", metadata={"run": "a", "modelspec.title": "Mine"})
    assert load_file(both)["ztsnr"].shape == (0,) and load_file(both)["v_pred"].dtype == torch.float32
    described = read_header(both).metadata
    assert (described["run"], described["modelspec.title"]) == ("a", "Mine")
    assert described["modelspec.prediction_type"] == "v"
    assert "aozora.architecture" in described
    with pytest.raises(ValueError, match="needs v-prediction"):
        exported(plain, tmp_path / "no.safetensors", prediction_type="epsilon")


def test_a_flow_export_opens_again_as_flow(base, tmp_path):
    flow = exported(base, tmp_path / "flow.safetensors", prediction_type="flow", zero_terminal_snr=False)
    header = read_header(flow)
    assert {"v_pred", "ztsnr"}.isdisjoint(header.tensors)
    assert "modelspec.prediction_type" not in header.metadata  # it has no word for it
    assert header.metadata["aozora.prediction_type"] == "flow"
    kind = open_checkpoint(flow).kind
    assert (kind.prediction_type, kind.zero_terminal_snr) == ("flow", False)
    with pytest.raises(ValueError, match="needs v-prediction"):
        exported(flow, tmp_path / "no.safetensors", prediction_type="flow")


@pytest.mark.parametrize(("prediction_type", "word"), [("v_prediction", "v"), ("epsilon", "epsilon")])
def test_an_export_from_a_flow_base_is_announced_as_what_it_was_trained_to(base, tmp_path, prediction_type, word):
    flow = exported(base, tmp_path / "flow.safetensors", prediction_type="flow", zero_terminal_snr=False)
    out = exported(flow, tmp_path / "out.safetensors", prediction_type=prediction_type, zero_terminal_snr=False)
    assert read_header(out).metadata["modelspec.prediction_type"] == word
    assert open_checkpoint(out).kind.prediction_type == prediction_type


def test_what_was_true_of_the_base_alone_is_not_said_of_the_export(demo_checkpoint, tmp_path):
    stale = {
        "modelspec.hash_sha256": "0xabc",
        "sshs_model_hash": "abc",
        "sshs_legacy_hash": "abc",
        "modelspec.predict_key": "epsilon",  # ComfyUI's word
        "aozora.profile_digest": "abc",
        "aozora.base_fingerprint": "abc",
    }
    kept = {"author": "someone", "modelspec.thumbnail": "data:", "modelspec.license": "free", "ss_steps": "100"}
    path = tmp_path / "base.safetensors"
    save_file(load_file(demo_checkpoint), path, metadata=dict(read_header(demo_checkpoint).metadata) | stale | kept)
    described = read_header(exported(path, tmp_path / "out.safetensors")).metadata
    assert described.keys().isdisjoint(stale) and described.items() >= kept.items()
    assert described["aozora.base"] == "base.safetensors"
    assert described["aozora.base_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_hashing_the_base_can_be_stopped(base):
    with pytest.raises(Interrupted):
        base_hash(base, lambda: True)


# The UNet alone


def test_a_unet_alone_keeps_its_markers_wherever_comfyui_looks(base, tmp_path):
    out = exported(base, tmp_path / "unet.safetensors", form="unet", unet={"conv_out.bias": torch.full((4,), 0.5)})
    names = [name for name in base.header.tensors if name.startswith(UNET)]
    markers = {"v_pred", "ztsnr"}
    tensors = load_file(out)
    assert tensors.keys() == {*names, *markers, *(UNET + marker for marker in markers)}
    assert all(tensors[name].numel() == 0 for name in tensors.keys() - set(names))
    # "Load Diffusion Model" takes what has the prefix and cuts it off.
    assert markers <= {name.removeprefix(UNET) for name in tensors if name.startswith(UNET)}
    before, after = digests(base.path), digests(out)
    assert [name for name in names if after[name] != before[name]] == [UNET + "out.2.bias"]
    epsilon = exported(
        base, tmp_path / "eps.safetensors", form="unet", prediction_type="epsilon", zero_terminal_snr=False
    )
    assert read_header(epsilon).tensors.keys() == set(names)


def test_a_unet_alone_cannot_hold_text_encoders(base, tmp_path):
    with pytest.raises(ValueError, match="export a checkpoint"):
        exported(base, tmp_path / "o.safetensors", form="unet", text_encoder={"final_layer_norm.bias": torch.ones(32)})


# Either


FORMS = ["checkpoint", "unet", "diffusers"]


@pytest.fixture
def write(base, demo_folder, tmp_path):
    def write(form: str, **changes: object) -> Path:
        if form == "diffusers":
            return in_folder(base, tmp_path / "out" / "model", demo_folder, **changes)
        return exported(base, tmp_path / "out" / "model.safetensors", form=form, **changes)

    return write


@pytest.mark.parametrize("form", FORMS)
def test_tensors_are_asked_for_one_at_a_time(base, write, form):
    watched = OneAtATime(base.unet())
    write(form, unet=watched)
    assert len(watched.made) == len(watched.tensors) and watched.most <= 1


@pytest.mark.parametrize("form", FORMS)
def test_others_may_read_what_was_written(write, form):
    before = os.umask(0o022)
    try:
        out = write(form)
    finally:
        os.umask(before)
    for path in (out, *out.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("unet", "dtype", "sentence"),
    [
        ({"conv_in.bias": torch.ones(31)}, None, r"has shape \(31,\), the base \(32,\)"),
        ({"conv_in.bias": torch.full((32,), torch.nan)}, None, "is not finite in F32"),
        ({"conv_in.bias": torch.full((32,), 1e6)}, torch.float16, "is not finite in F16"),
        ({"down_blocks.0.attentions.0.norm.bias": torch.ones(32)}, None, "has no .*tensor .*norm.bias"),
        ({"lost.bias": torch.ones(32)}, None, "has no .*lost.bias|lost.bias has no place in SDXL"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(write, tmp_path, form, unet, dtype, sentence):
    with pytest.raises(ValueError, match=sentence):
        write(form, unet=unet, dtype=dtype)
    assert not any((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("looks", [0, 20, 350])
def test_a_stop_leaves_nothing(write, tmp_path, form, looks):
    asked = iter([False] * looks + [True])
    with pytest.raises(Interrupted):
        write(form, should_stop=lambda: next(asked))
    assert not any((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("form", FORMS)
def test_room_is_looked_for_before_anything_is_read_or_written(write, tmp_path, form, monkeypatch):
    def status(path: object) -> os.statvfs_result:
        return os.statvfs_result((4096, 4096, 100, 100, 100, 1, 1, 1, 0, 255))

    monkeypatch.setattr(os, "statvfs", status)
    asked = []
    with pytest.raises(NoSpaceError, match="not enough room"):
        write(form, should_stop=lambda: asked.append(True))
    assert asked == [] and not any((tmp_path / "out").glob("*"))
