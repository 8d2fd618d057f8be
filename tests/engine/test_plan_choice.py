"""Which plan is taken of those that fit."""

from dataclasses import replace

import msgspec
import pytest

from engine.contract.budget import GIB, Forecaster
from engine.contract.card_rates import Rates, rates_of
from engine.contract.layers import Layer, read_layers, select, tree
from engine.contract.places import shipped_profiles_folder
from engine.contract.plan_choice import NothingFitsError, Room, card_room, choose, on_processor
from engine.contract.plans import Choice, too_many_kept
from engine.contract.profile import load
from engine.contract.safetensors_header import Header
from engine.contract.sections import Memory, Profile
from engine.contract.time_forecast import step_seconds
from tests.engine.sdxl import published

FAST_CARD, COMMON_CARD = rates_of("NVIDIA H100 80GB HBM3"), rates_of("NVIDIA GeForce RTX 3060")


@pytest.fixture(scope="module")
def header() -> Header:
    return published()


@pytest.fixture(scope="module")
def sdxl(header: Header) -> Layer:
    return read_layers(header)


def whole(**memory: object) -> Profile:
    profile = load(shipped_profiles_folder() / "whole-unet.toml")
    return msgspec.structs.replace(
        profile,
        memory=msgspec.structs.replace(profile.memory, **memory),
        preview=msgspec.structs.replace(profile.preview, prompts=()),
    )


def forecaster(profile: Profile, sdxl: Layer, header: Header, *patterns: str) -> Forecaster:
    trained = select(sdxl.tensors, patterns or ("*",)).trained
    return Forecaster(profile, sdxl, trained, header)


@pytest.mark.parametrize("rates", [FAST_CARD, COMMON_CARD], ids=lambda rates: rates.card)
@pytest.mark.parametrize("gib", [4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 17, 20, 22, 24, 48])
def test_what_is_taken_fits_and_nothing_that_fits_is_much_faster(sdxl: Layer, header: Header, rates: Rates, gib: float):
    profile = whole()
    costs = forecaster(profile, sdxl, header)
    room = Room(round(gib * GIB))
    chosen = choose(profile, costs, room, rates)
    assert chosen.fits and chosen.cost.device <= room.card
    every = [
        *(Choice("plain", checkpointing=on) for on in (True, False)),
        *(Choice("fast", keep=keep) for keep in range(1, 71, 3)),
        *(Choice("stage-major", group=group) for group in range(1, 9)),
        Choice("resident"),
    ]
    fitting = [choice for choice in every if costs.under(choice).device <= room.card]
    fastest = min(step_seconds(profile, costs, choice, rates) for choice in fitting)
    assert chosen.step == step_seconds(profile, costs, chosen.choice, rates) <= 1.15 * fastest
    assert str(chosen.choice) in chosen.why and f"{gib:.1f} GiB" in chosen.why


@pytest.mark.parametrize(
    ("rates", "gib", "plan"),
    [
        (FAST_CARD, 80, Choice("plain", checkpointing=False)),
        (FAST_CARD, 12, Choice("stage-major", group=8)),  # the link is what a ring waits for
        (COMMON_CARD, 24, Choice("plain", checkpointing=False)),
        (COMMON_CARD, 16, Choice("fast", keep=70)),  # arithmetic decides: nothing is computed twice
        (COMMON_CARD, 3.2, Choice("stage-major", group=2)),  # nothing else fits
    ],
)
def test_what_is_fastest_depends_on_the_card(sdxl: Layer, header: Header, rates: Rates, gib: float, plan: Choice):
    profile = whole()
    taken = choose(profile, forecaster(profile, sdxl, header), Room(round(gib * GIB)), rates).choice
    assert replace(taken, staying=0) == plan


@pytest.mark.parametrize("gib", [4.3, 5, 6])
def test_what_is_left_of_the_card_takes_activations_unless_only_the_plan_was_named(
    sdxl: Layer, header: Header, gib: float
):
    taken = {}
    for memory in ({}, {"limit": gib}, {"plan": "stage-major", "limit": gib}, {"plan": "stage-major"}):
        profile = whole(group=4, **memory)
        profile = msgspec.structs.replace(profile, train=msgspec.structs.replace(profile.train, accumulate=4))
        costs = forecaster(profile, sdxl, header)
        chosen = choose(profile, costs, Room(round(gib * GIB)), FAST_CARD)
        assert chosen.fits and chosen.choice.plan == "stage-major"
        cost, bare = chosen.cost, costs.under(replace(chosen.choice, staying=0))
        assert cost.device - bare.device == chosen.choice.staying <= costs.waiting and cost.host == bare.host
        assert not chosen.choice.staying or cost.device + GIB // 4 <= round(gib * GIB)
        assert chosen.step <= step_seconds(profile, costs, bare.choice, FAST_CARD)
        taken[str(memory)] = chosen.choice.staying
    *filled, bare = taken.values()
    assert not bare and (gib < 5 or all(filled)) and (gib < 6 or min(filled) == costs.waiting)


def test_a_slow_link_speaks_against_the_ring(sdxl: Layer, header: Header):
    profile = whole()
    slow = Rates("c", 25.5e12, 306e9, 3.1e9, 3.1e9, 2.5e9)
    assert choose(profile, forecaster(profile, sdxl, header), Room(12 * GIB), slow).choice.plan == "stage-major"


def test_as_many_blocks_and_groups_are_taken_as_fit(sdxl: Layer, header: Header):
    for plan, name, one_more in (("fast", "keep", 1), ("stage-major", "group", 1)):
        profile = whole(plan=plan)
        costs = forecaster(profile, sdxl, header)
        room = Room(round((9.0 if plan == "fast" else 5.0) * GIB))
        taken = choose(profile, costs, room, COMMON_CARD).choice
        knob = getattr(taken, name)
        assert 1 < knob < 70 and costs.under(taken).device <= room.card
        assert costs.under(Choice(plan, **{name: knob + one_more})).device > room.card


def test_a_group_is_no_larger_than_the_window(sdxl: Layer, header: Header):
    profile = whole(plan="stage-major")
    profile = msgspec.structs.replace(profile, train=msgspec.structs.replace(profile.train, accumulate=3))
    assert choose(profile, forecaster(profile, sdxl, header), Room(80 * GIB), FAST_CARD).choice.group == 3


def test_a_written_group_is_no_larger_than_the_window_either(sdxl: Layer, header: Header):
    profile = whole(plan="stage-major", group=8)
    for accumulate in (1, 3):
        small = msgspec.structs.replace(profile, train=msgspec.structs.replace(profile.train, accumulate=accumulate))
        for room in (Room(80 * GIB), Room()):
            assert choose(small, forecaster(small, sdxl, header), room, FAST_CARD).choice.group == accumulate


@pytest.mark.parametrize("plan", ["auto", "stage-major"])
def test_where_a_group_of_two_does_not_fit_none_may(sdxl: Layer, header: Header, plan: str):
    profile = whole(plan=plan)
    profile = msgspec.structs.replace(profile, train=msgspec.structs.replace(profile.train, batch_size=16))
    costs = forecaster(profile, sdxl, header)
    one, two = (costs.under(Choice("stage-major", group=group)).device for group in (1, 2))
    assert one < two
    chosen = choose(profile, costs, Room((one + two) // 2), COMMON_CARD)
    assert chosen.fits and replace(chosen.choice, staying=0) == Choice("stage-major", group=1)
    if plan != "auto":
        assert choose(profile, costs, Room(GIB), COMMON_CARD).choice.group == 1  # in its cheapest form


def test_what_is_written_is_taken_as_written(sdxl: Layer, header: Header):
    for memory, expected in (
        ({"plan": "fast", "keep": 60}, Choice("fast", keep=60)),
        ({"plan": "stage-major", "group": 2}, Choice("stage-major", group=2)),
        ({"plan": "plain", "checkpointing": False}, Choice("plain", checkpointing=False)),
        ({"plan": "plain"}, Choice("plain", checkpointing=True)),
        ({"plan": "resident"}, Choice("resident")),
    ):
        profile = whole(**memory)
        assert choose(profile, forecaster(profile, sdxl, header), Room(48 * GIB), COMMON_CARD).choice == expected


def test_without_checkpointing_auto_takes_no_plain_plan_that_needs_it(sdxl: Layer, header: Header):
    room = Room(18 * GIB)
    slow = Rates("c", 25.5e12, 306e9, 0.4e9, 0.4e9, 0.3e9)  # a link over which nothing should go
    for allowed, plan in ((True, "plain"), (False, "stage-major")):
        profile = whole(checkpointing=allowed)
        assert choose(profile, forecaster(profile, sdxl, header), room, slow).choice.plan == plan


def test_if_nothing_fits_each_plan_is_listed_with_what_it_needs(sdxl: Layer, header: Header):
    profile = whole()
    costs = forecaster(profile, sdxl, header)
    with pytest.raises(NothingFitsError) as caught:
        choose(profile, costs, Room(2 * GIB), COMMON_CARD)
    said = str(caught.value)
    assert said.startswith("no plan fits the 2.0 GiB of the card")
    for choice in (
        Choice("plain", checkpointing=True),
        Choice("plain", checkpointing=False),
        Choice("fast", keep=1),
        Choice("resident"),
        Choice("stage-major", group=2),
    ):
        assert f"{choice} needs {costs.under(choice).device / GIB:.1f} GiB" in said


def test_a_named_plan_that_does_not_fit_is_tried_in_its_cheapest_form(sdxl: Layer, header: Header):
    for plan, form in (("fast", Choice("fast", keep=1)), ("stage-major", Choice("stage-major", group=2))):
        profile = whole(plan=plan)
        chosen = choose(profile, forecaster(profile, sdxl, header), Room(2 * GIB), COMMON_CARD)
        assert chosen.choice == form and not chosen.fits and "the run may use 2.0" in chosen.why


def test_little_host_memory_leaves_the_plain_plan(sdxl: Layer, header: Header):
    profile = whole()
    costs = forecaster(profile, sdxl, header)
    assert choose(profile, costs, Room(18 * GIB, 64 * GIB), COMMON_CARD).choice.plan == "fast"
    assert choose(profile, costs, Room(18 * GIB, 12 * GIB), COMMON_CARD).choice.plan == "plain"
    with pytest.raises(NothingFitsError, match=r"and 16\.\d of host memory"):
        choose(profile, costs, Room(12 * GIB, 12 * GIB), COMMON_CARD)


def test_what_to_do_goes_by_what_was_short_and_what_is_written(sdxl: Layer, header: Header):
    def refused(room: Room, **memory: object) -> str:
        profile = whole(**memory)
        with pytest.raises(NothingFitsError) as caught:
            choose(profile, forecaster(profile, sdxl, header), room, COMMON_CARD)
        return caught.value.remedy

    card = refused(Room(2 * GIB, 64 * GIB))
    assert "tried whatever the forecast says" in card and "train.batch_size" in card
    assert "memory.limit" not in card and "host memory" not in card and "auto" not in card
    assert "Raise memory.limit" in refused(Room(2 * GIB), limit=2.0)
    host = refused(Room(48 * GIB, GIB))
    assert "optimizer.master" in host and "train.accumulate" in host and "auto" not in host
    assert "on the card" not in host and "whatever the forecast" not in host
    both = refused(Room(12 * GIB, 12 * GIB))  # plain lacks the card, the others lack the host
    assert "on the card" in both and "optimizer.master" in both

    profile = whole(plan="plain")
    tight = choose(profile, forecaster(profile, sdxl, header), Room(2 * GIB, 64 * GIB), COMMON_CARD)
    assert 'plan = "auto"' in tight.remedy and "optimizer.master" not in tight.remedy


def test_the_time_of_groups_is_said_to_be_that_of_full_ones(sdxl: Layer, header: Header):
    for group, said in ((4, True), (1, False)):
        profile = whole(plan="stage-major", group=group)
        why = choose(profile, forecaster(profile, sdxl, header), Room(48 * GIB), COMMON_CARD).why
        assert ("with full groups" in why) == said


def test_a_selection_of_layers_needs_less(sdxl: Layer, header: Header):
    profile = whole()
    room = Room(16 * GIB)
    assert choose(profile, forecaster(profile, sdxl, header), room, COMMON_CARD).choice.plan == "fast"
    costs = forecaster(profile, sdxl, header, "mid_block.*")
    assert choose(profile, costs, room, COMMON_CARD).choice.plan == "plain"


def test_without_a_card_the_profile_alone_speaks(sdxl: Layer, header: Header):
    profile = whole()
    chosen = choose(profile, forecaster(profile, sdxl, header), Room(), COMMON_CARD)
    assert chosen.choice == Choice("plain", checkpointing=True) and chosen.step is None
    assert on_processor(whole(plan="fast"), 70) == Choice("fast", keep=70)
    assert on_processor(whole(plan="fast", keep=5), 70) == Choice("fast", keep=5)
    assert on_processor(whole(plan="stage-major"), 70).group == 2


def test_half_a_gib_of_what_is_free_is_left_and_a_limit_holds():
    assert card_room(Memory(), 12 * GIB) == round(11.5 * GIB)
    assert card_room(Memory(limit=8.0), 12 * GIB) == 8 * GIB
    assert card_room(Memory(limit=24.0), 12 * GIB) == 12 * GIB


def test_fast_without_transformer_blocks_is_told_by_its_field_and_costs_what_resident_does(sdxl: Layer, header: Header):
    bare = tree(
        (name, size) for name, size in zip(sdxl.tensors, sdxl.sizes, strict=True) if "transformer_blocks" not in name
    )
    profile = whole(plan="fast")
    costs = Forecaster(profile, bare, frozenset(bare.tensors), header)
    assert choose(profile, costs, Room(80 * GIB), FAST_CARD).choice == Choice("resident")
    problem = too_many_kept(profile, len(costs.blocks))
    assert problem is not None and problem.path == "memory.plan" and "no transformer blocks" in problem.text


def test_what_stays_on_the_card_is_said(sdxl: Layer, header: Header):
    profile = whole(plan="stage-major", group=4, limit=5.0)
    chosen = choose(profile, forecaster(profile, sdxl, header), Room(5 * GIB), FAST_CARD)
    assert chosen.choice.staying and "of it for activations that stay on the card" in chosen.why
    profile = whole(plan="stage-major", group=4)
    assert "stay" not in choose(profile, forecaster(profile, sdxl, header), Room(5 * GIB), FAST_CARD).why
