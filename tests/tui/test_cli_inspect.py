import json

import fake_checkpoint
import pytest

from aozora_tui import cli, inspect_file
from engine.contract.safetensors_header import CheckpointError

BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def write(path, tensors, metadata=None):
    """A safetensors file of zeros: {name: (dtype, shape)}, by the format's description."""
    header, position = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, shape) in tensors.items():
        size = BYTES[dtype]
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(position))
    return path


PARTS = {
    "model.diffusion_model.out.2.weight": ("BF16", [4, 320, 3, 3]),
    "model.diffusion_model.out.2.bias": ("F32", [4]),
    "first_stage_model.decoder.conv_in.bias": ("F16", [512]),
    "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias": ("F16", [768]),
    "conditioner.embedders.1.model.ln_final.bias": ("F16", [1280]),
    "v_pred": ("F32", [0]),
    "ztsnr": ("F32", [0]),
}


def test_every_part_is_counted(tmp_path):
    path = write(tmp_path / "a.safetensors", PARTS, {"modelspec.title": "A cat"})
    found = inspect_file.inspect(path)
    assert {part.name: (part.tensors, part.parameters, part.bytes) for part in found.parts} == {
        "UNet": (2, 11524, 2 * 11520 + 16),
        "VAE": (1, 512, 1024),
        "text encoder": (1, 768, 1536),
        "text encoder 2": (1, 1280, 2560),
        "other": (2, 0, 0),
    }
    assert found.parts[0].dtypes == {"BF16": 11520, "F32": 4}
    assert (found.tensors, found.parameters, found.bytes) == (7, 14084, path.stat().st_size)
    assert (found.prediction_type, found.zero_terminal_snr, found.markers) == (
        "v_prediction",
        True,
        ("v_pred", "ztsnr"),
    )
    assert found.metadata == {"modelspec.title": "A cat"}


def test_what_cannot_be_trained_says_why(tmp_path):
    path = write(tmp_path / "lora.safetensors", {"lora_unet_mid.lora_down.weight": ("F16", [4, 8])})
    lines = inspect_file.lines(inspect_file.inspect(path))
    assert lines[0].startswith(f"{path}: a LoRA, 32 parameters, ")
    assert lines[1].startswith("cannot be trained here: lora.safetensors is a LoRA, an adapter and not a checkpoint")
    assert not any("prediction type" in line for line in lines)


@pytest.mark.parametrize(
    ("markers", "metadata", "says"),
    [
        (("v_pred", "ztsnr"), {}, ["prediction type: v_prediction, zero terminal SNR (the v_pred and ztsnr markers)"]),
        ((), {}, ["prediction type: epsilon (no marker: epsilon is assumed, as ComfyUI does)", "markers: none"]),
        (
            (),
            {"modelspec.prediction_type": "v"},
            [
                "prediction type: v_prediction (modelspec.prediction_type in its metadata)",
                "markers: none",
                "ComfyUI, which reads the markers only, samples it as epsilon",
            ],
        ),
    ],
)
def test_how_the_prediction_type_was_found_is_printed(tmp_path, markers, metadata, says):
    whole = fake_checkpoint.write(tmp_path / "whole.safetensors", markers, metadata)
    lines = inspect_file.lines(inspect_file.inspect(whole))
    assert lines[1 : 1 + len(says)] == says


def folder_of(tmp_path):
    """A diffusers folder with a UNet, and little of that."""
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "model" / "scheduler").mkdir()
    unet = {"conv_in.weight": ("F16", [320, 4, 3, 3]), "add_embedding.linear_1.weight": ("F16", [1280, 2816])}
    write(tmp_path / "model" / "unet" / "diffusion_pytorch_model.fp16.safetensors", unet)
    (tmp_path / "model" / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    schedule = '{"prediction_type": "v_prediction", "rescale_betas_zero_snr": true}'
    (tmp_path / "model" / "scheduler" / "scheduler_config.json").write_text(schedule)
    return tmp_path / "model"


def test_a_folder_is_inspected_under_the_published_names(tmp_path):
    found = inspect_file.inspect(folder_of(tmp_path))
    assert [(part.name, part.tensors) for part in found.parts] == [("UNet", 2)]
    assert (found.prediction_type, found.zero_terminal_snr) == ("v_prediction", True)
    assert (found.announced_by, found.comfyui) == ("its scheduler_config.json", "epsilon")
    assert found.why_not.startswith("model has not SDXL's arrangement of blocks")


def test_a_folder_of_another_model_is_one_sentence_and_exit_1(tmp_path, capsys):
    folder = folder_of(tmp_path)
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert cli.main(["inspect", str(folder)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"{folder} is a folder for diffusers' FluxPipeline, not SDXL: only SDXL can be trained here.\n"


def test_metadata_can_neither_flood_nor_steer_the_terminal(tmp_path):
    metadata = {"long": "x" * 5000, "sly": "\x1b[2Ja\nb"}
    lines = inspect_file.lines(inspect_file.inspect(write(tmp_path / "a.safetensors", PARTS, metadata)))
    assert lines[-2:] == [f"  long: {'x' * 100}... (5,000 characters)", "  sly: \\x1b[2Ja\\nb"]


def test_a_wrong_file_is_one_sentence_and_exit_1(tmp_path, capsys):
    page = tmp_path / "model.safetensors"
    page.write_text("<!DOCTYPE html><html>")
    assert cli.main(["inspect", str(page)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "is a web page" in said.err
    with pytest.raises(CheckpointError, match="does not exist"):
        inspect_file.inspect(tmp_path / "nothing.safetensors")


def test_inspect_in_json_is_one_document(tmp_path, capsys):
    path = write(tmp_path / "a.safetensors", PARTS)
    assert cli.main(["inspect", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["prediction_type"] == document["comfyui"] == "v_prediction"
    assert document["announced_by"] == "the v_pred and ztsnr markers"
    assert document["parts"][1]["dtypes"] == {"F16": 512}


def test_the_home_of_nobody_is_one_sentence_and_exit_1(capsys):
    assert cli.main(["inspect", "~nobody-of-this-name/x.safetensors"]) == 1
    said = "~nobody-of-this-name/x.safetensors is in the home of someone who has no account here.\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "../x"])
def test_an_index_that_names_no_file_is_one_sentence_and_exit_1(tmp_path, capsys, name):
    folder = folder_of(tmp_path)
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": name}}))
    assert cli.main(["inspect", str(folder)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"{index} is damaged: it names a file that cannot be (")


def test_what_a_damaged_file_says_cannot_steer_the_terminal(tmp_path, capsys):
    header = json.dumps({"\x1b[2J\n": 1}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert cli.main(["inspect", str(path)]) == 1
    said = f"{path} has a damaged header: the entry of \\x1b[2J\\n is malformed.\n"
    assert capsys.readouterr() == ("", said)


def test_a_model_in_numbers_that_cannot_be_trained_is_described(tmp_path):
    whole = fake_checkpoint.write(tmp_path / "whole.safetensors")
    with whole.open("r+b") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
        file.seek(8)
        file.write(header.replace(b'"F16"', b'"I16"'))  # which takes as many bytes
    lines = inspect_file.lines(inspect_file.inspect(whole))
    assert lines[0].startswith(f"{whole}: a quantized SDXL, 3.47 B parameters")
    assert "stored in integers (I16), as quantized models are" in lines[1]
    assert any("UNet" in line and line.endswith("I16 2.57 B") for line in lines)
