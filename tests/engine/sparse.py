"""safetensors files of any size that take no room: a whole table of contents, and a hole where the weights would be."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from engine.contract.atomic import Entry, header_bytes


def write_sparse(path: Path, shapes: Mapping[str, Iterable[int]], dtype: str = "F16") -> Path:
    entries = [Entry(name, dtype, tuple(shape), bytes) for name, shape in shapes.items()]
    header = header_bytes(entries, {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(entry.nbytes for entry in entries))
    return path
