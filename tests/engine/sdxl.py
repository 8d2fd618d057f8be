"""The published SDXL's tensors, by name and shape."""

import json
import math
from pathlib import Path

from engine.contract.safetensors_header import Header, Piece, TensorInfo

# Keyword arguments of UNet2DConditionModel.
UNET = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def published() -> Header:
    """In fp16."""
    shapes = json.loads((Path(__file__).parent / "sdxl_tensors.json").read_text())
    path = Path("sdxl.safetensors")
    tensors = {
        name: TensorInfo("F16", tuple(shape), (Piece(path, 0, 2 * math.prod(shape)),)) for name, shape in shapes.items()
    }
    return Header(path, {}, tensors, sum(info.bytes for info in tensors.values()))
