"""The same ids from wherever CLIP's vocabulary comes, and the ids that inference feeds.

What counts is transformers' CLIPTokenizer, which ComfyUI and diffusers run. OpenAI's own tokenizer, read here from its
package as an independent implementation, cleans captions first (ftfy, HTML entities); `CLEANED` lists every kind of
caption whose ids differ for that.
"""

# ruff: noqa: RUF001 - letters that look like others are the point

import contextlib
import http.server
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from types import ModuleType

import pytest
from transformers import CLIPTokenizer

from engine.contract import tokenizer_files
from engine.contract.checkpoint_kind import identify
from engine.contract.safetensors_header import Header, TensorInfo
from engine.contract.tokenizer_files import CLIP_REPOSITORY, TokenizerError
from engine.model.single_file import Checkpoint
from engine.model.tokenizers import Tokenizers, load_tokenizers
from tests.engine.words import write_tokenizer

ROOT = Path(__file__).parents[2]
PUBLISHED = Path(__file__).parent / "sdxl_tensors.json"
CACHED = f"models--{CLIP_REPOSITORY.replace('/', '--')}"
SOURCES = ("package", "open_clip", "pair", "one", "one of old", "hub cache", "hub cache, one", "base", "subfolders")

TAGS = "1girl solo long_hair hatsune_miku_(vocaloid) fate/grand_order :3 ^_^ 1990s_(style) no_humans 2023 rating:safe"
CHINESE, JAPANESE, KOREAN = "樱花树下的女孩、水彩画", "初音ミク、桜の木の下でピアノを弾く。", "벚꽃 아래의 소녀, 수채화"
EMOJI = ("👩‍👩‍👧‍👦", "🇯🇵🇩🇪", "🏳️‍🌈", "👍🏽", "❤️", "🧑‍🚀")
ACCENTS = "café naïve Ångström Đặng façade São Zoë"
PIECES = (
    *TAGS.split(),
    "(best quality:1.3)",
    "((masterpiece))",
    "[low contrast]",
    "\\(series\\)",
    "<lora:aozora:0.8>",
    "BREAK",
    "it's don't they're I'LL",
    CHINESE,
    JAPANESE,
    KOREAN,
    *EMOJI,
    ACCENTS,
    unicodedata.normalize("NFD", ACCENTS),
    unicodedata.normalize("NFD", KOREAN),
    "Привет Ελλάδα नमस्ते สวัสดี שלום",
    "½ ² Ⅷ ① 𝓗𝓮𝓵𝓵𝓸",
    "!!!!!!!",
    "wow!! !",
    " <|endoftext|>",
    "a<|endoftext|>b",
    " <|startoftext|>",
    "   \t  ",
    "\r\n\n",
    "\u3000\u00a0\u2028",
    "zero\u200bwidth soft\u00adhyphen",
    "...---,,,///",
    "£€¥ ±×÷ →←",
)
# A caption of each kind for which OpenAI's own program gives other ids, and why it does.
CLEANED = {
    "1girl &amp; dog &lt;3": "it unescapes HTML entities",
    "樱花，水彩！": "ftfy narrows full-width signs",
    "ｗｉｄｅ": "and full-width letters",
    "ﬁreﬂy": "ftfy takes ligatures apart",
    "“quotes”, don’t": "ftfy straightens quotation marks",
    "cafÃ©": "ftfy mends text decoded wrongly",
    "bell\x07 null\x00": "ftfy removes control characters",
    "\x1b[31mred": "ftfy removes terminal escapes",
    "next\x85line": "ftfy takes C1 characters for another encoding's",
    "\ufeffa": "ftfy removes byte order marks",
}
# And these without any cleaning: how letters become small ones, and what is one piece.
CUT = {
    "♥<|endoftext|>": "it finds special tokens behind letters and spaces only",
    "ΟΔΟΣ": "Python has a final sigma",
    "<|ENDOFTEXT|> cat": "it finds special tokens in capitals",
    "'ſ": "it takes the long s for an s",
}


MORE = (*PIECES, *CLEANED)


def captions() -> list[str]:
    """200, of everything that stands in captions."""
    draw = random.Random(0)
    made = ["", " ", "\n\t \u3000", "!", "a" * 400, " ".join(TAGS.split() * 12), JAPANESE * 12, *PIECES]
    while len(made) < 200:
        count = draw.choice((1, 3, 8, 20, 60))
        made.append(draw.choice((", ", " ", "")).join(draw.choices(draw.choice((PIECES, MORE)), k=count)))
    return made


def ids(tokenizer: CLIPTokenizer, caption: str) -> list[int]:
    return tokenizer(caption, add_special_tokens=False, truncation=False, verbose=False).input_ids


@pytest.fixture(scope="module")
def openai() -> ModuleType:
    """OpenAI's program, by its path: its package wants torchvision."""
    (folder,) = importlib.util.find_spec("clip").submodule_search_locations
    spec = importlib.util.spec_from_file_location("openai_simple_tokenizer", Path(folder) / "simple_tokenizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pair(openai: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vocab.json and merges.txt as they are published, out of OpenAI's own tables."""
    theirs = openai.SimpleTokenizer()
    folder = tmp_path_factory.mktemp("pair")
    (folder / "vocab.json").write_text(json.dumps(theirs.encoder, ensure_ascii=False), "utf-8")
    merges = sorted(theirs.bpe_ranks, key=theirs.bpe_ranks.__getitem__)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def published(pair: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(pair)


@pytest.fixture(scope="module")
def one(published: CLIPTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers writes today."""
    folder = tmp_path_factory.mktemp("one")
    published.save_pretrained(folder)
    assert not (folder / "vocab.json").exists()
    return folder


@pytest.fixture(scope="module")
def header() -> Header:
    return published_header()


@pytest.fixture(autouse=True)
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def published_header() -> Header:
    """SDXL's, from the list of its tensors."""
    tensors = {name: TensorInfo("F16", tuple(shape), ()) for name, shape in json.loads(PUBLISHED.read_text()).items()}
    return Header(Path("sdxl.safetensors"), {}, tensors, 0)


def sdxl(header: Header, path: Path = Path("sdxl.safetensors")) -> Checkpoint:
    return Checkpoint(path, header, identify(header))


def of_old(one: Path, folder: Path) -> Path:
    """tokenizer.json with its merges as texts, as until 2024."""
    folder.mkdir()
    table = json.loads((one / "tokenizer.json").read_text("utf-8"))
    table["model"]["merges"] = [" ".join(merge) for merge in table["model"]["merges"]]
    (folder / "tokenizer.json").write_text(json.dumps(table), "utf-8")
    return folder


def from_source(source: str, header: Header, pair: Path, one: Path, place: Path, patch: pytest.MonkeyPatch):
    """The tokenizers of a machine that has them in this form only."""
    if source == "package":
        return load_tokenizers(None, sdxl(header))
    patch.setattr(tokenizer_files, "_PACKAGES", ("open_clip",))
    if source == "open_clip":
        (place / "open_clip").mkdir()
        (place / "open_clip" / "__init__.py").write_text("raise RuntimeError('must not be imported')")
        (folder,) = importlib.util.find_spec("clip").submodule_search_locations
        shutil.copy(Path(folder) / "bpe_simple_vocab_16e6.txt.gz", place / "open_clip")
        patch.syspath_prepend(place)
    elif source.startswith("hub cache"):
        snapshots = place / "hub" / CACHED / "snapshots"
        shutil.copytree(one if source.endswith("one") else pair, snapshots / "a1")
    elif source == "base":
        shutil.copytree(pair, place / "model" / "tokenizer")
        shutil.copytree(one, place / "model" / "tokenizer_2")
        return load_tokenizers(None, sdxl(header, place / "model"))
    else:
        folders = {"pair": pair, "one": one, "one of old": place / "old", "subfolders": place / "both"}
        if source == "one of old":
            of_old(one, place / "old")
        elif source == "subfolders":
            shutil.copytree(one, place / "both" / "tokenizer")
            shutil.copytree(pair, place / "both" / "tokenizer_2")
        return load_tokenizers(folders[source], sdxl(header))
    return load_tokenizers(None, sdxl(header))


@pytest.fixture(scope="module")
def of_transformers(published: CLIPTokenizer) -> dict[str, list[int]]:
    return {caption: ids(published, caption) for caption in (*captions(), *CUT)}


@pytest.fixture(scope="module")
def fingerprint(pair: Path, header: Header) -> str:
    return load_tokenizers(pair, sdxl(header)).fingerprint


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_ids_of_transformers(
    source, header, pair, one, of_transformers, fingerprint, tmp_path, monkeypatch
):
    found: Tokenizers = from_source(source, header, pair, one, tmp_path, monkeypatch)
    first, second = found.files
    assert first == second and len(first.vocabulary) == 49408 and len(first.merges) == 48894
    assert found.fingerprint == fingerprint
    for tokenizer in {found.tokenizer, found.tokenizer_2}:
        for caption, expected in of_transformers.items():
            assert ids(tokenizer, caption) == expected, caption


def test_the_captions_are_hard_enough(published):
    made = captions()
    assert len(made) == 200 and len(set(made)) > 150
    lengths = sorted(len(ids(published, caption)) for caption in made)
    assert lengths[0] == 0 and sum(length > 300 for length in lengths) >= 10
    assert sum(49407 in ids(published, caption) for caption in made) > 10


def test_files_are_openais_tables(openai, header, pair):
    theirs = openai.SimpleTokenizer()
    (first, _) = load_tokenizers(pair, sdxl(header)).files
    assert first.vocabulary == theirs.encoder
    assert first.merges == [" ".join(merge) for merge in theirs.bpe_ranks]


def test_ids_are_openais_but_for_its_cleaning(openai, header, pair, monkeypatch):
    theirs = openai.SimpleTokenizer()
    ours = load_tokenizers(pair, sdxl(header)).tokenizer
    plain = [caption for caption in captions() if not any(piece in caption for piece in CLEANED)]
    assert len(plain) > 100
    for caption in plain:
        assert ids(ours, caption) == theirs.encode(caption), caption
    for caption, why in (CLEANED | CUT).items():
        assert ids(ours, caption) != theirs.encode(caption), f"{caption!r} no longer differs because {why}"
    monkeypatch.setattr(openai, "basic_clean", lambda text: unicodedata.normalize("NFC", text))
    for caption in (*captions(), *CLEANED):
        assert ids(ours, caption) == theirs.encode(caption), caption
    for caption, why in CUT.items():
        assert ids(ours, caption) != theirs.encode(caption), f"{caption!r} no longer differs because {why}"


def test_another_models_vocabulary_is_refused_even_if_it_is_smaller(header, pair, tmp_path):
    merges = (pair / "merges.txt").read_text("utf-8").split("\n")[1:89]
    with pytest.raises(TokenizerError, match=r"knows 602 tokens, sdxl\.safetensors has embeddings for 49408") as caught:
        load_tokenizers(write_tokenizer(tmp_path / "small", merges), sdxl(header))
    assert "model.tokenizer" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is damaged"),
        ('{"model": {"vocab": {"a": 0}, "merges": []}}', "is not CLIP's"),
    ],
)
def test_a_damaged_or_foreign_tokenizer_is_refused_as_the_check_refuses_it(header, tmp_path, content, sentence):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=f"the tokenizer in {re.escape(str(tmp_path))} {sentence}"):
        load_tokenizers(tmp_path, sdxl(header))


def test_merges_that_were_cut_short_do_not_silently_make_other_tokens(header, pair, tmp_path):
    shutil.copytree(pair, tmp_path / "cut")
    lines = (pair / "merges.txt").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "cut" / "merges.txt").write_text("".join(lines[:-1]), "utf-8")
    with pytest.raises(TokenizerError, match="its merges are cut short"):
        load_tokenizers(tmp_path / "cut", sdxl(header))


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03junk"])
def test_a_damaged_package_is_refused(header, tmp_path, monkeypatch, content):
    (tmp_path / "open_clip").mkdir()
    (tmp_path / "open_clip" / "__init__.py").write_text("")
    (tmp_path / "open_clip" / "bpe_simple_vocab_16e6.txt.gz").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TokenizerError, match="is damaged"):
        load_tokenizers(None, sdxl(header))


def test_a_hub_out_of_reach_is_one_sentence_with_a_remedy_and_no_error_if_a_package_serves(header, monkeypatch):
    package = load_tokenizers(None, sdxl(header), fetch=True)
    assert package.fingerprint == load_tokenizers(None, sdxl(header)).fingerprint
    monkeypatch.setattr(tokenizer_files, "_PACKAGES", ())
    with pytest.raises(TokenizerError) as caught:
        load_tokenizers(None, sdxl(header), fetch=True)
    assert caught.value.text.startswith("no CLIP tokenizer on this machine, and the Hugging Face hub gives none (")
    assert "offline mode is enabled" in caught.value.text and "\n" not in str(caught.value)
    assert "pip install 'aozora-tui[offline]'" in caught.value.remedy
    with pytest.raises(TokenizerError, match=r"no CLIP tokenizer on this machine\. Set"):
        load_tokenizers(None, sdxl(header))


@pytest.fixture
def hub(pair: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine: its address, and what it was asked for. It has CLIP's repository, one with two files of
    rubbish, and one that sends a byte a tenth of a second, without end."""
    asked: list[str] = []
    over = threading.Event()

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.begin()

        def do_GET(self):
            body = self.begin()
            if body is not None:
                self.wfile.write(body)
            with contextlib.suppress(ConnectionError):
                while body is None and not over.wait(0.1):
                    self.wfile.write(b" ")

        def begin(self):
            """What is to be sent; None for what drips."""
            asked.append(f"{self.command} {self.path} {self.headers.get('authorization')}")
            repository, _, name = self.path.removeprefix("/").partition("/resolve/main/")
            file = pair / name
            known = {CLIP_REPOSITORY: lambda: file.read_bytes(), "some/rubbish": lambda: b"{}" * 50}
            found = file.is_file() and (repository in known or repository == "some/dripping")
            body = known[repository]() if found and repository in known else None if found else b""
            self.send_response(200 if found else 404)
            if found:
                self.send_header("ETag", f'"{sha1(self.path.encode() if body is None else body).hexdigest()}"')
                self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", str(100 if body is None else len(body)))
            self.end_headers()
            return body

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_hub_is_asked_before_a_package_and_only_once_and_rubbish_or_dripping_is_left(fingerprint, hub, empty_hub):
    """In a process of its own: the address is read when the hub's package is imported."""
    address, asked = hub
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_tokenizers import load_tokenizers, published_header, sdxl
from engine.model import tokenizers
for _ in range(2):
    print(load_tokenizers(None, sdxl(published_header()), fetch=True).fingerprint)
tokenizers._DEADLINE = 1.0
for tokenizers.CLIP_REPOSITORY in ("some/rubbish", "some/dripping"):
    print(tokenizers._fetch())
"""
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_secret"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    *fingerprints, rubbish, dripping = done.stdout.splitlines()
    assert fingerprints == [fingerprint] * 2
    assert list((empty_hub / CACHED / "snapshots").iterdir())
    files = [line.split()[1] for line in asked if line.startswith("GET") and CLIP_REPOSITORY in line]
    assert files == [f"/{CLIP_REPOSITORY}/resolve/main/{name}" for name in ("vocab.json", "merges.txt")]
    assert all(line.endswith(" None") for line in asked), "nobody's token is sent"
    assert rubbish.startswith("what it sent is no tokenizer: ")
    assert dripping == "it was not done after 1 seconds"
    kept = {path for path in empty_hub.rglob("*.json") if path.exists()}
    assert {path.relative_to(empty_hub).parts[0] for path in kept} == {CACHED}, "rubbish is not kept"
