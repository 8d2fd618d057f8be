import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write_header(tmp_path: Path) -> Callable[..., Path]:
    """Writes a safetensors file by hand: F16 zeros of the given shapes, or exactly the given header and data."""

    def write(
        shapes: dict[str, list[int]], *, header: dict[str, object] | None = None, data: bytes | None = None
    ) -> Path:
        table: dict[str, object] = {}
        offset = 0
        for name, shape in shapes.items():
            size = 2
            for side in shape:
                size *= side
            table[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
        text = json.dumps(table if header is None else header).encode()
        path = tmp_path / "made.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + (bytes(offset) if data is None else data))
        return path

    return write
