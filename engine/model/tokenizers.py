"""CLIP's tokenizer from its files."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from transformers import CLIPTokenizer

from engine.contract.safetensors_header import TEXT_2_PREFIX, TEXT_PREFIX
from engine.contract.tokenizer_files import find_tokenizers
from engine.model.single_file import Checkpoint

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
_CLIP_VOCABULARY = 49408
_FORMAT = 2  # raise it when the same files cut or pad text differently than before


@dataclass(frozen=True)
class Tokenizers:
    """One for each encoder, the same unless the files differ. Neither pads (`text.encode` does): the second encoder's
    padding is id 0, "!", and a tokenizer told so would cut every "!" of a caption out as padding. `fingerprint` changes
    with the vocabulary, the merges, and how they are used."""

    tokenizer: CLIPTokenizer
    tokenizer_2: CLIPTokenizer
    fingerprint: str


@dataclass(frozen=True)
class _Files:
    vocabulary: dict[str, int]
    merges: list[str]


def load_tokenizers(folder: Path | None, checkpoint: Checkpoint) -> Tokenizers:
    """From `folder`, or from where `find_tokenizers` finds CLIP's.

    Raises ValueError, with the remedy, if there are none, or if they do not fit the checkpoint's token embeddings.
    """
    first, second = (_read(path) for path in find_tokenizers(folder))
    for files, name in (
        (first, f"{TEXT_PREFIX}embeddings.token_embedding.weight"),
        (second, f"{TEXT_2_PREFIX}token_embedding.weight"),
    ):
        rows = checkpoint.header.tensors[name].shape[0]
        if len(files.vocabulary) > rows:
            raise ValueError(
                f"the tokenizer knows {len(files.vocabulary)} tokens, {checkpoint.path.name} has embeddings for "
                f"{rows}: it belongs to another model"
            )
    digest = hashlib.blake2b(f"format {_FORMAT}".encode(), digest_size=32)
    for files in (first, second):
        digest.update(json.dumps([files.vocabulary, files.merges], sort_keys=True).encode())
    return Tokenizers(_build(first), _build(second), digest.hexdigest())


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


def _read(folder: Path) -> _Files:
    """From a folder, or from a package's file."""
    if folder.is_file():
        return _from_package(folder)
    try:
        vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
        lines = (folder / "merges.txt").read_text("utf-8").splitlines()
    except OSError as error:
        raise ValueError(
            f"the tokenizer in {folder} cannot be read: {error.strerror} ({error.filename}); mend its permissions"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"the tokenizer in {folder} is damaged: {error}; fetch vocab.json and merges.txt again"
        ) from error
    merges = [line for line in lines if line and not line.startswith("#version")]
    if not isinstance(vocabulary, dict) or not {BOS, EOS} <= vocabulary.keys():
        raise ValueError(f"{folder / 'vocab.json'} is not CLIP's: {BOS} and {EOS} are not in it")
    return _Files(vocabulary, merges)


def _from_package(path: Path) -> _Files:
    """OpenAI's list: a version line, then more merges than CLIP uses."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : 1 + _CLIP_VOCABULARY - 512 - 2]
    return _Files(vocabulary_of(merges), merges)


def _build(files: _Files) -> CLIPTokenizer:
    pairs = [tuple(merge.split(" ")) for merge in files.merges]
    return CLIPTokenizer(vocab=files.vocabulary, merges=pairs, pad_token=EOS, model_max_length=77)
