"""A full-size SDXL checkpoint of random weights: the published names and shapes, 6.9 GB, for measuring only.

`python -m tests.gpu.random_sdxl FILE [cuda]` writes one.
"""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine.contract.atomic import write_safetensors
from engine.model.single_file import tensor_entry

NAMES = Path(__file__).parents[1] / "engine" / "sdxl_tensors.json"


def write_random_sdxl(path: Path, device: str) -> None:
    """fp16, every tensor from its own seed: norms are 1 and 0, matrices scaled by their fan-in."""
    entries = []
    for number, (name, shape) in enumerate(sorted(json.loads(NAMES.read_text()).items())):
        tensor = _tensor(name, tuple(shape), number, device)
        entries.append(tensor_entry(name, tensor))
    entries += [tensor_entry(marker, torch.empty(0)) for marker in ("v_pred", "ztsnr")]
    write_safetensors(path, entries, {"format": "pt"})


def _tensor(name: str, shape: tuple[int, ...], number: int, device: str) -> torch.Tensor:
    if name.endswith("position_ids"):
        return torch.arange(math.prod(shape)).view(shape)
    if len(shape) < 2:
        return torch.full(shape, 1.0 if name.endswith("weight") else 0.0, dtype=torch.float16)
    generator = torch.Generator(device).manual_seed(number)
    fan_in = math.prod(shape[1:])
    drawn = torch.randn(shape, generator=generator, device=device) * fan_in**-0.5
    return drawn.to("cpu", torch.float16)


_folders: list[Path] = []


def full_size_folder(factory: pytest.TempPathFactory, demo_folder: Path) -> Path:
    """The checkpoint and eight pictures, made once for all tests."""
    if not _folders:
        folder = factory.mktemp("full")
        write_random_sdxl(folder / "random-sdxl.safetensors", "cuda")
        (folder / "pictures").mkdir()
        for number, path in enumerate(sorted((demo_folder / "pictures").glob("*.png"))[:8]):
            with Image.open(path) as picture:
                picture.resize((1024, 1024)).save(folder / "pictures" / f"{number}.png")
            (folder / "pictures" / f"{number}.txt").write_text(path.with_suffix(".txt").read_text())
        _folders.append(folder)
    return _folders[0]


if __name__ == "__main__":
    write_random_sdxl(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "cpu")
