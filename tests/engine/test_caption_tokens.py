"""Tokens counted without transformers, against transformers."""

import random
from pathlib import Path

import pytest

from engine.contract.caption_tokens import Counter, fingerprint, words
from engine.contract.tokenizer_files import find_tokenizers
from engine.contract.tokenizer_tables import read_tables
from engine.model.single_file import open_checkpoint
from engine.model.tokenizers import Tokenizers, load_tokenizers

ALPHABET = [
    *"abcdefgstvmlr ABZ 0189 '!?.,:;-_()<>|/\\\"#",
    *"éßÅΣσςİıǅ中文字あア한글яЖالعربית½²Ⅳ٣①€™🙂🏽‍\u0301\u0345\u00a0\u200b",
    "'s", "'re", "'LL", "<|startoftext|>", "<|endoftext|>", "<|EndOfText|>", "e\u0301", "\u212b", "ﬁ",
]  # fmt: skip


@pytest.fixture(scope="module")
def vocabularies(demo_folder: Path, demo_checkpoint: Path) -> Tokenizers:
    return load_tokenizers(demo_folder, open_checkpoint(demo_checkpoint))


def test_captions_are_as_long_as_transformers_says(vocabularies):
    counter, draw = Counter(vocabularies.files[0]), random.Random(7)
    for _ in range(1500):
        caption = "".join(draw.choices(ALPHABET, k=draw.randrange(24)))
        theirs = vocabularies.tokenizer(caption, add_special_tokens=False).input_ids
        assert counter.tokens(caption) == len(theirs), ascii(caption)


def test_clips_own_merges_are_applied_as_transformers_applies_them():
    try:
        tables = read_tables(find_tokenizers(None)[0])
    except ValueError:
        pytest.skip("no CLIP vocabulary on this machine")
    from engine.model.tokenizers import _build

    tokenizer, counter, draw = _build(tables), Counter(tables), random.Random(3)
    made = sorted(token.removesuffix("</w>") for token in tables.vocabulary if token.isascii())
    for _ in range(300):
        caption = "".join(draw.choice(made) + draw.choice(["", " ", ", "]) for _ in range(12))
        assert counter.tokens(caption) == len(tokenizer(caption, add_special_tokens=False).input_ids), caption


def test_the_vocabularies_name_what_the_engine_caches(vocabularies):
    assert fingerprint(*vocabularies.files) == vocabularies.fingerprint


def test_digits_stand_alone_and_signs_together():
    assert words("It's 1girl, 20 y/o!!") == ["it", "'s", "1", "girl", ",", "2", "0", "y", "/", "o", "!!"]
