import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from diffusers import StableDiffusionXLPipeline


@pytest.fixture(scope="session")
def demo_pipeline(demo_folder: Path) -> "StableDiffusionXLPipeline":
    from tests.engine.folders import pipeline_of

    return pipeline_of(demo_folder)


@pytest.fixture(scope="session")
def demo_diffusers(demo_pipeline: "StableDiffusionXLPipeline", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo as diffusers and transformers save it; never written to."""
    folder = tmp_path_factory.mktemp("saved") / "demo"
    demo_pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(demo_diffusers: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(demo_diffusers, tmp_path / "folder"))


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
