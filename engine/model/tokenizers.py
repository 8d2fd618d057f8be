"""CLIP's tokenizer from its files."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from transformers import CLIPTokenizer

from engine.contract.safetensors_header import TEXT_2_PREFIX, TEXT_PREFIX
from engine.contract.tokenizer_files import (
    BOTH_IN_ONE,
    CLIP_REPOSITORY,
    MERGES,
    VOCABULARY,
    TokenizerError,
    find_tokenizers,
    has_pair,
    hub_cache,
    may_fetch,
)
from engine.model.single_file import Checkpoint

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
_CLIP_VOCABULARY = 49408
_CLIP_EOS = 49407
_FORMAT = 2  # raise it when the same files cut or pad text differently than before
_PATIENCE = 5.0  # seconds in which the hub must begin to answer
# What the hub's package raises: the errors of its HTTP client, whichever that is, OSError, and ValueError for an answer
# that is no file.
_NOT_FETCHED: tuple[type[Exception], ...] = (*cast(Any, HfHubHTTPError.__bases__), ValueError)


@dataclass(frozen=True)
class Files:
    """What a tokenizer is made of, whatever file it came from: ids by token, and merges "left right" by rank."""

    vocabulary: dict[str, int]
    merges: list[str]


@dataclass(frozen=True)
class Tokenizers:
    """One for each encoder, one and the same unless the files differ. Neither pads (`text.encode` does): the second
    encoder's padding is id 0, "!", and a tokenizer told so would cut every "!" of a caption out as padding.
    `fingerprint` changes with the vocabulary, the merges, and how they are used."""

    tokenizer: CLIPTokenizer
    tokenizer_2: CLIPTokenizer
    fingerprint: str
    files: tuple[Files, Files]


def load_tokenizers(folder: Path | None, checkpoint: Checkpoint, *, fetch: bool = False) -> Tokenizers:
    """From `folder`, or from where `find_tokenizers` finds CLIP's; the ids do not depend on where.

    With `fetch` the hub is asked before a package is looked for, and a hub that does not answer is no error if there
    is one. Raises ValueError, with the remedy, if there are none, or if they do not fit the checkpoint's token
    embeddings.
    """
    path, path_2 = _locate(folder, checkpoint.path, fetch=fetch)
    first = _read(path)
    second = first if path_2 == path else _read(path_2)
    for files, name in (
        (first, f"{TEXT_PREFIX}embeddings.token_embedding.weight"),
        (second, f"{TEXT_2_PREFIX}token_embedding.weight"),
    ):
        rows = checkpoint.header.tensors[name].shape[0]
        if len(files.vocabulary) > rows or files.vocabulary[EOS] != min(_CLIP_EOS, rows - 1):
            raise ValueError(
                f"the tokenizer knows {len(files.vocabulary)} tokens, {checkpoint.path.name} has embeddings for "
                f"{rows}: it belongs to another model"
            )
    digest = hashlib.blake2b(f"format {_FORMAT}".encode(), digest_size=32)
    for files in (first, second):
        digest.update(json.dumps([files.vocabulary, files.merges], sort_keys=True).encode())
    tokenizer = _build(first)
    tokenizer_2 = tokenizer if second == first else _build(second)
    return Tokenizers(tokenizer, tokenizer_2, digest.hexdigest(), (first, second))


def byte_symbols() -> list[str]:
    """CLIP's printable character for each byte value 0..255, by value, as in GPT-2's byte-level BPE."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def vocabulary_of(merges: list[str]) -> dict[str, int]:
    """Token ids as CLIP numbers them: printable bytes first ("!" is 0), the same as word ends, one token a merge, then
    the start and the end of text."""
    symbols = sorted(byte_symbols(), key=lambda symbol: (ord(symbol) > 255, ord(symbol)))
    tokens = [
        *symbols,
        *(f"{symbol}</w>" for symbol in symbols),
        *(merge.replace(" ", "") for merge in merges),
        BOS,
        EOS,
    ]
    return {token: index for index, token in enumerate(tokens)}


def _locate(folder: Path | None, base: Path, *, fetch: bool) -> tuple[Path, Path]:
    why_not = _fetch() if fetch and may_fetch(folder, base) else ""
    try:
        return find_tokenizers(folder, base)
    except TokenizerError as error:
        if not why_not:
            raise
        text = f"{error.text}, and the Hugging Face hub gives none ({why_not})"
        remedy = "Look at the connection, or run `pip install 'aozora-tui[offline]'`."
        raise TokenizerError(text, remedy) from error


def _fetch() -> str:
    """Loads CLIP's two files into the local Hugging Face cache; why that failed, or "". No token is sent."""
    try:
        # Asked once before: the download would try an unreachable hub for half a minute.
        get_hf_file_metadata(hf_hub_url(CLIP_REPOSITORY, VOCABULARY), token=False, timeout=_PATIENCE)
        for name in (VOCABULARY, MERGES):
            hf_hub_download(CLIP_REPOSITORY, name, cache_dir=hub_cache(), token=False)
    except _NOT_FETCHED as error:
        return (str(error.__cause__ or error) or type(error).__name__).split("\n")[0].split(". ")[0].rstrip(".")
    return ""


def _read(path: Path) -> Files:
    """From a folder, or from a package's file."""
    try:
        if path.is_file():
            return _from_package(path)
        files = _from_pair(path) if has_pair(path) else _from_one(path / BOTH_IN_ONE)
    except (ValueError, LookupError, TypeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"the tokenizer in {path} is damaged: {error}; fetch its files again") from error
    except OSError as error:
        raise ValueError(
            f"the tokenizer in {path} cannot be read: {error.strerror} ({error.filename}); mend its permissions"
        ) from error
    if not {BOS, EOS} <= files.vocabulary.keys():
        raise ValueError(f"the tokenizer in {path} is not CLIP's: {BOS} and {EOS} are not in it")
    return files


def _from_pair(folder: Path) -> Files:
    vocabulary = json.loads((folder / VOCABULARY).read_text("utf-8"))
    lines = (folder / MERGES).read_text("utf-8").split("\n")
    return _checked(vocabulary, [line for line in lines if line and not line.startswith("#version")])


def _from_one(path: Path) -> Files:
    """The `tokenizers` package's own format, whose merges are texts or, in later versions, pairs."""
    model = json.loads(path.read_text("utf-8"))["model"]
    return _checked(model["vocab"], [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])


def _from_package(path: Path) -> Files:
    """OpenAI's list: a version line, then more merges than CLIP uses."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : 1 + _CLIP_VOCABULARY - 512 - 2]
    return Files(vocabulary_of(merges), merges)


def _checked(vocabulary: object, merges: list[str]) -> Files:
    if not isinstance(vocabulary, dict) or not all(type(number) is int for number in vocabulary.values()):
        raise TypeError("its vocabulary is not a table of numbers")
    return Files(vocabulary, merges)


def _build(files: Files) -> CLIPTokenizer:
    pairs = [tuple(merge.split(" ")) for merge in files.merges]
    return CLIPTokenizer(vocab=files.vocabulary, merges=pairs, pad_token=EOS, model_max_length=77)
