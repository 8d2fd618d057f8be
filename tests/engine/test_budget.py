"""The forecast against what torch measured on a card, and against what the texts promise."""

import json
import math
import re
from pathlib import Path

import msgspec
import pytest

from engine.contract.budget import GIB, forecast
from engine.contract.layers import Layer, select, tree
from engine.contract.places import shipped_profiles_folder
from engine.contract.profile import load
from engine.contract.sections import Profile
from engine.contract.unet_names import unet_names

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sdxl() -> Layer:
    shapes = json.loads((Path(__file__).parent / "sdxl_tensors.json").read_text())
    return tree([(diffusers, math.prod(shapes[name])) for name, diffusers in unet_names(shapes).items()])


def whole(**memory: bool) -> Profile:
    profile = load(shipped_profiles_folder() / "whole-unet.toml")
    return msgspec.structs.replace(profile, memory=msgspec.structs.replace(profile.memory, **memory))


# Peak allocated by torch, GiB, on an H100 at 1024 x 1024 (docs/benchmarks.md): checkpointing, batch size, GiB.
MEASURED = [(True, 1, 15.36), (True, 4, 17.27), (False, 1, 21.06)]


@pytest.mark.parametrize(("checkpointing", "batch_size", "gib"), MEASURED)
def test_the_forecast_is_within_five_percent_of_the_card(sdxl: Layer, checkpointing: bool, batch_size: int, gib: float):
    profile = whole(checkpointing=checkpointing)
    train = msgspec.structs.replace(profile.train, batch_size=batch_size)
    preview = msgspec.structs.replace(profile.preview, prompts=())
    profile = msgspec.structs.replace(profile, train=train, preview=preview)
    cost = forecast(profile, sdxl, frozenset(sdxl.tensors), 0)
    assert (cost.device - cost.overhead) / GIB == pytest.approx(gib, rel=0.05)


@pytest.mark.parametrize("file", ["README.md", "profiles/whole-unet.toml"])
def test_texts_name_the_memory_that_the_forecast_names(sdxl: Layer, file: str):
    cost = forecast(whole(), sdxl, frozenset(sdxl.tensors), 0)
    assert re.search(rf"about\s+(#\s+)?{math.ceil(cost.device / GIB)} GiB", (ROOT / file).read_text())


def test_the_character_recipe_fits_the_card_it_names(sdxl: Layer):
    profile = load(shipped_profiles_folder() / "character-12gb.toml")
    trained = select(sdxl.tensors, profile.layers.train, profile.layers.freeze).trained
    assert forecast(profile, sdxl, trained, 0).device < 12 * GIB
