"""CLIP's tokenizer, found without the network: a folder, the local Hugging Face cache, or a package that carries it."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from transformers import CLIPTokenizer

from engine.contract.safetensors_header import TEXT_2_PREFIX, TEXT_PREFIX
from engine.model.single_file import Checkpoint

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# Where the same two files lie in the cache of someone who has used SDXL or CLIP before.
_CACHED = (
    ("openai/clip-vit-large-patch14", ""),
    ("stabilityai/stable-diffusion-xl-base-1.0", "tokenizer/"),
    ("laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", ""),
)
_PACKAGES = (("open_clip", "bpe_simple_vocab_16e6.txt.gz"), ("clip", "bpe_simple_vocab_16e6.txt.gz"))
_CLIP_VOCABULARY = 49408


@dataclass(frozen=True)
class Tokenizers:
    """One for each encoder. They cut text alike but pad differently: the first with the end token, the second with
    id 0. `fingerprint` changes with the vocabulary or the merges."""

    tokenizer: CLIPTokenizer
    tokenizer_2: CLIPTokenizer
    fingerprint: str


@dataclass(frozen=True)
class _Files:
    vocabulary: dict[str, int]
    merges: list[str]


def load_tokenizers(folder: Path | None, checkpoint: Checkpoint) -> Tokenizers:
    """Reads `vocab.json` and `merges.txt` in `folder` (one pair for both encoders, or the subfolders `tokenizer` and
    `tokenizer_2`); without a folder, CLIP's from the local Hugging Face cache or an installed open_clip or clip
    package.

    Raises ValueError, with the remedy, if there are none, or if they do not fit the checkpoint's token embeddings.
    """
    first, second = _in_folder(folder) if folder is not None else _on_this_machine()
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
    digest = hashlib.blake2b(digest_size=32)
    for files in (first, second):
        digest.update(json.dumps([files.vocabulary, files.merges], sort_keys=True).encode())
    return Tokenizers(_build(first, EOS), _build(second, _first_token(second)), digest.hexdigest())


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


def _in_folder(folder: Path) -> tuple[_Files, _Files]:
    if (folder / "tokenizer").is_dir() and (folder / "tokenizer_2").is_dir():
        return _read(folder / "tokenizer"), _read(folder / "tokenizer_2")
    files = _read(folder / "tokenizer" if (folder / "tokenizer" / "vocab.json").is_file() else folder)
    return files, files


def _read(folder: Path) -> _Files:
    try:
        vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
        lines = (folder / "merges.txt").read_text("utf-8").splitlines()
    except OSError as error:
        raise ValueError(
            f"no tokenizer in {folder}: {error.filename} cannot be read; put CLIP's vocab.json and merges.txt there"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"the tokenizer in {folder} is damaged: {error}; fetch vocab.json and merges.txt again"
        ) from error
    merges = [line for line in lines if line and not line.startswith("#version")]
    if not isinstance(vocabulary, dict) or not {BOS, EOS} <= vocabulary.keys():
        raise ValueError(f"{folder / 'vocab.json'} is not CLIP's: {BOS} and {EOS} are not in it")
    return _Files(vocabulary, merges)


def _on_this_machine() -> tuple[_Files, _Files]:
    for repository, below in _CACHED:
        vocabulary = try_to_load_from_cache(repository, f"{below}vocab.json")
        merges = try_to_load_from_cache(repository, f"{below}merges.txt")
        if isinstance(vocabulary, str) and isinstance(merges, str):
            files = _read(Path(vocabulary).parent)
            return files, files
    for package, name in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (Path(folder) / name).is_file():
                files = _from_package(Path(folder) / name)
                return files, files
    raise ValueError(
        "no CLIP tokenizer on this machine: set the tokenizer folder to one that holds vocab.json and merges.txt "
        "(the `tokenizer` folder of any SDXL model), or install the package open_clip_torch"
    )


def _from_package(path: Path) -> _Files:
    """OpenAI's list: a version line, then more merges than CLIP uses."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : 1 + _CLIP_VOCABULARY - 512 - 2]
    return _Files(vocabulary_of(merges), merges)


def _build(files: _Files, pad_token: str) -> CLIPTokenizer:
    pairs = [tuple(merge.split(" ")) for merge in files.merges]
    return CLIPTokenizer(vocab=files.vocabulary, merges=pairs, pad_token=pad_token, model_max_length=77)


def _first_token(files: _Files) -> str:
    return next(token for token, index in files.vocabulary.items() if index == 0)
