"""The demo's files: a small checkpoint in SDXL's published layout, its tokenizer, and forty captioned pictures."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from engine.contract.atomic import fsync_folder, write_safetensors, write_text
from engine.model.demo_pictures import SCENES, Scene, draw
from engine.model.demo_weights import demo_metadata, demo_tensors
from engine.model.single_file import tensor_entry
from engine.model.tokenizers import byte_symbols, vocabulary_of

CHECKPOINT_NAME = "aozora-demo.safetensors"
_MARKER = "demo.json"
_FORMAT = 1  # raise it when the files change: a folder of another format is built anew beside the old one


def build_demo(folder: Path, progress: Callable[[int, int], None]) -> None:
    """Writes `tokenizer/`, `pictures/` and the checkpoint into `folder`, unless they are all there already.

    The same files every time. Built in a folder beside and renamed, so `folder` is whole or absent; an older demo is
    kept under another name. `progress` gets (files done, files in all). Raises ValueError if `folder` holds anything
    else.
    """
    if is_built(folder):
        return
    if folder.exists() and not (folder / _MARKER).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds other files: name an empty or new folder for the demo")
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    try:
        _write(building, progress)
        _put_in_place(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def is_built(folder: Path) -> bool:
    """Whether `folder` holds the whole demo in the present format."""
    try:
        marker = json.loads((folder / _MARKER).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return marker == {"format": _FORMAT} and (folder / CHECKPOINT_NAME).is_file() and (folder / "pictures").is_dir()


def learn_merges(texts: Iterable[str]) -> list[str]:
    """Byte-pair merges, most frequent pair first, until every word of the texts is one token (Sennrich et al. 2016)."""
    symbols = byte_symbols()
    words = Counter(word for text in texts for word in text.lower().split())
    pieces = {}
    for word in words:
        letters = [symbols[byte] for byte in word.encode()]
        pieces[word] = [*letters[:-1], f"{letters[-1]}</w>"]
    merges: list[str] = []
    while True:
        pairs = Counter[tuple[str, str]]()
        for word, parts in pieces.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            return merges
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(" ".join(best))
        pieces = {word: _merged(parts, best) for word, parts in pieces.items()}


def _write(folder: Path, progress: Callable[[int, int], None]) -> None:
    total = len(SCENES) + 2
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for index, scene in enumerate(SCENES):
        _write_picture(pictures, index, scene)
        progress(index + 1, total)
    merges = learn_merges(scene.caption for scene in SCENES)
    vocabulary = vocabulary_of(merges)
    write_text(folder / "tokenizer" / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "tokenizer" / "merges.txt", "\n".join(["#version: 0.2", *merges, ""]))
    progress(total - 1, total)
    entries = [tensor_entry(name, tensor) for name, tensor in sorted(demo_tensors(len(vocabulary)).items())]
    write_safetensors(folder / CHECKPOINT_NAME, entries, demo_metadata())
    write_text(folder / _MARKER, json.dumps({"format": _FORMAT}))
    progress(total, total)


def _write_picture(folder: Path, index: int, scene: Scene) -> None:
    stem = f"{index:03d}-{scene.name}"
    draw(scene).save(folder / f"{stem}.png", optimize=True)
    (folder / f"{stem}.txt").write_text(f"{scene.caption}\n", "utf-8")


def _put_in_place(building: Path, folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        if is_built(folder):  # another process was faster
            return
        old = next(
            name for number in range(1, 10_000) if not (name := folder.with_name(f"{folder.name}.old{number}")).exists()
        )
        folder.rename(old)
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
    building.rename(folder)
    fsync_folder(folder.parent)


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged
