"""CLIP's tokenizer from its files."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from transformers import CLIPTokenizer

from engine.contract.caption_tokens import fingerprint
from engine.contract.clip import end_of_text
from engine.contract.safetensors_header import TEXT_2_PREFIX, TEXT_PREFIX
from engine.contract.tokenizer_files import (
    CLIP_REPOSITORY,
    MERGES,
    VOCABULARY,
    TokenizerError,
    find_tokenizers,
    hub_cache,
    may_fetch,
)
from engine.contract.tokenizer_tables import BOS, EOS, Tables, byte_symbols, read_tables, vocabulary_of
from engine.model.single_file import Checkpoint

__all__ = ["BOS", "EOS", "Tokenizers", "byte_symbols", "load_tokenizers", "vocabulary_of"]

_PATIENCE = 5.0  # seconds in which the hub must begin to answer
_DEADLINE = 60.0  # seconds in which it must have sent 1.5 MB
# What the hub's package raises: the errors of its HTTP client, whichever that is, OSError, and ValueError for an answer
# that is no file.
_NOT_FETCHED: tuple[type[Exception], ...] = (*cast(Any, HfHubHTTPError.__bases__), ValueError)


@dataclass(frozen=True)
class Tokenizers:
    """One for each encoder, one and the same unless the files differ. Neither pads (`text.encode` does): the second
    encoder's padding is id 0, "!", and a tokenizer told so would cut every "!" of a caption out as padding.
    `fingerprint` changes with the vocabulary, the merges, and how they are used."""

    tokenizer: CLIPTokenizer
    tokenizer_2: CLIPTokenizer
    fingerprint: str
    files: tuple[Tables, Tables]


def load_tokenizers(folder: Path | None, checkpoint: Checkpoint, *, fetch: bool = False) -> Tokenizers:
    """From `folder`, or from where `find_tokenizers` finds CLIP's; the ids do not depend on where.

    With `fetch` the hub is asked before a package is looked for, and a hub that does not answer is no error if there
    is one. Raises TokenizerError if there are none, if they are damaged, or if they do not fit the checkpoint's token
    embeddings.
    """
    path, path_2 = _locate(folder, checkpoint.path, fetch=fetch)
    first = read_tables(path)
    second = first if path_2 == path else read_tables(path_2)
    for files, name in (
        (first, f"{TEXT_PREFIX}embeddings.token_embedding.weight"),
        (second, f"{TEXT_2_PREFIX}token_embedding.weight"),
    ):
        rows = checkpoint.header.tensors[name].shape[0]
        known = max(files.vocabulary.values()) + 1
        if known > rows or files.vocabulary[EOS] != end_of_text(rows):
            raise TokenizerError(
                f"the tokenizer knows {known} tokens, {checkpoint.path.name} has embeddings for {rows}: it belongs to "
                "another model",
                "Set model.tokenizer to the `tokenizer` folder of this model, or leave it empty.",
            )
    tokenizer = _build(first)
    tokenizer_2 = tokenizer if second == first else _build(second)
    return Tokenizers(tokenizer, tokenizer_2, fingerprint(first, second), (first, second))


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
    answers: list[str] = []
    # In a thread that may be left behind: a hub that drips answers every read in time, and never ends.
    thread = threading.Thread(target=lambda: answers.append(_download()), daemon=True)
    thread.start()
    thread.join(_DEADLINE)
    return answers[0] if answers else f"it was not done after {_DEADLINE:.0f} seconds"


def _download() -> str:
    try:
        # Asked once before: the download would try an unreachable hub for half a minute.
        get_hf_file_metadata(hf_hub_url(CLIP_REPOSITORY, VOCABULARY), token=False, timeout=_PATIENCE)
        fetched = [
            Path(hf_hub_download(CLIP_REPOSITORY, name, cache_dir=hub_cache(), token=False))
            for name in (VOCABULARY, MERGES)
        ]
    except _NOT_FETCHED as error:
        return (str(error.__cause__ or error) or type(error).__name__).split("\n")[0].split(". ")[0].rstrip(".")
    try:
        read_tables(fetched[0].parent)
    except TokenizerError as error:
        for path in fetched:  # or every later run would take them out of the cache
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        return f"what it sent is no tokenizer: {error.text}"
    return ""


def _build(files: Tables) -> CLIPTokenizer:
    pairs = [tuple(merge.split(" ")) for merge in files.merges]
    return CLIPTokenizer(vocab=files.vocabulary, merges=pairs, pad_token=EOS, model_max_length=77)
