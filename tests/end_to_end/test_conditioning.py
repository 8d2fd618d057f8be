"""What reaches the network, set otherwise than by default, in whole runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine.contract import events
from engine.contract.items import Encoding
from engine.contract.rundir import RunDir
from engine.contract.safetensors_header import Header, TensorInfo
from engine.model import tokenizers
from engine.model.single_file import open_checkpoint
from engine.run.encoding import RESERVE, settle, why_tiled
from engine.run.errors import RunError
from tests.end_to_end.harness import (
    FEW,
    assert_same_weights,
    changed,
    copy_pictures,
    of_type,
    run_here,
    weights_of,
    write_profile,
)

GIB = 2**30


def differ(one: RunDir, other: RunDir) -> bool:
    ours, theirs = weights_of(one), weights_of(other)
    return any(not torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_sampled_latents_in_bf16_tiles_train_and_resume_bitwise(place: Path, demo_folder: Path):
    by_mean = changed(
        write_profile(place, demo_folder, steps=2, accumulate=2, layers=FEW),
        data={"vae_precision": "bf16", "vae_tiling": "on", "max_tokens": 75, "resolution": 64},
        objective={"conditional_dropout": 0.0},
    )
    drawn = changed(by_mean, data={"latents": "sampled"})
    straight = run_here(drawn, place / "runs")
    broken = run_here(drawn, place / "runs", stop_after_step=1)
    assert of_type(broken, events.Finished)[-1].reason == "stopped"
    run_here(drawn, place / "runs", run=broken)
    assert_same_weights(straight, broken)
    other = run_here(by_mean, place / "runs", stop_after_step=1)
    assert of_type(other, events.Step)[0].loss != of_type(straight, events.Step)[0].loss


def test_a_run_begun_before_tiles_and_sampling_existed_goes_on(encoded: Path, demo_folder: Path):
    profile = write_profile(encoded, demo_folder, steps=2, accumulate=1, layers=FEW)
    run = run_here(profile, encoded / "runs", stop_after_step=1)
    snapshot = json.loads((run.path / "dataset.json").read_text())
    assert not snapshot[0].pop("vae_tiled") and snapshot[0].pop("latents") == "mean"
    (run.path / "dataset.json").write_text(json.dumps(snapshot))
    run_here(profile, encoded / "runs", run=run)
    assert of_type(run, events.Finished)[-1].reason == "finished"


def test_the_null_condition_of_the_profile_is_trained_and_sampled_with(encoded: Path, demo_folder: Path):
    profile = changed(
        write_profile(encoded, demo_folder, steps=1, accumulate=1, layers=FEW),
        preview={"at_end": True},
        objective={"conditional_dropout": 1.0},
    )
    prompted, zeros = (
        run_here(changed(profile, objective={"null_condition": kind}, preview={"prompts": ()}), encoded / "runs")
        for kind in ("empty_prompt", "zeros")
    )
    assert differ(prompted, zeros)
    kept = {kind: {"null_condition": kind, "conditional_dropout": 0.0} for kind in ("empty_prompt", "zeros")}
    runs = [run_here(changed(profile, objective=values), encoded / "runs") for values in kept.values()]
    assert_same_weights(*runs)
    pictures = [Image.open(next(run.samples.glob("*.png"))) for run in runs]
    assert pictures[0].tobytes() != pictures[1].tobytes(), "the empty negative prompt is the null condition"
    assert [json.loads(picture.text["aozora"])["null_condition"] for picture in pictures] == list(kept)
    (sampled,) = of_type(runs[1], events.Sampled)
    assert sampled.settings["null_condition"] == "zeros"


def test_a_machine_without_a_tokenizer_ends_the_run_in_a_sentence(place: Path, demo_folder: Path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(place / "hub"))
    monkeypatch.setattr("engine.contract.tokenizer_files._PACKAGES", ())
    model = {"tokenizer": "", "fetch_tokenizer": True}
    with pytest.raises(
        RunError, match=r"no CLIP tokenizer on this machine, and the Hugging Face hub gives none"
    ) as caught:
        run_here(changed(write_profile(place, demo_folder), model=model), place / "runs")
    assert caught.value.code == "tokenizer" and "aozora-tui[offline]" in caught.value.remedy


@pytest.mark.parametrize("kept", [True, False])
def test_whether_the_vae_works_in_tiles_is_settled_once(session, demo_folder, demo_checkpoint, tmp_path, kept):
    checkpoint = open_checkpoint(demo_checkpoint)
    words = tokenizers.load_tokenizers(demo_folder, checkpoint)
    copy_pictures(demo_folder, tmp_path / "pictures", 1)
    profile = write_profile(tmp_path, demo_folder)
    device = torch.device("cpu")

    def settled(tiling: str, kept: Encoding | None) -> Encoding:
        settings = changed(profile, data={"vae_tiling": tiling, "max_tokens": 300})
        return settle(session, settings, checkpoint, device, words=words, kept=kept)

    fresh = {tiling: settled(tiling, None) for tiling in ("auto", "on", "off")}
    assert {tiling: encoding.vae_tiled for tiling, encoding in fresh.items()} == {
        "auto": False,
        "on": True,
        "off": False,
    }
    assert {encoding.max_chunks for encoding in fresh.values()} == {4}
    earlier = replace(fresh["auto"], vae_tiled=kept)
    assert settled("auto", earlier).vae_tiled is kept
    assert settled("on", earlier).vae_tiled and not settled("off", earlier).vae_tiled, "said, and compared with `kept`"


def test_auto_takes_tiles_where_the_largest_bucket_does_not_fit_the_whole_card_less_a_reserve(
    demo_folder, demo_checkpoint, tmp_path
):
    header = open_checkpoint(demo_checkpoint).header
    profile = changed(write_profile(tmp_path, demo_folder), data={"resolution": 1024, "bucket_step": 64})
    assert why_tiled(profile, header, float("inf")) == ""
    why = why_tiled(profile, header, 2.01 * GIB)
    assert why.startswith("pictures are encoded in tiles: encoding ") and why.endswith(
        "the card has 2.0, less 2 for others"
    )
    lowest = next(total for total in range(2048, 6000) if not why_tiled(profile, header, total * 2**20)) - 2048
    assert lowest > 10
    half = changed(profile, data={"vae_precision": "bf16"})
    # Six planes of two bytes against five of four: six tenths.
    assert why_tiled(half, header, RESERVE + lowest * 2**20 * 0.65) == ""
    assert why_tiled(profile, header, RESERVE + (lowest - 1) * 2**20)
    small = changed(profile, data={"resolution": 256})
    assert why_tiled(small, header, 0) == "", "what is no larger than a tile is not cut"


def test_a_true_sdxl_vae_is_tiled_on_small_cards_only(demo_folder, demo_checkpoint, tmp_path):
    shapes = json.loads((Path(__file__).parents[1] / "engine" / "sdxl_tensors.json").read_text())
    tensors = {name: TensorInfo("F16", tuple(shape), ()) for name, shape in shapes.items()}
    header = Header(Path("sdxl.safetensors"), {}, tensors, 0)
    profile = changed(write_profile(tmp_path, demo_folder), data={"resolution": 1024, "bucket_step": 64})
    assert [bool(why_tiled(profile, header, size * GIB)) for size in (4, 6, 8, 24)] == [True, False, False, False]
    larger = changed(profile, data={"resolution": 1536})
    assert [bool(why_tiled(larger, header, size * GIB)) for size in (6, 8, 12)] == [True, True, False]
