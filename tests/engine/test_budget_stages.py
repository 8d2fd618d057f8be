"""The forecast's units are the plan's."""

import pytest

from engine.contract import budget_stages
from engine.contract.budget_stages import together, unit_sizes, widest_pair
from engine.contract.layers import tree
from engine.memory.stage_major import DEEPEST, DEEPEST_GROUPED
from engine.memory.units import cut
from engine.optim.hosted import ALIGNED, aligned
from tests.engine.tiny_sdxl import sdxl_like


@pytest.mark.parametrize(("levels", "deepest"), [(2, 5), (3, 1), (3, 2)])
def test_units_have_the_plans_names_order_and_sizes(levels: int, deepest: int):
    unet = sdxl_like(levels)
    root = tree((name, parameter.numel()) for name, parameter in unet.named_parameters())
    ours = unit_sizes(zip(root.tensors, root.sizes, strict=True), deepest=deepest)
    theirs = {
        unit: sum(aligned(parameter.numel()) for _, parameter in parameters)
        for unit, parameters in cut(unet, deepest=deepest).parameters().items()
    }
    assert list(ours.items()) == list(theirs.items())


def test_the_constants_are_the_plans():
    ours = budget_stages.DEEPEST, budget_stages.DEEPEST_GROUPED, budget_stages.ALIGNED
    assert ours == (DEEPEST, DEEPEST_GROUPED, ALIGNED)


def test_neighbours_are_counted_together():
    assert widest_pair({"a": 5, "b": 1, "c": 4, "d": 3}) == 7
    assert widest_pair({"a": 5}) == 5 and widest_pair({}) == 0


def test_only_what_is_counted_weighs():
    sizes = [("conv_in.weight", 300), ("conv_in.bias", 10), ("conv_out.bias", 4)]
    assert unit_sizes(sizes, {"conv_in.bias"}) == {"embeddings": 0, "conv_in": 256, "out": 0}


def test_neighbours_go_together_as_far_as_there_is_room_for_them():
    assert together([100, 100, 700, 5000, 1, 256, 256], most=1024) == [256 + 100, 700, 5000, 512 + 256]
    assert together([], most=1024) == [] and together([2000], most=1024) == [2000]
