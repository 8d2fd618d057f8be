"""What a run prepares before it trains: items, encodings, and what it says about them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from transformers import CLIPTextModel

from engine.contract import events
from engine.contract.rundir import RunDir
from engine.contract.sections import Profile
from engine.model.single_file import open_checkpoint
from engine.run.dataset import Dataset, prepare
from engine.run.errors import RunError
from engine.run.session import Session
from tests.end_to_end.harness import changed, of_type, session_in, write_profile
from tests.engine.words import useless_merges, write_tokenizer


def prepared(session: Session, profile: Path | Profile, demo_checkpoint: Path) -> Dataset:
    return prepare(session, changed(profile), open_checkpoint(demo_checkpoint), torch.device("cpu"))


def said(run: RunDir, code: str) -> list[str]:
    return [warning.text for warning in of_type(run, events.Warned) if warning.code == code]


def write_captions(place: Path, *captions: str) -> None:
    for path, caption in zip(sorted((place / "pictures").glob("*.txt")), captions, strict=False):
        path.write_text(caption)


def test_captions_that_are_cut_are_named_and_prompts_are_not_captions(session, place, demo_folder, demo_checkpoint):
    long, longest = "red star " * 50, "blue ring " * 100
    write_captions(place, long, "a red star", longest, long, long)
    profile = changed(
        write_profile(place, demo_folder), data={"max_tokens": 75}, preview={"prompts": ("a star", long, long)}
    )
    dataset = prepared(session, profile, demo_checkpoint)
    names = [item.name for item in dataset.items]
    expected = f"4 captions are longer than 75 tokens: {names[0]}, {names[2]}, {names[3]} and 1 more"
    assert said(session.run, "caption_cut") == [expected]
    assert said(session.run, "prompt_cut") == [f'1 prompt is longer than 75 tokens: the prompt "{long[:40]}"']
    assert [item.chunks for item in dataset.items] == [2, 1, 3, 2, 2] and dataset.chunks == (1,) * 5
    prepared(session, profile, demo_checkpoint)
    assert len(said(session.run, "caption_cut")) == 2, "a resumed run says it too"


def test_raising_the_longest_caption_encodes_again_what_was_cut_and_nothing_else(place, demo_folder, demo_checkpoint):
    write_captions(place, "red star " * 50, "a red star", "blue ring " * 100)
    profile = write_profile(place, demo_folder)

    def text_entries() -> set[Path]:
        return set((place / "cache" / "text").glob("*/*"))

    lengths, entries = [], []
    for tokens in (75, 150, 225, 750):
        dataset = prepared(
            session_in(place / "runs", str(tokens)), changed(profile, data={"max_tokens": tokens}), demo_checkpoint
        )
        lengths.append(dataset.chunks[:3])
        entries.append(len(text_entries()))
        contexts = [dataset.cache.load_text(item)[0] for item in dataset.items]
        assert [len(context) // 77 for context in contexts] == list(dataset.chunks)
    assert lengths == [(1, 1, 1), (2, 1, 2), (2, 1, 3), (2, 1, 3)]
    assert [entries[1] - entries[0], entries[2] - entries[1], entries[3] - entries[2]] == [2, 1, 0]


def test_an_edited_caption_and_a_replaced_picture_are_encoded_again_and_nothing_else(
    place, demo_folder, demo_checkpoint
):
    profile = write_profile(place, demo_folder)

    def entries() -> set[Path]:
        prepared(session_in(place / "runs"), profile, demo_checkpoint)
        return set((place / "cache").rglob("*.safetensors"))

    first = entries()
    assert first and entries() == first
    pictures = sorted((place / "pictures").glob("*.png"))
    pictures[0].with_suffix(".txt").write_text("something else entirely")
    Image.open(pictures[1]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(pictures[2])
    added = entries() - first
    assert sorted(path.relative_to(place / "cache").parts[0] for path in added) == ["latents", "text"]


def counts_of_captions(session: Session) -> list[tuple[int, int]]:
    progress = [event for event in of_type(session.run, events.Progress) if event.unit == "captions"]
    return [(event.done, event.total) for event in progress if event.phase == "scan"]


def test_captions_are_counted_once_and_never_again_on_resume(session, place, demo_folder, demo_checkpoint):
    write_captions(place, "red star " * 50, "a red star", "blue ring " * 100)
    profile = write_profile(place, demo_folder)
    first = prepared(session, profile, demo_checkpoint)
    assert counts_of_captions(session)[-1] == (2, 2), "one is too short to need counting"
    again = prepared(session, profile, demo_checkpoint)
    assert len(counts_of_captions(session)) == 1 and again.items == first.items and again.chunks == first.chunks


def test_a_run_begun_before_captions_were_counted_goes_on(session, place, demo_folder, demo_checkpoint):
    write_captions(place, "red star " * 50, "a red star", "blue ring " * 100)
    profile = write_profile(place, demo_folder)
    first = prepared(session, profile, demo_checkpoint)
    path = session.run.path / "dataset.json"
    snapshot = json.loads(path.read_text())
    assert [item.pop("chunks") for item in snapshot[1]] == [2, 1, 3, 1, 1]
    path.write_text(json.dumps(snapshot))
    again = prepared(session, profile, demo_checkpoint)
    assert again.items == first.items and again.chunks == first.chunks == (2, 1, 3, 1, 1)
    assert again.fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("section", "setting", "old", "new"),
    [
        ("data", "max_tokens", 225, 300),
        ("data", "vae_precision", "fp32", "bf16"),
        ("data", "vae_tiling", "off", "on"),
        ("data", "latents", "mean", "sampled"),
        ("data", "background", "#ffffff", "#000000"),
        ("model", "precision", "fp32", "bf16"),
    ],
)
def test_a_setting_that_encodes_otherwise_is_named_with_both_its_values(
    session, place, demo_folder, demo_checkpoint, section, setting, old, new
):
    """Of a run that was stopped before its first checkpoint, and whose profile was changed then."""
    profile = changed(write_profile(place, demo_folder), **{section: {setting: old}})
    prepared(session, profile, demo_checkpoint)
    with pytest.raises(RunError) as caught:
        prepared(session, changed(profile, **{section: {setting: new}}), demo_checkpoint)
    assert caught.value.code == "resume-differs"
    assert caught.value.text.endswith(f"with other settings: {section}.{setting} was {old}, is {new}")


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("vae", "model.vae, or model.base without one, holds another VAE"),
        ("text_encoders", "model.base holds other text encoders"),
        ("tokenizers", "model.tokenizer, or what was found without one, is another vocabulary"),
    ],
)
def test_another_part_of_the_model_is_named(session, place, demo_folder, demo_checkpoint, part, says):
    profile = write_profile(place, demo_folder)
    prepared(session, profile, demo_checkpoint)
    path = session.run.path / "dataset.json"
    snapshot = json.loads(path.read_text())
    path.write_text(json.dumps([snapshot[0] | {part: "0" * 64, "max_chunks": 1}, snapshot[1]]))
    with pytest.raises(RunError) as caught:
        prepared(session, profile, demo_checkpoint)
    assert caught.value.text.endswith(f"with other settings: {says}; data.max_tokens was 75, is 225")


@pytest.mark.parametrize(
    ("tiling", "resumed", "remedy"),
    [("auto", False, 'data.vae_tiling = "on"'), ("on", False, 'data.vae_precision = "bf16"'), ("on", True, "resume")],
)
def test_a_card_that_is_full_while_encoding_is_told_with_a_way_out(
    session, place, demo_folder, demo_checkpoint, monkeypatch, tiling, resumed, remedy
):
    profile = changed(write_profile(place, demo_folder), data={"vae_tiling": tiling})
    if resumed:
        prepared(session, profile, demo_checkpoint)
        shutil.rmtree(place / "cache" / "latents")

    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AutoencoderKL, "encode", full)
    with pytest.raises(RunError, match=r"too little memory to encode .+\.png at ") as caught:
        prepared(session, profile, demo_checkpoint)
    assert caught.value.code == "out-of-memory" and remedy in caught.value.remedy
    assert resumed is ("vae_" not in caught.value.remedy)


def test_a_card_that_is_full_for_the_text_encoders_is_told(session, place, demo_folder, demo_checkpoint, monkeypatch):
    def full(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(CLIPTextModel, "forward", full)
    with pytest.raises(RunError, match="too little memory for the text encoders") as caught:
        prepared(session, write_profile(place, demo_folder), demo_checkpoint)
    assert caught.value.code == "out-of-memory" and "nvidia-smi" in caught.value.remedy


def test_another_models_tokenizer_ends_the_run_as_a_tokenizers_mistake(session, place, demo_folder, demo_checkpoint):
    folder = write_tokenizer(place / "words", useless_merges(900))
    profile = changed(write_profile(place, demo_folder), model={"tokenizer": str(folder)})
    with pytest.raises(RunError, match="it belongs to another model") as caught:
        prepared(session, profile, demo_checkpoint)
    assert caught.value.code == "tokenizer" and "model.tokenizer" in caught.value.remedy
    (folder / "merges.txt").write_text("")
    with pytest.raises(RunError, match="is damaged: its merges are missing") as caught:
        prepared(session, profile, demo_checkpoint)
    assert caught.value.code == "tokenizer" and "model.tokenizer" in caught.value.remedy
