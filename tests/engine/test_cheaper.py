"""Plans that make do with less memory in the middle of a run, and compute the same."""

from functools import partial

import pytest
import torch
from torch import Tensor

from engine.memory import shelf
from engine.memory.graphs import Recorder
from engine.memory.plain import PlainPlan
from engine.memory.plan import Plan
from engine.memory.ring_plan import RingPlan
from engine.memory.stage_major import StageMajorPlan
from engine.memory.streaming import Streamed
from engine.optim.adamw import AdamW, AdamWSettings
from engine.optim.slabs import Slabs
from tests.engine.tiny_sdxl import MIXED, SHORT, Again, names, sdxl_like, window

CPU = torch.device("cpu")


def ignore(*_: object) -> None:
    pass


def adamw(shapes, device) -> AdamW:
    return AdamW(shapes, AdamWSettings(), device)


def ring(keep: int, recorder: Recorder | None = None) -> RingPlan:
    net = sdxl_like(3)
    return RingPlan(net, names(net), adamw, keep=keep, recorder=recorder)


def staged(group: int, recorder: Recorder | None = None) -> StageMajorPlan:
    net = sdxl_like(3)
    return StageMajorPlan(net, names(net), adamw, device=CPU, group=group, recorder=recorder)


def on_the_host(staying: int) -> StageMajorPlan:
    net = sdxl_like(3)
    return StageMajorPlan(net, names(net), adamw, device=CPU, group=2, residency=partial(Streamed, staying=staying))


def weights(plan: Plan, *, cheaper_before: int | None) -> dict[str, Tensor]:
    """After two steps, of which one found too little memory in its middle."""
    for step in range(2):
        asked = window(SHORT[:2], seed=step)
        if step == cheaper_before:

            def full(asked=asked):
                yield asked[0]
                raise torch.OutOfMemoryError("CUDA out of memory")

            with pytest.raises(torch.OutOfMemoryError):
                plan.gradient(full(), ignore)
            assert plan.cheaper() is not None
        assert plan.gradient(iter(asked), ignore).sound
        plan.update(lambda _: 1e-3, max_grad_norm=1.0)
    return {name: tensor.clone() for name, tensor in plan.weights().items()}


@pytest.mark.parametrize(("keep", "recorded"), [(17, True), (1, False)])
def test_fewer_kept_blocks_are_the_same_numbers(keep: int, recorded: bool):
    recorder = Again() if recorded else None
    ours = weights(ring(keep, recorder), cheaper_before=1)
    theirs = weights(ring(keep), cheaper_before=None)
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("recorded", [False, True])
def test_smaller_groups_are_the_same_numbers_as_smaller_groups_from_the_start(recorded: bool):
    asked = [window([*MIXED[:1], *MIXED[:1], *MIXED[:1]], seed=seed) for seed in range(3)]
    plan, small = staged(2, Again() if recorded else None), staged(1)
    for seed in range(2):
        plan.gradient(iter(asked[seed]), ignore)
    assert plan.cheaper() == "group = 1"
    found = [each.gradient(iter(asked[2]), ignore) for each in (plan, small)]
    assert found[0] == found[1]
    for each in (plan, small):
        each.update(lambda _: 1e-3, max_grad_norm=0)
    ours, theirs = plan.weights(), small.weights()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_activations_go_to_the_host_before_groups_get_smaller():
    ours, theirs = on_the_host(staying=1 << 30), staged(2)
    assert weights(ours, cheaper_before=1).keys() == theirs.shapes.keys()
    expected = weights(theirs, cheaper_before=None)
    assert [name for name, tensor in ours.weights().items() if not torch.equal(tensor, expected[name])] == []
    assert on_the_host(staying=1 << 30).cheaper() == "all activations in host memory"
    assert on_the_host(staying=0).cheaper() == "group = 1"


def test_each_time_a_little_less_until_nothing_is_left():
    plan = ring(17)
    assert [plan.cheaper() for _ in range(3)] == ["keep = 7", 'plan = "resident"', None]
    assert [staged(8).cheaper(), staged(1).cheaper()] == ["group = 4", None]
    plan = staged(5)
    assert [plan.cheaper() for _ in range(3)] == ["group = 2", "group = 1", None]
    net = sdxl_like(2)
    assert PlainPlan(net, names(net), adamw).cheaper() is None


def test_smaller_groups_let_go_of_the_memory_of_larger_ones():
    plan = staged(4, Again())
    for seed in range(2):
        plan.gradient(window(MIXED[:1] * 4, seed=seed), ignore)
    before = sum(piece.numel() for piece in plan._work._arena._pieces.values())
    plan.cheaper()
    for seed in range(2):
        plan.gradient(window(MIXED[:1] * 4, seed=seed), ignore)
    assert 0 < sum(piece.numel() for piece in plan._work._arena._pieces.values()) <= before / 2


def test_of_a_picture_of_few_pixels_less_is_kept_at_once():
    net = sdxl_like(3)
    plan = RingPlan(net, names(net), adamw, keep=15, as_many=lambda keep, _: 17 if keep >= 5 else keep)
    plan.gradient(window(SHORT[:1]), ignore)
    assert plan._keeping == 17 and plan.cheaper() == 'plan = "resident"'  # with 5 it would still be 17
    plan.gradient(window(SHORT[:1]), ignore)
    assert plan._keeping == 0


def test_groups_that_never_came_are_not_halved_one_by_one():
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    for count, like in ((1, None), (3, "group = 1"), (4, "group = 2")):
        plan = staged(8)
        with pytest.raises(torch.OutOfMemoryError):
            plan.gradient(window([(1, 8, 8)] * count), full)
        assert plan.cheaper() == like  # a picture alone is no smaller in smaller groups


def test_memory_is_reserved_also_after_activations_went_to_the_host(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shelf, "SLAB", 1 << 16)
    net = sdxl_like(2)
    staying = partial(Streamed, staying=1 << 20)
    plan = StageMajorPlan(net, names(net), adamw, device=CPU, window=64, residency=staying)
    plan.gradient(window(MIXED[:1]), ignore)
    assert plan.cheaper() == "all activations in host memory"
    plan.reserve()
    memory = plan._residency.shelf._memory
    assert sum(map(len, memory._slabs)) >= 64 * memory._before > 0


def test_host_memory_that_is_refused_is_told_as_such(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(MemoryError, match=r"too little memory for 2\.0 GiB more"):
        Slabs(page_locked=False).empty(1 << 30, torch.bfloat16)
