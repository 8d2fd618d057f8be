"""The text encoders' tensors by header alone, against the module that is trained, and what an optimizer keeps of it."""

from pathlib import Path

import msgspec
import pytest
import torch
from msgspec import structs

from engine.contract.base_checkpoint import read_base
from engine.contract.budget import forecast
from engine.contract.layers import read_layers
from engine.contract.profile import parse
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile, TextEncoders
from engine.contract.text_tensors import learning_text, text_tensors
from engine.contract.unet_names import unet_names
from engine.model.components import load_text_encoders
from engine.model.conditioner import Conditioner, trainable
from engine.model.single_file import open_checkpoint
from engine.optim.build import build
from engine.run.conditions import cautions
from tests.engine.test_profile import MINIMAL

CPU = torch.device("cpu")
SETTINGS = [
    TextEncoders(train=train, token_embedding=embedding)
    for train in ("none", "first", "second", "both")
    for embedding in ("frozen", "row_wise")
]


@pytest.fixture(scope="module")
def conditioner(demo_checkpoint: Path) -> Conditioner:
    return Conditioner(load_text_encoders(open_checkpoint(demo_checkpoint), CPU, torch.float32))


@pytest.fixture(scope="module")
def header(demo_checkpoint: Path) -> Header:
    return read_base(demo_checkpoint)


def test_names_and_shapes_are_those_of_the_module(header: Header, conditioner: Conditioner):
    found = {name: tensor.shape for name, tensor in text_tensors(header).items()}
    assert found == {name: tuple(parameter.shape) for name, parameter in conditioner.named_parameters()}
    assert {tensor.published for tensor in text_tensors(header).values()} <= header.tensors.keys()


def test_a_folder_has_the_same(header: Header, demo_diffusers: Path):
    folder = {name: tensor.shape for name, tensor in text_tensors(read_base(demo_diffusers)).items()}
    assert folder == {name: tensor.shape for name, tensor in text_tensors(header).items()}


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: f"{settings.train}-{settings.token_embedding}")
def test_what_learns_is_what_is_trained(header: Header, conditioner: Conditioner, settings: TextEncoders):
    names = text_tensors(header)
    assert learning_text(names, settings) == trainable(conditioner, settings)


def demo(**sections: dict) -> Profile:
    """In fp32: without masters, what is kept beside the weights is the optimizer's alone."""
    profile = parse(MINIMAL, "p")[0]
    assert profile is not None
    sections = {"model": {"precision": "fp32"}, "memory": {"device": "cpu"}} | sections
    for section, values in sections.items():
        profile = structs.replace(profile, **{section: structs.replace(getattr(profile, section), **values)})
    return profile


def test_both_encoders_of_the_demo_count_as_they_are_trained(header: Header):
    root = read_layers(header)
    profile = demo(text_encoders={"train": "both"})
    assert forecast(profile, root, frozenset(root.tensors), header).trained == 2_769_316


@pytest.mark.parametrize("optimizer", [{}, {"momentum": 0.9}, {"kind": "adamw"}, {"kind": "adamw", "moments": "bf16"}])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: f"{settings.train}-{settings.token_embedding}")
def test_an_optimizers_state_is_forecast_to_the_byte(
    header: Header, conditioner: Conditioner, settings: TextEncoders, optimizer: dict
):
    """In a checkpoint, beside the masters and how many steps were taken; and on the device or the host."""
    root = read_layers(header)
    names = trainable(conditioner, settings)
    shapes = {name: torch.Size(header.tensors[published].shape) for name, published in _unet(header).items()}
    shapes |= {name: parameter.shape for name, parameter in conditioner.named_parameters() if name in names}
    profile = demo(optimizer=optimizer, text_encoders=msgspec.to_builtins(settings))
    made = build(profile.optimizer, shapes, CPU, cautions=cautions(names, settings), factors={}, seed=0)
    kept = {name: tensor.nbytes for name, tensor in made.state_dict().items() if name != "taken"}
    cost = forecast(profile, root, frozenset(root.tensors), header)
    assert cost.checkpoint - 4 * cost.trained == sum(kept.values())
    on_host = {name for name in kept if name.endswith(".m") or (optimizer.get("kind") and not _by_row(name))}
    assert cost.optimizer == sum(size for name, size in kept.items() if name not in on_host)
    none = forecast(demo(optimizer={"kind": "imported", "import_path": "a.B"}), root, frozenset(root.tensors), header)
    assert cost.host - none.host == sum(size for name, size in kept.items() if name in on_host)


def _by_row(name: str) -> bool:
    return name.endswith("token_embedding.weight.counts")


def _unet(header: Header) -> dict[str, str]:
    return {diffusers: name for name, diffusers in unet_names(header.tensors).items()}
