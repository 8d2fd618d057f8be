"""Where CLIP's vocabulary is looked for, without torch and without the network."""

import gzip
import importlib
import os
import sys
from pathlib import Path

import pytest

from engine.contract import places
from engine.contract.check import check_machine
from engine.contract.problems import Problem
from engine.contract.profile import parse
from engine.contract.tokenizer_files import TokenizerError, find_tokenizers, has_pair, hub_cache, may_fetch

CLIP = "models--openai--clip-vit-large-patch14"
SDXL = "models--stabilityai--stable-diffusion-xl-base-1.0"
PACKAGE_FILE = "bpe_simple_vocab_16e6.txt.gz"
VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")


@pytest.fixture(autouse=True)
def nothing_here(tmp_path, monkeypatch):
    """A machine that has never seen a tokenizer; its hub is in `tmp_path / "hub"`."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("AOZORA_DATA", str(tmp_path / "data"))
    # Ours come first on the path; those of this machine must not be found behind them.
    monkeypatch.setattr(sys, "path", [str(tmp_path)])


def both(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text("{}")
    (folder / "merges.txt").write_text("")
    return folder


def one(folder: Path) -> Path:
    """The form with everything in one file."""
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def package(root: Path, name: str) -> Path:
    (root / name).mkdir()
    (root / name / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (root / name / PACKAGE_FILE).write_bytes(gzip.compress(b"x"))
    importlib.invalidate_caches()
    return root / name / PACKAGE_FILE


def test_a_folder_with_both_files_serves_both_encoders(tmp_path):
    folder = both(tmp_path / "words")
    assert find_tokenizers(folder) == (folder, folder)


def test_a_models_folder_serves_with_its_subfolders(tmp_path):
    first = both(tmp_path / "model" / "tokenizer")
    assert find_tokenizers(tmp_path / "model") == (first, first)
    second = both(tmp_path / "model" / "tokenizer_2")
    assert find_tokenizers(tmp_path / "model") == (first, second)


def test_one_file_with_everything_serves_as_well(tmp_path):
    folder = one(tmp_path / "words")
    assert find_tokenizers(folder) == (folder, folder) and not has_pair(folder)
    first, second = one(tmp_path / "model" / "tokenizer"), both(tmp_path / "model" / "tokenizer_2")
    assert find_tokenizers(tmp_path / "model") == (first, second) and has_pair(second)
    (first / "vocab.json").write_text("{}")  # without its merges
    assert find_tokenizers(tmp_path / "model") == (first, second) and not has_pair(first)
    cached = one(tmp_path / "hub" / CLIP / "snapshots" / "a")
    assert find_tokenizers(None) == (cached, cached)


def test_the_base_models_folder_comes_after_the_profiles_and_before_the_cache(tmp_path):
    base = tmp_path / "base"
    (base / "unet").mkdir(parents=True)
    cached = both(tmp_path / "hub" / CLIP / "snapshots" / "a")
    assert find_tokenizers(None, base) == (cached, cached)
    second = both(base / "tokenizer_2")
    assert find_tokenizers(None, base) == (second, second)
    first = one(base / "tokenizer")
    assert find_tokenizers(None, base) == (first, second)
    (first / "tokenizer.json").unlink()  # half a folder is passed by, unless it was meant
    assert find_tokenizers(None, base) == (second, second)
    words = both(tmp_path / "words")
    assert find_tokenizers(words, base) == (words, words)
    with pytest.raises(TokenizerError):
        find_tokenizers(base, base)
    (tmp_path / "one.safetensors").touch()
    assert find_tokenizers(None, tmp_path / "one.safetensors") == (cached, cached)


def test_the_hub_is_asked_where_only_a_package_is_left(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    package(tmp_path, "clip")
    assert may_fetch(None, base) and may_fetch(None, None)
    assert not may_fetch(tmp_path / "words", base), "a folder was meant"
    one(base / "tokenizer")
    assert not may_fetch(None, base)
    both(tmp_path / "hub" / CLIP / "snapshots" / "a")
    assert not may_fetch(None, None)


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt"])
def test_half_a_tokenizer_is_none_and_the_missing_file_is_named(tmp_path, missing):
    folder = both(tmp_path / "words")
    both(tmp_path / "hub" / CLIP / "snapshots" / "a")  # no way out: the folder was meant
    (folder / missing).unlink()
    with pytest.raises(TokenizerError) as caught:
        find_tokenizers(folder)
    assert caught.value.text == f"no tokenizer in {folder}: {missing} is missing"
    assert str(caught.value) == f"{caught.value.text}. {caught.value.remedy}"


def test_the_second_subfolder_must_be_whole_too(tmp_path):
    both(tmp_path / "model" / "tokenizer")
    (both(tmp_path / "model" / "tokenizer_2") / "merges.txt").unlink()
    with pytest.raises(TokenizerError, match=r"tokenizer_2: merges\.txt is missing"):
        find_tokenizers(tmp_path / "model")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/o", "HF_HOME": "/b"}, "/o"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"HF_HOME": "$SCRATCH/hf", "SCRATCH": "/s"}, "/s/hf/hub"),
        ({"HF_HOME": "~/hf", "HOME": "/h"}, "/h/hf/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HOME": "/h"}, "/h/.cache/huggingface/hub"),
    ],
)
def test_the_hub_lies_where_its_own_client_has_it(monkeypatch, variables, expected):
    monkeypatch.delenv("HF_HUB_CACHE")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_cache() == Path(expected)


def test_the_hubs_snapshots_serve(tmp_path):
    folder = both(tmp_path / "hub" / SDXL / "snapshots" / "abc" / "tokenizer")
    assert find_tokenizers(None) == (folder, folder)
    clip = both(tmp_path / "hub" / CLIP / "snapshots" / "abc")
    assert find_tokenizers(None) == (clip, clip)


def test_the_branch_main_comes_first_then_the_newest_snapshot(tmp_path):
    snapshots = tmp_path / "hub" / CLIP / "snapshots"
    for age, name in enumerate(["new", "middle", "old"]):
        both(snapshots / name)
        os.utime(snapshots / name, (1e9 - age, 1e9 - age))
    assert find_tokenizers(None)[0] == snapshots / "new"
    main = tmp_path / "hub" / CLIP / "refs" / "main"
    main.parent.mkdir()
    main.write_text("old")
    assert find_tokenizers(None)[0] == snapshots / "old"
    (snapshots / "old" / "merges.txt").unlink()  # of a download that never finished
    assert find_tokenizers(None)[0] == snapshots / "new"
    (snapshots / "new" / "vocab.json").unlink()
    (snapshots / "new" / "vocab.json").symlink_to(tmp_path / "purged")
    assert find_tokenizers(None)[0] == snapshots / "middle"


def test_a_package_serves_without_being_imported(tmp_path):
    clip = package(tmp_path, "clip")
    assert find_tokenizers(None) == (clip, clip)
    open_clip = package(tmp_path, "open_clip")
    assert find_tokenizers(None) == (open_clip, open_clip)
    assert not {"clip", "open_clip"} & sys.modules.keys()
    cached = both(tmp_path / "hub" / CLIP / "snapshots" / "a")
    assert find_tokenizers(None) == (cached, cached)


def test_a_package_of_that_name_that_carries_nothing_is_passed_by(tmp_path):
    package(tmp_path, "open_clip").unlink()
    (tmp_path / "clip.py").write_text("")
    with pytest.raises(TokenizerError, match="no CLIP tokenizer on this machine"):
        find_tokenizers(None)


def problems(tmp_path: Path, tokenizer: str, *, fetch: bool = False, base: str = "x.safetensors") -> list[Problem]:
    text = f'[model]\nbase = "{base}"\ntokenizer = "{tokenizer}"\nfetch_tokenizer = {str(fetch).lower()}\n'
    profile, wrong = parse(text + '[[data.folders]]\npath = "x"\n', "profile.toml")
    assert profile is not None and wrong == []
    found, _ = check_machine(profile, tmp_path)
    return [problem for problem in found if problem.path == "model.tokenizer"]


def test_a_check_says_what_the_engine_would_say(tmp_path):
    for tokenizer, folder in (("", None), ("words", tmp_path / "words")):
        with pytest.raises(TokenizerError) as caught:
            find_tokenizers(folder)
        expected = Problem("model.tokenizer", caught.value.text, caught.value.remedy)
        assert problems(tmp_path, tokenizer) == [expected] and "aozora-tui[offline]" in problems(tmp_path, "")[0].remedy
    both(tmp_path / "words")
    assert problems(tmp_path, "words") == []
    one(tmp_path / "base" / "tokenizer")
    assert problems(tmp_path, "", base="base") == []
    both(tmp_path / "hub" / CLIP / "snapshots" / "a")
    assert problems(tmp_path, "") == []


def test_a_check_leaves_fetching_to_the_run_and_says_so(tmp_path):
    (found,) = problems(tmp_path, "", fetch=True)
    assert found.severity == "warning" and "the run will load it from the Hugging Face hub" in found.text
    (found,) = problems(tmp_path, "words", fetch=True)
    assert found.severity == "error", "a folder was meant"
    package(tmp_path, "clip")
    assert problems(tmp_path, "", fetch=True) == []


def test_the_demos_tokenizer_may_still_have_to_be_built(tmp_path):
    assert problems(tmp_path, "{data}/demo/tokenizer") == []
    (places.demo_folder() / "tokenizer").mkdir(parents=True)
    assert len(problems(tmp_path, "{data}/demo/tokenizer")) == 1
