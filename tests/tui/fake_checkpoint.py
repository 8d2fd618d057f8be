"""A checkpoint with the published SDXL file's whole table of contents, and holes where its weights would be. And the
smallest tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from engine.contract.atomic import Entry, header_bytes
from engine.contract.tokenizer_tables import vocabulary_of

TENSORS = Path(__file__).parents[1] / "engine" / "sdxl_tensors.json"


def write(path: Path, markers: Sequence[str] = ("v_pred", "ztsnr"), metadata: Mapping[str, str] | None = None) -> Path:
    """7 GB by its size, a few hundred KB on the disk. By itself it announces v-prediction with zero terminal SNR."""
    header, size = _header(tuple(markers), tuple((metadata or {}).items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size)
    return path


@cache
def _header(markers: tuple[str, ...], metadata: tuple[tuple[str, str], ...]) -> tuple[bytes, int]:
    """And the size of the file that it begins. Nearly every test of the interface writes the same one."""
    shapes = {**{name: [0] for name in markers}, **json.loads(TENSORS.read_text())}
    entries = [Entry(name, "F16", tuple(shape), bytes) for name, shape in shapes.items()]
    header = header_bytes(entries, dict(metadata))
    return header, len(header) + sum(entry.nbytes for entry in entries)


def write_tokenizer(folder: Path) -> Path:
    """All that a check looks for: a vocab.json and a merges.txt of CLIP's kind."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary_of(["a t</w>"])))
    (folder / "merges.txt").write_text("a t</w>\n")
    return folder
