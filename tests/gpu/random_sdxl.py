"""A full-size SDXL checkpoint of random weights: the published names and shapes, 6.9 GB, for measuring only."""

import json
import math
from pathlib import Path

import torch

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
