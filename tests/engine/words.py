"""Tokenizers of other vocabularies."""

import itertools
import json
from pathlib import Path

from engine.contract.tokenizer_tables import byte_symbols, vocabulary_of


def useless_merges(count: int) -> list[str]:
    """Merges that apply to no text in ASCII: with them every word is spelled letter by letter."""
    control = byte_symbols()[:32]
    return [f"{left} {right}" for left, right in itertools.islice(itertools.product(control, repeat=2), count)]


def write_tokenizer(folder: Path, merges: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary_of(merges)))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return folder


def spell_out(folder: Path) -> None:
    """Makes the tokenizer in `folder` one that knows as many tokens, and none that is a word."""
    lines = (folder / "merges.txt").read_text().splitlines()
    write_tokenizer(folder, useless_merges(len(lines) - 1))
