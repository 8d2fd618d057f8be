"""How long captions are for CLIP: its byte-pair encoding counted out, without the package that does it in training."""

import hashlib
import json
import math
import re
import sys
import unicodedata
from functools import cache, lru_cache
from itertools import groupby, pairwise

from engine.contract.tokenizer_tables import BOS, EOS, Tables, byte_symbols

CHUNK = 75  # tokens of a caption that fit between the start and the end token
_FORMAT = 2  # raise it when the same files cut or pad text differently than before
_SPECIAL = re.compile(f"{re.escape(BOS)}|{re.escape(EOS)}")
_SHORT_WORDS = "'s|'t|'re|'ve|'m|'ll|'d"
_ASCII = re.compile(rf"{_SHORT_WORDS}|[a-z]+|[0-9]|[^\sa-z0-9]+")


def fingerprint(first: Tables, second: Tables) -> str:
    """Hex digest of both encoders' vocabularies and merges and of how they are used."""
    digest = hashlib.blake2b(f"format {_FORMAT}".encode(), digest_size=32)
    for files in (first, second):
        digest.update(json.dumps([files.vocabulary, files.merges], sort_keys=True).encode())
    return digest.hexdigest()


def is_short(caption: str) -> bool:
    """Whether it fits one chunk whatever the vocabulary: a token is at least one byte of what CLIP makes of the
    caption. That is longer than the caption where letters are taken apart or made small; in ASCII it never is."""
    return caption.isascii() and len(caption) <= CHUNK


def num_chunks(*lengths: int) -> int:
    """One number for both encoders, whose vocabularies may differ, from the numbers of tokens."""
    return max(1, math.ceil(max(lengths) / CHUNK))


class Counter:
    """Counts the tokens of captions, a tenth of a millisecond each once their words were seen."""

    def __init__(self, tables: Tables) -> None:
        self._ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(tables.merges)}
        self._symbols = byte_symbols()
        self._length = lru_cache(maxsize=1 << 16)(self._count_word)

    def tokens(self, caption: str) -> int:
        """Without start and end."""
        return sum(self._length(word) for word in words(caption)) + len(_SPECIAL.findall(caption))

    def _count_word(self, word: str) -> int:
        parts = [self._symbols[byte] for byte in word.encode("utf-8", "replace")]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self._ranks.get(pair, sys.maxsize))
            if best not in self._ranks:
                break
            parts = _merged(parts, best)
        return len(parts)


def words(caption: str) -> list[str]:
    """What is encoded word by word: letters together, digits one by one, everything else together."""
    found: list[str] = []
    for part in _SPECIAL.split(caption):
        small = "".join(map(str.lower, unicodedata.normalize("NFC", part)))
        found += (_ASCII if small.isascii() else _pattern()).findall(small)
    return found


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """Every occurrence of the pair as one part, from the left."""
    merged, at = [], 0
    while at < len(parts):
        width = 2 if tuple(parts[at : at + 2]) == pair else 1
        merged.append("".join(parts[at : at + width]))
        at += width
    return merged


@cache
def _pattern() -> re.Pattern[str]:
    """The same for every letter there is; takes a tenth of a second to make."""
    letters, numbers = _ranges("L"), _ranges("N")
    return re.compile(rf"{_SHORT_WORDS}|[{letters}]+|[{numbers}]|[^\s{letters}{numbers}]+")


def _ranges(category: str) -> str:
    """Every character of a Unicode category, for a set in a regular expression."""
    runs = groupby(range(sys.maxunicode + 1), key=lambda code: unicodedata.category(chr(code))[0] == category)
    found = []
    for inside, run in runs:
        if inside:
            codes = list(run)
            found.append(rf"\U{codes[0]:08x}-\U{codes[-1]:08x}")
    return "".join(found)
