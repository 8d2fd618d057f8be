"""The forecast against what torch measured on a card, and against what the texts promise."""

import json
import math
import re
from pathlib import Path

import msgspec
import pytest

from engine.contract.budget import GIB, export_bytes, forecast
from engine.contract.layers import Layer, read_layers, select
from engine.contract.places import shipped_profiles_folder
from engine.contract.profile import load
from engine.contract.safetensors_header import Header, Piece, TensorInfo
from engine.contract.sections import Profile

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def header() -> Header:
    """The published file's, in fp16."""
    shapes = json.loads((Path(__file__).parent / "sdxl_tensors.json").read_text())
    path = Path("sdxl.safetensors")
    tensors = {
        name: TensorInfo("F16", tuple(shape), (Piece(path, 0, 2 * math.prod(shape)),)) for name, shape in shapes.items()
    }
    return Header(path, {}, tensors, sum(info.bytes for info in tensors.values()))


@pytest.fixture(scope="module")
def sdxl(header: Header) -> Layer:
    return read_layers(header)


def whole(**memory: bool) -> Profile:
    profile = load(shipped_profiles_folder() / "whole-unet.toml")
    return msgspec.structs.replace(profile, memory=msgspec.structs.replace(profile.memory, **memory))


# Peak allocated by torch, GiB, on an H100 at 1024 x 1024 (docs/benchmarks.md): checkpointing, batch size, GiB.
MEASURED = [(True, 1, 15.36), (True, 4, 17.27), (False, 1, 21.06)]


@pytest.mark.parametrize(("checkpointing", "batch_size", "gib"), MEASURED)
def test_the_forecast_is_within_five_percent_of_the_card(
    sdxl: Layer, header: Header, checkpointing: bool, batch_size: int, gib: float
):
    profile = whole(checkpointing=checkpointing)
    train = msgspec.structs.replace(profile.train, batch_size=batch_size)
    preview = msgspec.structs.replace(profile.preview, prompts=())
    profile = msgspec.structs.replace(profile, train=train, preview=preview)
    cost = forecast(profile, sdxl, frozenset(sdxl.tensors), header)
    assert (cost.device - cost.overhead) / GIB == pytest.approx(gib, rel=0.05)


@pytest.mark.parametrize("file", ["README.md", "profiles/whole-unet.toml"])
def test_texts_name_the_memory_that_the_forecast_names(sdxl: Layer, header: Header, file: str):
    cost = forecast(whole(), sdxl, frozenset(sdxl.tensors), header)
    assert re.search(rf"about\s+(#\s+)?{math.ceil(cost.device / GIB)} GiB", (ROOT / file).read_text())


def test_the_character_recipe_fits_the_card_it_names(sdxl: Layer, header: Header):
    profile = load(shipped_profiles_folder() / "character-12gb.toml")
    trained = select(sdxl.tensors, profile.layers.train, profile.layers.freeze).trained
    assert forecast(profile, sdxl, trained, header).device < 12 * GIB


UNET = 2_567_463_684


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 2 * 3_468_837_945),
        ({"export_precision": "fp32"}, 2 * 3_468_837_945 + 2 * UNET),
        ({"export_precision": "bf16"}, 2 * 3_468_837_945),
        ({"export_format": "unet"}, 2 * UNET),
        ({"export_format": "unet", "export_precision": "fp32"}, 4 * UNET),
        ({"export": False}, 0),
    ],
)
def test_the_disk_that_the_export_takes_follows_its_form(sdxl: Layer, header: Header, settings: dict, expected: int):
    profile = whole()
    profile = msgspec.structs.replace(profile, save=msgspec.structs.replace(profile.save, **settings))
    trained = frozenset(sdxl.tensors)
    assert export_bytes(profile, header, trained) == expected
    cost = forecast(profile, sdxl, trained, header)
    assert cost.disk - cost.export == (profile.save.keep + 1) * cost.checkpoint and cost.export == expected
