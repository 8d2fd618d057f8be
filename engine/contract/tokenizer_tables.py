"""What a tokenizer's files hold: ids by token, and the merges that build tokens out of bytes."""

import gzip
import json
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.contract.tokenizer_files import BOTH_IN_ONE, MERGES, VOCABULARY, TokenizerError, has_pair

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
_CLIP_TOKENS = 49408
_MOST = 1 << 31  # token numbers are 32 bits wide in the package that reads them


@dataclass(frozen=True)
class Tables:
    """Whatever file they came from: ids by token, and merges "left right" by rank."""

    vocabulary: dict[str, int]
    merges: list[str]


def read_tables(path: Path) -> Tables:
    """Of a folder or a package's file, as `find_tokenizers` gives them. Raises TokenizerError for what cannot be read,
    is damaged or is not CLIP's: captions would silently become other tokens, or the run would end in the middle."""
    try:
        if path.is_file():
            tables = _from_package(path)
        else:
            tables = _from_pair(path) if has_pair(path) else _from_one(path / BOTH_IN_ONE)
        _check(tables)
    except _UnusableError as error:
        remedy = "Fetch its files again, or name another folder in model.tokenizer."
        raise TokenizerError(f"the tokenizer in {path} {error}", remedy) from error
    except OSError as error:
        text = f"the tokenizer in {path} cannot be read: {error.strerror} ({error.filename or path})"
        raise TokenizerError(text, "Mend its permissions, or name another folder in model.tokenizer.") from error
    return tables


def require_sound(path: Path) -> None:
    """Raises TokenizerError as `read_tables` does; files that have not changed since are not read again."""
    files = (path, *(path / name for name in (VOCABULARY, MERGES, BOTH_IN_ONE)))
    _require_sound(path, tuple(_stamp(file) for file in files))


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


class _UnusableError(Exception):
    """The end of a sentence that begins with where the tokenizer is."""


def _damaged(why: str) -> _UnusableError:
    return _UnusableError(f"is damaged: {why}")


@lru_cache(maxsize=8)
def _require_sound(path: Path, stamps: tuple[object, ...]) -> None:  # noqa: ARG001 - the stamps are the cache's key
    read_tables(path)


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        stat = file.stat()
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _from_pair(folder: Path) -> Tables:
    lines = _text(MERGES, (folder / MERGES).read_bytes()).split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")]
    return Tables(_numbers(_json(folder / VOCABULARY)), merges)


def _from_one(path: Path) -> Tables:
    """The `tokenizers` package's own format, whose merges are texts or, in later versions, pairs."""
    table = _json(path)
    try:
        model = table["model"]
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        return Tables(_numbers(model["vocab"]), merges)
    except (LookupError, TypeError) as error:
        raise _damaged(f"{path.name} holds no vocabulary with merges") from error


def _from_package(path: Path) -> Tables:
    """OpenAI's list: a version line, then more merges than CLIP uses."""
    try:
        data = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(str(error)) from error
    merges = _text(path.name, data).split("\n")[1 : 1 + _CLIP_TOKENS - 512 - 2]
    return Tables(vocabulary_of(merges), merges)


def _json(path: Path) -> Any:
    text = _text(path.name, path.read_bytes())
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"{path.name} is {'not JSON' if text.strip() else 'empty'}") from error


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(f"{name} is not text") from error


def _numbers(vocabulary: Any) -> dict[str, int]:
    if not isinstance(vocabulary, dict) or not all(type(n) is int and 0 <= n < _MOST for n in vocabulary.values()):
        raise _damaged("its vocabulary is not a table of numbers")
    try:
        "".join(vocabulary).encode("utf-8")
    except UnicodeEncodeError as error:  # half a character, which JSON can spell
        raise _damaged("its vocabulary is not text") from error
    return vocabulary


def _check(tables: Tables) -> None:
    vocabulary = tables.vocabulary
    if not {BOS, EOS} <= vocabulary.keys():
        raise _UnusableError(f"is not CLIP's: {BOS} and {EOS} are not in it")
    if not tables.merges:
        raise _damaged("its merges are missing")
    for merge in tables.merges:
        parts = merge.split(" ")
        if len(parts) != 2:
            raise _damaged(f'the merge "{merge[:40]}" is not of two tokens')
        if not vocabulary.keys() >= {*parts, "".join(parts)}:
            raise _damaged(f'the merge "{merge[:40]}" is of tokens that are not in its vocabulary')
    # CLIP numbers what the last merge makes just before the start of text.
    last = vocabulary[BOS] - 1
    if not any(vocabulary[merge.replace(" ", "")] == last for merge in reversed(tables.merges)):
        raise _damaged("its merges are cut short")
