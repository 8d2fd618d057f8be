"""The forecast against what torch measured on a card, and against what the texts promise."""

import math
import re
from pathlib import Path

import msgspec
import pytest

from engine.contract import calibration
from engine.contract.activations import blocks, share_kept
from engine.contract.budget import GIB, Forecast, forecast
from engine.contract.budget_stages import unit_sizes, widest_pair
from engine.contract.layers import Layer, read_layers, select
from engine.contract.learning_cost import export_bytes
from engine.contract.places import shipped_profiles_folder
from engine.contract.plans import Choice
from engine.contract.profile import load
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile
from engine.contract.unet_names import unet_names
from engine.memory.ring import SLOTS, Sizes
from tests.engine.sdxl import published

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def header() -> Header:
    return published()


@pytest.fixture(scope="module")
def sdxl(header: Header) -> Layer:
    return read_layers(header)


def whole(**memory: bool | int | str) -> Profile:
    profile = load(shipped_profiles_folder() / "whole-unet.toml")
    return msgspec.structs.replace(profile, memory=msgspec.structs.replace(profile.memory, **memory))


def under(plan: str, **memory: bool | int) -> Profile:
    profile = whole(plan=plan, **memory)
    return msgspec.structs.replace(profile, preview=msgspec.structs.replace(profile.preview, prompts=()))


def test_the_stage_major_plan_holds_two_neighbours_and_their_sums(sdxl: Layer, header: Header):
    """Figures of reference: six attentions of 350.84 M, each cut in two neighbours, of 2.57 B parameters."""
    units = unit_sizes(zip(sdxl.tensors, sdxl.sizes, strict=True))
    deep = [size for name, size in units.items() if name.endswith(("1/2", "2/2"))]
    assert len(deep) == 12 and sum(deep) == pytest.approx(6 * 350.84e6, rel=1e-4)
    assert sum(units.values()) == pytest.approx(2_567_463_684, rel=1e-4)
    pair = deep[0] + deep[1]
    assert max(deep) < 1.02 * min(deep) and widest_pair(units) == pair
    profile = under("stage-major", group=1)
    cost = forecast(profile, sdxl, frozenset(sdxl.tensors), header)
    assert (cost.weights, cost.gradients) == (2 * pair, 4 * pair)
    assert cost.optimizer == FACTORED  # what visits in an update comes to the same memory
    plain = forecast(whole(), sdxl, frozenset(sdxl.tensors), header)
    waiting = 0.268e9 * profile.train.accumulate * profile.train.batch_size
    assert cost.host - plain.host == pytest.approx(6 * 2_567_463_684 + waiting, rel=0.01)


def test_groups_have_smaller_units(sdxl: Layer, header: Header):
    """Of two blocks of 34.756 M each: memory for a pair, and its sums."""
    cost = forecast(under("stage-major", group=2), sdxl, frozenset(sdxl.tensors), header)
    block = 34.756e6
    assert cost.weights / 2 == cost.gradients / 4 == pytest.approx(4 * block, rel=0.03)


def test_units_of_a_selection_weigh_what_learns_of_them(sdxl: Layer, header: Header):
    trained = select(sdxl.tensors, ["mid_block.*"]).trained
    cost = forecast(under("stage-major", group=1), sdxl, trained, header)
    halves = [
        sum(
            size
            for name, size in zip(sdxl.tensors, sdxl.sizes, strict=True)
            if name in trained and any(p in name for p in parts)
        )
        for parts in (
            [*(f"transformer_blocks.{n}." for n in range(5)), "attentions.0.norm.", "attentions.0.proj_in"],
            [*(f"transformer_blocks.{n}." for n in range(5, 10)), "attentions.0.proj_out"],
        )
    ]
    assert cost.gradients == pytest.approx(4 * sum(halves), rel=1e-4)


def test_the_ring_holds_no_sum_but_those_of_small_tensors(sdxl: Layer, header: Header):
    fast, resident, plain = (
        forecast(under(plan, keep=keep), sdxl, frozenset(sdxl.tensors), header)
        for plan, keep in (("fast", 60), ("resident", 0), ("plain", 0))
    )
    small = sum(size for size in sdxl.sizes if size < 1 << 16)
    assert fast.gradients == resident.gradients == 4 * PAIR + 4 * small
    assert fast.host - plain.host == resident.host - plain.host == 4 * (UNET - small)
    assert plain.weights == fast.weights == resident.weights
    # 54 deep blocks of 70.5 MiB and 6 shallow ones of 140.5 keep them, less what all keep, their inputs of 2.5 and 5.
    kept = (54 * 68 + 6 * 135.5) * 2**20
    assert fast.activations - resident.activations == pytest.approx(kept - 64 * 2**20, rel=0.01)


def test_the_last_blocks_keep_first(sdxl: Layer, header: Header):
    def device(keep: int) -> int:
        return forecast(under("fast"), sdxl, frozenset(sdxl.tensors), header, Choice("fast", keep=keep)).device

    for keep, mib in ((4, 135.5), (7, 68), (67, 135.5)):  # up_blocks.1 at 64 x 64; up_blocks.0 at 32; down_blocks.1
        assert (device(keep) - device(keep - 1)) / 2**20 == pytest.approx(mib, rel=0.01)


def test_transformer_blocks_are_counted_in_the_order_of_execution(sdxl: Layer):
    every = blocks(sdxl)
    assert [block.depth for block in every] == [1] * 4 + [2] * 60 + [1] * 6
    assert every[24].name == "mid_block.attentions.0.transformer_blocks.0" and every[-1].channels == 640
    assert share_kept(every, 0) == 0 and share_kept(every, 70) == pytest.approx(1)


@pytest.mark.parametrize("file", ["README.md", "profiles/whole-unet.toml"])
def test_texts_name_the_memory_that_the_forecast_names(sdxl: Layer, header: Header, file: str):
    cost = forecast(whole(), sdxl, frozenset(sdxl.tensors), header)
    assert re.search(rf"about\s+(#\s+)?{math.ceil(cost.device / GIB)} GiB", (ROOT / file).read_text())


def test_texts_name_what_the_leanest_plan_takes(sdxl: Layer, header: Header):
    least = forecast(whole(), sdxl, frozenset(sdxl.tensors), header, Choice("stage-major", group=2))
    gib = math.ceil(least.device / GIB)
    assert f"{gib} GiB under the leanest" in (ROOT / "README.md").read_text()
    assert f"from {gib} GiB on" in (ROOT / "profiles/whole-unet.toml").read_text()


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


@pytest.mark.parametrize(
    ("optimizer", "bytes_each"),
    [
        ({"kind": "adamw"}, 8),
        ({"master": "fp32"}, 4),
        ({"momentum": 0.9}, 2),
        ({"kind": "adamw", "master": "fp32"}, 12),
    ],
)
def test_moments_and_an_fp32_master_have_room_of_their_own_under_stage_major(
    sdxl: Layer, header: Header, optimizer: dict, bytes_each: int
):
    """The plan lends its memory to weights, sums and the halves of a split master alone."""
    usual = under("stage-major", group=4)
    other = msgspec.structs.replace(usual, optimizer=msgspec.structs.replace(usual.optimizer, **optimizer))
    costs = [forecast(each, sdxl, frozenset(sdxl.tensors), header) for each in (usual, other)]
    factored = 0 if other.optimizer.kind == "adafactor" else FACTORED
    assert costs[1].optimizer - costs[0].optimizer == bytes_each * GROUPS - factored


# What other settings add to the usual run: Adafactor over a split master in bf16

WIDEST = 1280 * 2560 * 9  # up_blocks.0.resnets.0.conv1
PAIR = WIDEST + 1280 * 1280 * 9  # before it comes mid_block.resnets.1.conv2
# Before up_blocks.0.resnets.1.conv1, which is as wide, come the last matrices of an attention and the vectors behind.
GROUPS = WIDEST + 1280 * 5120 + 1280 * 1280 + 3 * 1280 + 2 * 2560
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
        # Bytes a parameter in host memory and in a checkpoint, bytes an element of the widest two groups on the card.
        ({"optimizer": {"master": "fp32"}}, 2, 2, 0),
        ({"optimizer": {"master": "stochastic"}}, -2, -2, 0),
        ({"optimizer": {"master": "nearest"}}, -2, -2, 0),
        ({"optimizer": {"momentum": 0.9}}, 2, 2, 2),
        ({"optimizer": {"kind": "adamw"}}, 8, 8, 8),
        ({"optimizer": {"kind": "adamw", "moments": "bf16", "momentum": 0.9}}, 4, 4, 4),
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
        assert cost.device - usual.device == device * GROUPS + factored - FACTORED


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


def test_the_rings_constants_are_the_forecasts():
    sizes = Sizes()
    theirs = SLOTS, 4 * sizes.chunk, sizes.pending, sizes.small
    ours = calibration.RING_SLOTS, calibration.RING_SLOT_BYTES, calibration.RING_PENDING, calibration.RING_SMALL
    assert theirs == ours
