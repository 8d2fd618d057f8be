"""What `auto` expects of a card before it encodes without tiles, against what the card then gives."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from engine.contract.safetensors_header import Header, TensorInfo
from engine.contract.vae_file import TILE
from engine.model.components import vae_config
from engine.model.latents import encode_posterior, encoding_memory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA card"),
]
PUBLISHED = Path(__file__).parents[1] / "engine" / "sdxl_tensors.json"
MIB = 2**20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(512, 512), (1024, 1024), (1472, 832), (1536, 1536)])
def test_encoding_whole_takes_no_more_than_expected_and_not_much_less(size, dtype, capsys):
    shapes = json.loads(PUBLISHED.read_text())
    tensors = {name: TensorInfo("F16", tuple(shape), ()) for name, shape in shapes.items()}
    header = Header(Path("sdxl.safetensors"), {}, tensors, 0)
    torch.backends.cudnn.allow_tf32 = False
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.device("cuda"):
        vae = AutoencoderKL(**vae_config(header)).to(dtype).eval()
    images = torch.rand(1, 3, size[1], size[0]) * 2 - 1
    torch.cuda.reset_peak_memory_stats()
    mean, _ = encode_posterior(vae, images)
    allocated = torch.cuda.max_memory_allocated() - before
    reserved = torch.cuda.max_memory_reserved()
    expected = encoding_memory(header, size, dtype)
    with capsys.disabled():
        numbers = f"expected {expected / MIB:.0f} MiB, allocated {allocated / MIB:.0f}, reserved {reserved / MIB:.0f}"
        print(f"\n{size[0]}x{size[1]} {dtype}: {numbers}")  # noqa: T201 - the figures are what this test is run for
    assert mean.shape == (1, 4, size[1] // 8, size[0] // 8)
    assert 0.8 * expected < allocated <= expected

    vae.enable_tiling()
    vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // 8
    torch.cuda.reset_peak_memory_stats()
    encode_posterior(vae, images)
    assert torch.cuda.max_memory_allocated() - before <= encoding_memory(header, (TILE, TILE), dtype) + 50 * MIB
