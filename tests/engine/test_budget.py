"""The forecast against what torch measured on a card, and against what the texts promise."""

import json
import math
import re
from pathlib import Path

import msgspec
import pytest

from engine.contract.budget import GIB, Forecast, export_bytes, forecast
from engine.contract.budget_stages import unit_sizes
from engine.contract.layers import Layer, read_layers, select
from engine.contract.places import shipped_profiles_folder
from engine.contract.profile import load
from engine.contract.safetensors_header import Header, Piece, TensorInfo
from engine.contract.sections import Profile
from engine.contract.unet_names import unet_names

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


def whole(**memory: bool | int | str) -> Profile:
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


def test_the_stage_major_plan_holds_two_parts_of_the_unet_and_the_sums_of_one(sdxl: Layer, header: Header):
    """Figures of reference: six attentions of 350.84 M, of 2.57 B parameters; 738 MiB of activations in one of them."""
    units = unit_sizes(zip(sdxl.tensors, sdxl.sizes, strict=True))
    deep = [size for size in units.values() if size > 300e6]
    assert len(deep) == 6 and deep[0] == pytest.approx(350.84e6, rel=1e-4)
    assert sum(units.values()) == 2_567_463_684
    profile = whole(plan="stage-major", group=2)
    preview = msgspec.structs.replace(profile.preview, prompts=())
    cost = forecast(msgspec.structs.replace(profile, preview=preview), sdxl, frozenset(sdxl.tensors), header)
    assert cost.weights == 2 * 2 * deep[0]
    assert cost.gradients == 4 * deep[0] + 2 * max(sdxl.sizes)
    assert cost.activations == 2 * 738 * 2**20
    plain = forecast(whole(), sdxl, frozenset(sdxl.tensors), header)
    waiting = 0.22e9 * profile.train.accumulate * profile.train.batch_size
    assert cost.host - plain.host == pytest.approx(6 * 2_567_463_684 + waiting, rel=0.01)


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


# What other settings add to the usual run: Adafactor over a split master in bf16

WIDEST = 1280 * 2560 * 9  # up_blocks.0.resnets.0.conv1
FIRST, SECOND = 123_060_480, 694_659_840
EMBEDDING, EMBEDDING_2 = 49_408 * 768, 49_408 * 1280
# CLIP-L's last layer, of width 768 and 3072 inside, and the norm behind it: nobody reads what they compute.
UNREAD = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768 + 2 * 768


TENSORS = 1680
FACTORED = 18_686_640  # bytes of rows and columns


def moments(header: Header, trained: frozenset[str]) -> int:
    """Bytes of fp32 rows and columns, convolutions as matrices (O, I * kh * kw); of vectors, one each."""
    shapes = [
        header.tensors[name].shape for name, diffusers in unet_names(header.tensors).items() if diffusers in trained
    ]
    return 4 * sum(s[0] + math.prod(s) // s[0] if len(s) > 1 else s[0] for s in shapes)


def test_the_second_moments_of_the_whole_unet_are_18_mib(sdxl: Layer, header: Header):
    assert moments(header, frozenset(sdxl.tensors)) == FACTORED == pytest.approx(18 * 2**20, rel=0.02)
    assert len(sdxl.tensors) == TENSORS


def costs(sdxl: Layer, header: Header, **sections: dict) -> Forecast:
    profile = whole()
    for section, values in sections.items():
        profile = msgspec.structs.replace(
            profile, **{section: msgspec.structs.replace(getattr(profile, section), **values)}
        )
    return forecast(profile, sdxl, frozenset(sdxl.tensors), header)


IMPORTED = {"kind": "imported", "import_path": "torch.optim.NAdam"}


@pytest.mark.parametrize(
    ("sections", "host", "device", "checkpoint"),
    [
        # Bytes a parameter in host memory and in a checkpoint, bytes an element of the widest tensor on the card.
        ({"optimizer": {"master": "fp32"}}, 2, 2 * 2, 0),
        ({"optimizer": {"master": "stochastic"}}, -2, -2 * 2, 0),
        ({"optimizer": {"master": "nearest"}}, -2, -2 * 2, 0),
        ({"optimizer": {"momentum": 0.9}}, 2, 2 * 2, 2),
        ({"optimizer": {"kind": "adamw"}}, 8, 2 * 8, 8),
        ({"optimizer": {"kind": "adamw", "moments": "bf16", "momentum": 0.9}}, 4, 2 * 4, 4),
        ({"ema": {"decay": 0.999}}, 4 + 2, 0, 4),
        ({"model": {"precision": "fp32"}, "ema": {"decay": 0.999}}, 4 + 4 - 2, None, 4),
    ],
)
def test_what_is_kept_beside_the_weights_is_counted_where_it_is_kept(
    sdxl: Layer, header: Header, sections: dict, host: int, device: int | None, checkpoint: int
):
    usual, cost = costs(sdxl, header), costs(sdxl, header, **sections)
    adamw = sections.get("optimizer", {}).get("kind") == "adamw"
    factored, counts = (0, 8 * TENSORS) if adamw else (FACTORED, 0)
    assert usual.checkpoint == 4 * UNET + FACTORED
    assert cost.host - usual.host == host * UNET + counts
    assert cost.checkpoint == (4 + checkpoint) * UNET + factored + counts
    if device is not None:
        assert cost.device - usual.device == device * WIDEST + factored - FACTORED


@pytest.mark.parametrize("part", ["conv_in", "attn2", "mid_block.*"])
def test_second_moments_are_those_of_the_layers_that_learn(sdxl: Layer, header: Header, part: str):
    """Narrow layers have more of them for each parameter than the whole UNet has."""
    trained = select(sdxl.tensors, [part]).trained
    cost = forecast(whole(), sdxl, trained, header)
    assert cost.checkpoint - 4 * cost.trained == moments(header, trained)


def test_a_run_on_the_processor_has_no_places_on_a_card(sdxl: Layer, header: Header):
    memory = {"memory": {"device": "cpu"}}
    split, adamw = costs(sdxl, header, **memory), costs(sdxl, header, optimizer={"kind": "adamw"}, **memory)
    assert split.optimizer == FACTORED and adamw.optimizer == 0
    assert adamw.host - split.host == 8 * UNET + 8 * TENSORS


def test_an_imported_optimizer_holds_the_whole_model_once_more(sdxl: Layer, header: Header):
    usual, cost = costs(sdxl, header), costs(sdxl, header, optimizer=IMPORTED)
    assert (cost.optimizer - usual.optimizer) / UNET == pytest.approx(12, abs=0.01)
    assert cost.checkpoint == 8 * UNET and cost.host == usual.host


def test_an_update_takes_pieces_and_one_master(sdxl: Layer, header: Header):
    """Where it is the most that comes and goes: at little pictures, no previews."""
    small = {"data": {"resolution": 64}, "preview": {"prompts": ()}}
    found = {
        master: costs(sdxl, header, optimizer={"master": master}, **small).activations
        for master in ("split", "fp32", "stochastic")
    }
    assert found == {
        "split": 6 * WIDEST + (128 << 20),
        "fp32": 128 << 20,
        "stochastic": 4 * WIDEST + (128 << 20),
    }


@pytest.mark.parametrize(
    ("train", "token_embedding", "learning", "chosen"),
    [
        ("first", "frozen", FIRST - EMBEDDING - UNREAD, FIRST),
        ("second", "frozen", SECOND - EMBEDDING_2, SECOND),
        ("both", "frozen", FIRST + SECOND - EMBEDDING - EMBEDDING_2 - UNREAD, FIRST + SECOND),
        ("both", "row_wise", FIRST + SECOND - UNREAD, FIRST + SECOND),
    ],
)
def test_text_encoders_that_learn_are_on_the_card_both(
    sdxl: Layer, header: Header, train: str, token_embedding: str, learning: int, chosen: int
):
    usual = costs(sdxl, header)
    cost = costs(sdxl, header, text_encoders={"train": train, "token_embedding": token_embedding})
    assert (cost.trained - usual.trained, cost.total - usual.total) == (learning, chosen)
    assert cost.weights - usual.weights == 2 * (FIRST + SECOND)
    widest = EMBEDDING_2 if token_embedding == "row_wise" else WIDEST  # the table of tokens is wider than any tensor
    assert cost.gradients - usual.gradients == 4 * learning + 2 * (widest - WIDEST)
    assert cost.host - usual.host == 2 * learning
    assert (cost.checkpoint - usual.checkpoint) / learning == pytest.approx(4, abs=0.02)
    assert cost.export == usual.export
    stored = {"text_encoders": {"train": train, "token_embedding": token_embedding}}
    fp32 = costs(sdxl, header, save={"export_precision": "fp32"}, **stored)
    assert fp32.export - usual.export == 2 * (UNET + learning)


def test_a_frozen_text_encoder_costs_nothing_while_it_trains(sdxl: Layer, header: Header):
    assert costs(sdxl, header, text_encoders={"token_embedding": "row_wise"}) == costs(sdxl, header)


def test_two_exports_take_twice_the_disk(sdxl: Layer, header: Header):
    one = costs(sdxl, header, ema={"decay": 0.99})
    both = costs(sdxl, header, ema={"decay": 0.99, "export": "both"})
    assert both.export == 2 * one.export and both.disk == one.disk + one.export
    assert costs(sdxl, header, ema={"export": "both"}).export == one.export
