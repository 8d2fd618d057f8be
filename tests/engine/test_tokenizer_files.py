"""Where CLIP's vocabulary is looked for, without torch and without the network."""

import gzip
import importlib
import json
import os
import sys
from pathlib import Path

import pytest

from engine.contract import places
from engine.contract.check import check_machine
from engine.contract.problems import Problem, errors
from engine.contract.profile import parse
from engine.contract.tokenizer_files import TokenizerError, find_tokenizers, has_pair, hub_cache, may_fetch
from engine.contract.tokenizer_tables import read_tables, vocabulary_of

CLIP = "models--openai--clip-vit-large-patch14"
SDXL = "models--stabilityai--stable-diffusion-xl-base-1.0"
PACKAGE_FILE = "bpe_simple_vocab_16e6.txt.gz"
MERGES = ["a t</w>", "c at</w>", "h at</w>"]
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
    (folder / "vocab.json").write_text(json.dumps(vocabulary_of(MERGES)))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]))
    return folder


def one(folder: Path) -> Path:
    """The form with everything in one file."""
    folder.mkdir(parents=True)
    model = {"vocab": vocabulary_of(MERGES), "merges": [merge.split() for merge in MERGES]}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}))
    return folder


def package(root: Path, name: str) -> Path:
    (root / name).mkdir()
    (root / name / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (root / name / PACKAGE_FILE).write_bytes(gzip.compress("\n".join(["version", *MERGES]).encode()))
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
    assert profile is not None and not errors(wrong)
    found = check_machine(profile, tmp_path).problems
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


@pytest.mark.parametrize("form", [both, one])
def test_tables_are_read_from_either_form(tmp_path, form):
    found = read_tables(form(tmp_path / "words"))
    assert found.merges == MERGES and found.vocabulary["hat</w>"] == 514 and len(found.vocabulary) == 517
    assert found == read_tables(package(tmp_path, "clip"))


def words_without(token: str, **more: object) -> str:
    return json.dumps({name: number for name, number in vocabulary_of(MERGES).items() if name != token} | more)


def model_of(**parts: object) -> str:
    return json.dumps({"model": {"vocab": vocabulary_of(MERGES), "merges": MERGES} | parts})


DAMAGED = [
    ("vocab.json", "", "is damaged: vocab.json is "),
    ("vocab.json", "{", "is damaged: vocab.json is "),
    ("vocab.json", "[" * 100_000, "is damaged: vocab.json is "),
    ("vocab.json", b"\xff", "is damaged: vocab.json is "),
    ("vocab.json", "[]", "is not a table of numbers"),
    ("vocab.json", words_without("!", **{"!": "0"}), "is not a table of numbers"),
    ("vocab.json", words_without("!", **{"!": -1}), "is not a table of numbers"),
    ("vocab.json", words_without("!", **{"\ud800": 0}), "its vocabulary is not text"),
    ("vocab.json", "{}", "<|startoftext|> and <|endoftext|> are not in it"),
    ("vocab.json", words_without("<|endoftext|>"), "<|startoftext|> and <|endoftext|> are not in it"),
    ("vocab.json", words_without("c"), 'the merge "c at</w>" is of tokens that are not in its vocabulary'),
    ("vocab.json", words_without("cat</w>"), 'the merge "c at</w>" is of tokens that are not in its vocabulary'),
    ("merges.txt", "", "merges are missing"),
    ("merges.txt", "#version: 0.2\n", "merges are missing"),
    ("merges.txt", "a t</w>\n", "its merges are cut short"),
    ("merges.txt", "a t</w>\nc", 'the merge "c" is not of two tokens'),
    ("merges.txt", b"a t</w>\n\xff", "is damaged: merges.txt is not text"),
    ("tokenizer.json", "", "is damaged: tokenizer.json is empty"),
    ("tokenizer.json", "{}", "is damaged: tokenizer.json holds no vocabulary with merges"),
    ("tokenizer.json", '{"model": []}', "is damaged: tokenizer.json holds no vocabulary with merges"),
    ("tokenizer.json", model_of(merges=[]), "merges are missing"),
    ("tokenizer.json", model_of(merges=None), "is damaged: tokenizer.json holds no vocabulary with merges"),
    ("tokenizer.json", model_of(merges=[3]), "is damaged: tokenizer.json holds no vocabulary with merges"),
    ("tokenizer.json", model_of(merges=MERGES[:2]), "its merges are cut short"),
    ("tokenizer.json", model_of(vocab=[["a", 0.0]]), "is not a table of numbers"),
]


@pytest.mark.parametrize(("file", "content", "sentence"), DAMAGED)
def test_a_damaged_tokenizer_is_found_by_the_check(tmp_path, file, content, sentence):
    folder = (one if file == "tokenizer.json" else both)(tmp_path / "words")
    assert problems(tmp_path, "words") == []
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    (found,) = problems(tmp_path, "words")
    assert found.severity == "error" and str(folder) in found.text and sentence in found.text
    assert "model.tokenizer" in found.remedy
    with pytest.raises(TokenizerError) as caught:
        read_tables(folder)
    assert (caught.value.text, caught.value.remedy) == (found.text, found.remedy)


def test_the_second_encoders_damaged_tokenizer_is_found_too(tmp_path):
    both(tmp_path / "model" / "tokenizer")
    (both(tmp_path / "model" / "tokenizer_2") / "merges.txt").write_text("")
    (found,) = problems(tmp_path, "model")
    assert "tokenizer_2" in found.text
    both(tmp_path / "hub" / CLIP / "snapshots" / "a")
    (found,) = problems(tmp_path, "", base="model")
    assert "tokenizer_2" in found.text, "the base's own goes before the cache's, and is not passed by for being damaged"


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03junk", gzip.compress(b"v", mtime=0)],
    ids=["empty", "text", "cut", "short"],
)
def test_a_damaged_package_is_an_error_unless_the_hub_comes_first(tmp_path, content):
    package(tmp_path, "clip").write_bytes(content)
    (found,) = problems(tmp_path, "")
    assert found.severity == "error" and PACKAGE_FILE in found.text
    (found,) = problems(tmp_path, "", fetch=True)
    assert found.severity == "warning"


def test_files_that_cannot_be_read_are_named(tmp_path):
    folder = both(tmp_path / "words")
    (folder / "vocab.json").unlink()
    (folder / "vocab.json").symlink_to("/proc/self/mem")  # a file whose first byte cannot be read
    with pytest.raises(TokenizerError, match=r"cannot be read: Input/output error") as caught:
        read_tables(folder)
    assert "Mend" in caught.value.remedy


def test_an_unchanged_tokenizer_is_not_read_at_every_check(tmp_path, monkeypatch):
    folder = both(tmp_path / "words")
    assert problems(tmp_path, "words") == []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
        assert problems(tmp_path, "words") == []
    (folder / "merges.txt").write_text("")
    assert len(problems(tmp_path, "words")) == 1
