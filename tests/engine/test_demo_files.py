import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPTokenizer

from engine.model.components import load_text_encoders, load_unet
from engine.model.demo import build_demo, is_built, learn_merges
from engine.model.single_file import open_checkpoint
from engine.model.text import encode
from engine.model.tokenizers import byte_symbols, load_tokenizers


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass(frozen=True)
class Rebuilt:
    """A demo that was built where an old one lay, beside something else."""

    folder: Path
    reports: list[tuple[int, int]]


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Rebuilt:
    folder = tmp_path_factory.mktemp("rebuilt") / "demo"
    folder.mkdir()
    (folder / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="holds other files"):
        build_demo(folder, lambda done, total: None)
    assert contents(folder).keys() == {"mine.txt"}
    (folder / "demo.json").write_text('{"format": 0}')
    reports: list[tuple[int, int]] = []
    build_demo(folder, lambda done, total: reports.append((done, total)))
    return Rebuilt(folder, reports)


def test_the_same_files_come_out_every_time(demo_folder, rebuilt):
    assert contents(rebuilt.folder) == contents(demo_folder)
    assert rebuilt.reports == [(done, 42) for done in range(1, 43)]
    assert [path.name for path in demo_folder.parent.iterdir()] == ["demo"]


def test_forty_captioned_pictures_in_many_shapes(demo_folder):
    pictures = sorted((demo_folder / "pictures").glob("*.png"))
    captions = [path.with_suffix(".txt").read_text().strip() for path in pictures]
    assert len(pictures) == len(set(captions)) == 40
    ratios = set()
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.mode == "RGB"
            ratios.add(round(picture.width / picture.height, 2))
    assert len(ratios) >= 5 and round(16 / 9, 2) in ratios and min(ratios) < 1
    assert "a red circle on an orange ground" in captions


def test_a_complete_folder_is_left_alone(tmp_path, demo_folder):
    def refuse(done: int, total: int) -> None:
        raise AssertionError("nothing should be built")

    assert is_built(demo_folder)
    build_demo(demo_folder, refuse)


def test_a_folder_with_other_things_is_refused_and_an_old_demo_is_kept(rebuilt):
    assert is_built(rebuilt.folder) and not (rebuilt.folder / "mine.txt").exists()
    assert {path.name for path in rebuilt.folder.parent.iterdir()} == {"demo", "demo.old1"}
    assert (rebuilt.folder.with_name("demo.old1") / "mine.txt").read_text() == "x"


def test_an_interrupted_build_leaves_nothing(tmp_path):
    def interrupt(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_demo(tmp_path / "demo", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_transformers_reads_the_tokenizer_from_its_files(demo_folder):
    folder = demo_folder / "tokenizer"
    vocabulary = json.loads((folder / "vocab.json").read_text())
    assert next(iter(vocabulary)) == "!" and vocabulary["<|endoftext|>"] == len(vocabulary) - 1
    theirs = CLIPTokenizer.from_pretrained(folder)
    ids = theirs("a teal hexagon on an orange ground").input_ids
    assert len(ids) == 9 and ids[0] == vocabulary["<|startoftext|>"] and ids[-1] == vocabulary["<|endoftext|>"]
    assert ids[2] == vocabulary["teal</w>"]


def test_merges_are_learnt_most_frequent_first():
    assert learn_merges(["aab ab", "ab"])[0] == "a b</w>"
    assert learn_merges([""]) == []
    assert len(set(byte_symbols())) == 256 and byte_symbols()[ord("!")] == "!" and byte_symbols()[32] == "Ġ"


def test_captions_are_told_apart_and_the_unet_hears_them(demo_folder, demo_checkpoint):
    checkpoint = open_checkpoint(demo_checkpoint)
    encoders = load_text_encoders(checkpoint, "cpu", torch.float32)
    pair = load_tokenizers(demo_folder, checkpoint)
    captions = ["a red circle on a blue ground", "a blue circle on a red ground"]
    conditions = [encode(encoders, pair, caption) for caption in captions]
    prompt_embeds, pooled = (torch.stack(parts) for parts in zip(*conditions, strict=True))
    assert (prompt_embeds[0] - prompt_embeds[1]).std() > 0.1 and (pooled[0] - pooled[1]).std() > 0.1
    unet = load_unet(checkpoint, "cpu", torch.float32)
    latents = torch.randn(1, 4, 24, 40, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    size = torch.tensor([[192.0, 320.0, 0.0, 0.0, 192.0, 320.0]]).expand(2, -1)
    with torch.no_grad():
        conditioning = {"text_embeds": pooled, "time_ids": size}
        output = unet(latents, torch.tensor([999, 999]), prompt_embeds, added_cond_kwargs=conditioning).sample
    assert output.shape == latents.shape and bool(torch.isfinite(output).all())
    assert not torch.equal(output[0], output[1])


def test_the_checkpoint_stays_small(demo_checkpoint):
    assert demo_checkpoint.stat().st_size < 20 * 2**20
