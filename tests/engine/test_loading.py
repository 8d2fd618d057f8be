"""Loading never holds a second copy of the weights."""

import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from engine.contract.atomic import Entry, write_safetensors
from engine.contract.safetensors_header import Header, Piece, TensorInfo, read_header
from engine.contract.unet_names import UNET_PREFIX, to_published
from engine.model.components import unet_config
from engine.model.convert import LazyState, text_2_state
from engine.model.single_file import Checkpoint, open_checkpoint, tensor_entry

ROOT = Path(__file__).parents[2]
CHANNELS, DEPTHS = (64, 128, 256), (1, 2, 10)  # SDXL's arrangement at a fifth of its width: 92 M parameters


@pytest.fixture(scope="module")
def large(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's checkpoint with a UNet of 184 MB in fp16."""
    header = read_header(demo_checkpoint)
    config = unet_config(header) | {
        "block_out_channels": CHANNELS,
        "transformer_layers_per_block": DEPTHS,
        "attention_head_dim": [width // 16 for width in CHANNELS],
    }
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in UNet2DConditionModel(**config).state_dict().items()}
    noise = torch.randn(1 << 20).half().numpy().tobytes()

    def weights(size: int) -> bytes:
        return (noise * (size // len(noise) + 1))[:size]

    entries = [
        Entry(
            UNET_PREFIX + to_published(name), "F16", shape, lambda shape=shape: weights(2 * torch.Size(shape).numel())
        )
        for name, shape in shapes.items()
    ]
    others = {name: tensor for name, tensor in load_file(demo_checkpoint).items() if not name.startswith(UNET_PREFIX)}
    entries += [tensor_entry(name, tensor) for name, tensor in others.items()]
    return write_safetensors(tmp_path_factory.mktemp("large") / "large.safetensors", entries, dict(header.metadata))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's memory")
def test_loading_a_unet_takes_its_weights_once(large):
    """The mapped file is not counted: its pages are the system's to drop."""
    command = [sys.executable, "-m", "tests.engine.load_unet", large, "bfloat16"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    weights, peak, _ = (float(number) for number in done.stdout.split())
    assert weights > 180e6
    assert weights <= peak <= 1.15 * weights


def test_states_keep_nothing(demo_checkpoint):
    """Of an encoder whose tensors lie in pieces, as in a diffusers folder, what was asked for lives no longer than
    whoever asked."""
    checkpoint = open_checkpoint(demo_checkpoint)
    name = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
    whole = checkpoint.header.tensors[name]
    third = whole.bytes // 3
    pieces = tuple(Piece(demo_checkpoint, whole.pieces[0].start + index * third, third) for index in range(3))
    header = Header(demo_checkpoint, {}, {name: TensorInfo(whole.dtype, whole.shape, pieces)}, 0)
    in_pieces = Checkpoint(demo_checkpoint, header, checkpoint.kind)
    state = in_pieces.text_encoder_2()
    query = "text_model.encoder.layers.0.self_attn.q_proj.weight"
    tensor = state[query]
    assert torch.equal(tensor, checkpoint.text_encoder_2()[query])
    storage = weakref.ref(tensor)
    del tensor
    assert storage() is None
    assert torch.equal(in_pieces.tensor(name), checkpoint.tensor(name))


def test_a_state_makes_only_what_is_asked_for():
    made = []

    def make(name: str) -> torch.Tensor:
        made.append(name)
        return torch.zeros(6, 2)

    published = LazyState(
        {"transformer.resblocks.0.attn.in_proj_weight": lambda: make("stack"), "text_projection": lambda: make("p")}
    )
    state = text_2_state(published)
    assert len(state) == 4 and "text_projection.weight" in state and not made
    assert state["text_projection.weight"].shape == (2, 6)
    assert made == ["p"]
