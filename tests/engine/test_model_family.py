"""Numbers and shapes that no training can start from are found in the table of contents."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.contract.base_checkpoint import read_base
from engine.contract.checkpoint_kind import Kind, identify
from engine.contract.safetensors_header import Header, TensorInfo, read_header
from engine.contract.unet_names import UNET_PREFIX
from engine.model.single_file import open_checkpoint, raw
from tests.engine.exports import exported
from tests.engine.folders import refused, rewrite
from tests.engine.sparse import write_sparse

UNET, VAE = UNET_PREFIX, "first_stage_model."
TEXT, TEXT_2 = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
FP8 = "a training result kept in that precision would be lost; use the fp16 or bf16 file"


@pytest.fixture(scope="module")
def demo(demo_checkpoint: Path) -> Header:
    return read_header(demo_checkpoint)


@pytest.fixture
def kind_of(demo: Header) -> Callable[..., Kind]:
    """Of the demo with some of its tensors' types or shapes changed."""

    def change(dtypes: dict[str, str] | None = None, shapes: dict[str, tuple[int, ...]] | None = None) -> Kind:
        tensors = dict(demo.tensors)
        for prefix, dtype in (dtypes or {}).items():
            tensors |= {name: replace(i, dtype=dtype) for name, i in tensors.items() if name.startswith(prefix)}
        tensors |= {name: TensorInfo("F16", shape, ()) for name, shape in (shapes or {}).items()}
        return identify(replace(demo, tensors=tensors))

    return change


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_floats_that_can_be_trained_are_taken(kind_of, dtype):
    assert kind_of({"": dtype}).trainable


@pytest.mark.parametrize(
    ("prefix", "dtype", "says"),
    [
        (UNET, "F8_E4M3", f"has its UNet stored in 8-bit floats (F8_E4M3): {FP8}"),
        (UNET + "out.2.bias", "F8_E5M2", f"has its UNet stored in 8-bit floats (F8_E5M2): {FP8}"),
        (VAE, "F8_E8M0", f"has its VAE stored in 8-bit floats (F8_E8M0): {FP8}"),
        (TEXT, "F8_E4M3", f"has its first text encoder stored in 8-bit floats (F8_E4M3): {FP8}"),
        (UNET, "I8", "has its UNet stored in integers (I8), as quantized models are: use the fp16 or bf16 file"),
        (VAE, "U16", "has its VAE stored in integers (U16), as quantized models are: use the fp16 or bf16 file"),
        (
            TEXT_2 + "ln_final.bias",
            "I64",
            "has its second text encoder stored in integers (I64), as quantized models are: use the fp16 or bf16 file",
        ),
        (UNET, "BOOL", "has its UNet stored in truth values (BOOL), not in floats: use the fp16 or bf16 file"),
        (UNET, "C64", "has its UNet stored in complex numbers (C64), not in floats: use the fp16 or bf16 file"),
    ],
)
def test_a_base_in_other_numbers_is_refused_by_what_they_are(kind_of, prefix, dtype, says):
    assert kind_of({prefix: dtype}).why_not == f"aozora-demo.safetensors {says}."


def test_position_ids_are_integers_by_right(kind_of, demo):
    ids = TEXT + "embeddings.position_ids"
    assert demo.tensors[ids].dtype == "I64" and kind_of({ids: "I32"}).trainable
    assert "(U16)" in kind_of({ids: "U16"}).why_not


def test_a_quantized_model_whose_matrices_are_flat_is_called_that(kind_of):
    name = UNET + "middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    assert "integers (U8), as quantized models are" in kind_of({UNET: "U8"}, {name: (999, 1)}).why_not


def test_another_vae_or_component_in_such_numbers_is_named(folder, demo_checkpoint, tmp_path):
    vae = {n: t for n, t in load_file(demo_checkpoint).items() if n.startswith(VAE)}
    file = tmp_path / "small.safetensors"
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in vae.items()}, file)
    said = "has its VAE (small.safetensors) stored in 8-bit floats (F8_E4M3): "
    assert refused(demo_checkpoint, file).startswith(f"aozora-demo.safetensors {said}")
    rewrite(folder, "text_encoder_2", lambda state: {name: tensor.to(torch.int8) for name, tensor in state.items()})
    said = "has its second text encoder (model.safetensors) stored in integers (I8)"
    assert refused(folder).startswith(f"folder {said}")


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        (VAE + "encoder.mid.attn_1.q.weight", (16, 16, 3, 3), "in the shape (16, 16, 3, 3), which is not SDXL's"),
        (UNET + "out.2.weight", (0, 32, 3, 3), "in the shape (0, 32, 3, 3), which is not SDXL's"),
        (UNET + "label_emb.0.0.weight", (128, 48), "in the shape (128, 48), which is not SDXL's"),
        (UNET + "label_emb.0.0.weight", (128, 145), "in the shape (128, 145), which is not SDXL's"),
    ],
)
def test_shapes_that_no_config_can_be_read_from_are_refused(kind_of, name, shape, says):
    assert kind_of(shapes={name: shape}).why_not == f"aozora-demo.safetensors has {name} {says}."


@pytest.mark.parametrize("start", [TEXT + "encoder.layers.", TEXT_2 + "transformer.resblocks."])
def test_an_encoder_of_layers_without_end_is_refused(kind_of, start):
    why = kind_of(shapes={f"{start}{number}.x": (0,) for number in range(5000)}).why_not
    assert "layers" in why and "which is more than SDXL's arrangement has" in why


def test_a_unet_of_blocks_without_end_is_refused(kind_of):
    places = [*(f"input_blocks.{i}.1" for i in (7, 8)), *(f"output_blocks.{i}.1" for i in (0, 1, 2)), "middle_block.1"]
    many = {f"{UNET}{place}.transformer_blocks.{n}.x": (0,) for place in places for n in range(5000)}
    assert "has not SDXL's arrangement of blocks (5000 transformer blocks in a row)" in kind_of(shapes=many).why_not


def test_extra_tensors_of_types_that_torch_lacks_are_copied_as_bytes(demo_checkpoint, tmp_path):
    """Types by the format's words: torch has no such numbers, or the library does not write them."""
    shapes = {f"extra.{word}": word for word in ("U16", "U32", "U64", "C64", "F8_E8M0")}
    content = demo_checkpoint.read_bytes()
    length = int.from_bytes(content[:8], "little")
    table = json.loads(content[8 : 8 + length])
    end, data = len(content) - 8 - length, b""
    for index, (name, word) in enumerate(shapes.items()):
        more = bytes([index + 1]) * 3 * {"U16": 2, "U32": 4, "U64": 8, "C64": 8, "F8_E8M0": 1}[word]
        table[name] = {"dtype": word, "shape": [3], "data_offsets": [end + len(data), end + len(data) + len(more)]}
        data += more
    header = json.dumps(table).encode()
    path = tmp_path / "base.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :] + data)
    base = open_checkpoint(path)
    out = exported(base, tmp_path / "out.safetensors", unet={"conv_out.bias": torch.full((4,), 1 / 3)})
    again = open_checkpoint(out)
    for name, word in shapes.items():
        assert again.header.tensors[name].dtype == word and raw(again, name) == raw(base, name) != b""


def test_what_is_refused_for_its_numbers_is_described_all_the_same(tmp_path, demo):
    shapes = {name: info.shape for name, info in demo.tensors.items()}
    path = write_sparse(tmp_path / "model.safetensors", shapes, "I8")
    kind = identify(read_base(path))
    assert kind.name == "a quantized SDXL" and "stored in integers (I8)" in kind.why_not
