"""The published SDXL's tensors, by name and shape."""

import json
import math
from pathlib import Path

from engine.contract.safetensors_header import Header, Piece, TensorInfo


def published() -> Header:
    """In fp16."""
    shapes = json.loads((Path(__file__).parent / "sdxl_tensors.json").read_text())
    path = Path("sdxl.safetensors")
    tensors = {
        name: TensorInfo("F16", tuple(shape), (Piece(path, 0, 2 * math.prod(shape)),)) for name, shape in shapes.items()
    }
    return Header(path, {}, tensors, sum(info.bytes for info in tensors.values()))
