"""The ring plan against the plain plan, bit for bit; and the ring itself on lanes that are as late as they may be."""

import gc
import math
import weakref
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from engine.contract.sections import Ema
from engine.contract.sections import TextEncoders as TextSettings
from engine.memory import chunks
from engine.memory.chunks import lay_out
from engine.memory.micro_step import predict
from engine.memory.plain import PlainPlan
from engine.memory.plan import Judged, Plan, global_norm
from engine.memory.recompute import transformer_blocks
from engine.memory.ring import Ring, Sizes
from engine.memory.ring_plan import RingPlan
from engine.model.conditioner import trainable
from engine.optim.adamw import AdamW, AdamWSettings
from engine.optim.hosted import aligned
from engine.optim.slabs import Slabs
from tests.engine.late_lanes import LateLanes
from tests.engine.summing import Noting, sums
from tests.engine.tiny_sdxl import MIXED, SHORT, names, sdxl_like, window
from tests.golden.tiny_text import tiny_conditioner

CPU = torch.device("cpu")
# Tensors of several chunks, several of which are on their way; and hardly a gradient may wait.
SPLIT = Sizes(chunk=256, small=100, pending=4096)
WHOLE = Sizes(small=100)
SAMPLES = sum(size for size, *_ in MIXED)


class Stopped(Exception):
    pass


def adamw(shapes, device) -> AdamW:
    return AdamW(shapes, AdamWSettings(), device)


def late(seed: int | None) -> partial[LateLanes]:
    return partial(LateLanes, seed=seed)


def ring_plan(unet, trained=None, optimizer=Noting, *, keep=1, sizes=WHOLE, seed=None, **options) -> RingPlan:
    ring = partial(Ring, sizes=sizes, lanes=late(seed))
    return RingPlan(unet, names(unet) if trained is None else trained, optimizer, keep=keep, ring=ring, **options)


def plain(unet, trained=None, optimizer=Noting, **options) -> PlainPlan:
    return PlainPlan(unet, names(unet) if trained is None else trained, optimizer, **options)


def ignore(*_: object) -> None:
    pass


def differing(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    assert ours.keys() == theirs.keys()
    return [name for name in theirs if not torch.equal(ours[name], theirs[name])]


def compare(ours: RingPlan, theirs: PlainPlan, asked: Sequence[Judged]) -> None:
    answers = [plan.gradient(iter(asked), ignore) for plan in (ours, theirs)]
    assert answers[0].losses == answers[1].losses and answers[0].sound
    # The norm is taken in other pieces.
    assert answers[0].grad_norm == pytest.approx(answers[1].grad_norm, rel=1e-12) and answers[0].grad_norm > 0
    samples = len(answers[0].losses)
    assert differing(sums(ours, samples), sums(theirs, samples)) == []


# The gradient


@pytest.mark.parametrize("keep", [0, 1, 17])
def test_losses_norm_and_sums_are_the_plain_plans_bit_for_bit(keep: int):
    ours, theirs = ring_plan(sdxl_like(3), keep=keep), plain(sdxl_like(3))
    for seed in range(2):
        compare(ours, theirs, window(seed=seed))
    assert ours.name == ("fast" if keep else "resident")


def test_a_smaller_picture_lets_more_blocks_keep_their_activations():
    net, asked = sdxl_like(3), window(MIXED)
    every = transformer_blocks(net)
    plan = ring_plan(net, keep=1, as_many=lambda keep, shape: len(every) if shape[0] == 1 else keep)
    done: list[nn.Module] = []
    for block in every:
        block.register_forward_pre_hook(lambda block, _: done.append(block))
    counts = []
    plan.gradient(asked, lambda *_: None)
    for each in asked:
        done.clear()
        plan.gradient([each], ignore)
        counts.append(len(done))
    assert counts == [len(every) if size == 1 else 2 * len(every) - 1 for size, *_ in MIXED]
    compare(plan, plain(sdxl_like(3)), asked)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("small", [1, 100, 1 << 16])
def test_sums_in_chunks_are_the_plain_plans_bit_for_bit(dtype: torch.dtype, small: int):
    sizes = Sizes(chunk=256, small=small, pending=4096)
    ours, theirs = ring_plan(sdxl_like(2, dtype), sizes=sizes), plain(sdxl_like(2, dtype))
    for seed in range(2):
        compare(ours, theirs, window(SHORT, seed=seed))


def test_a_float64_network_has_float64_sums():
    """Added up here, micro-batch by micro-batch, in gradients that autograd gives as a whole."""
    net = sdxl_like(3, torch.float64)
    total = {name: torch.zeros_like(parameter) for name, parameter in net.named_parameters()}
    losses: list[float] = []
    for asked in window():
        each = asked.losses(predict(net, asked.micro))
        losses += each.tolist()
        for sum_, gradient in zip(total.values(), torch.autograd.grad(each.sum(), [*net.parameters()]), strict=True):
            sum_ += gradient
    plan = ring_plan(sdxl_like(3, torch.float64), keep=3, master="nearest")
    answer = plan.gradient(window(), ignore)
    assert answer.losses == tuple(losses) and answer.grad_norm == pytest.approx(global_norm(total.values()) / SAMPLES)
    ours = sums(plan, SAMPLES)
    assert differing(ours, total) == [] and ours["conv_in.weight"].dtype == torch.float64


@pytest.mark.parametrize("part", ["mid_block", "attn2", "conv_out.bias", "time_embedding", "down_blocks.1.resnets"])
def test_a_selection_is_the_plain_plans(part: str):
    trained = frozenset(name for name in names(sdxl_like(2)) if part in name)
    ours, theirs = ring_plan(sdxl_like(2), trained, sizes=SPLIT), plain(sdxl_like(2), trained)
    for plan in (ours, theirs):
        assert plan.gradient(window(SHORT), ignore).sound
    assert differing(sums(ours, 4), sums(theirs, 4)) == []


def test_who_rests_is_left_out_and_comes_back():
    ours, theirs = ring_plan(sdxl_like(2)), plain(sdxl_like(2))
    some = frozenset(name for name in names(sdxl_like(2)) if "attn" in name)
    for seed, resting in enumerate((frozenset(), some, frozenset())):
        for plan in (ours, theirs):
            plan.rest(resting)
        compare(ours, theirs, window(SHORT, seed=seed))


@pytest.mark.parametrize("order", ["both", "tokens last", "tokens first"])
def test_trained_text_encoders_are_the_plain_plans(order: str):
    """Also where not every micro-batch reaches them: their first gradient comes late, or their last one early."""
    asked = window(SHORT, tokens=True)
    if order != "both":
        asked[1:1] = window(SHORT, seed=1)
        asked = asked[1:] if order == "tokens last" else asked[:-1]
        asked = asked if order == "tokens last" else [*asked, *window(SHORT[:1], seed=2)]
    plans: list[Plan] = []
    for make in (ring_plan, plain):
        net, conditioner = sdxl_like(2), tiny_conditioner()
        text = trainable(conditioner, TextSettings(train="both", token_embedding="row_wise"))
        plans.append(make(net, names(net) | text, conditioner=conditioner))
    compare(*plans, asked)


def test_what_no_gradient_reaches_is_zeros_not_what_an_earlier_window_left():
    for small in (1, 1 << 16):
        net, conditioner = sdxl_like(2), tiny_conditioner()
        text = trainable(conditioner, TextSettings(train="both", token_embedding="row_wise"))
        plan = ring_plan(net, names(net) | text, conditioner=conditioner, sizes=Sizes(small=small))
        plan.gradient(window(SHORT, tokens=True), ignore)
        reached = sums(plan, 4)
        assert sum(bool(reached[name].any()) for name in text) > len(text) / 2
        answer = plan.gradient(window(SHORT), ignore)
        left = sums(plan, 4)
        assert not any(left[name].any() for name in text)
        assert answer.grad_norm == pytest.approx(global_norm(left.values()) / 4, rel=1e-12)


# The window


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_sample_never_goes_backward_and_the_others_still_have_their_losses(at: int, bad: float):
    asked = [*window(SHORT, seed=1)]
    asked[at] = window([SHORT[at]], scale=bad)[0]
    plan, never = ring_plan(sdxl_like(2)), plain(sdxl_like(2))
    seen: list[int] = []
    answer = plan.gradient(asked, lambda index, each: seen.append(index) if not each.requires_grad else None)
    expected = never.gradient(asked, ignore)
    assert not answer.sound and str(answer.losses) == str(expected.losses) and math.isnan(answer.grad_norm)
    assert seen == [0, 1, 2]
    with pytest.raises(AssertionError):
        plan.update(lambda _: 1.0, max_grad_norm=0.0)
    compare(plan, never, window(SHORT))
    assert all(parameter.grad is None for parameter in plan._unet.parameters())


@pytest.mark.parametrize("seed", [None, 1])
def test_a_discarded_window_leaves_no_trace(seed: int | None):
    def give_up(index: int, _: Tensor) -> None:
        if index == 1:
            raise Stopped

    plan = ring_plan(sdxl_like(2), sizes=SPLIT, seed=seed)
    for _ in range(2):
        with pytest.raises(Stopped):
            plan.gradient(window(seed=3, scale=100.0), give_up)
    theirs = plain(sdxl_like(2))
    for each in (plan, theirs):
        each.gradient(window(), ignore)
    assert differing(sums(plan, SAMPLES), sums(theirs, SAMPLES)) == []


def test_what_fails_in_the_middle_of_a_backward_pass_leaves_no_trace():
    plan, theirs = ring_plan(sdxl_like(2), sizes=SPLIT), plain(sdxl_like(2))

    def fail(_: Tensor) -> None:
        raise Stopped

    hook = plan._unet.mid_block.resnets[0].conv1.weight.register_hook(fail)
    with pytest.raises(Stopped):
        plan.gradient(window(), ignore)
    hook.remove()
    for each in (plan, theirs):
        each.gradient(window(), ignore)
    assert differing(sums(plan, SAMPLES), sums(theirs, SAMPLES)) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_is_the_plain_plans_bit_for_bit(dtype: torch.dtype):
    options = {"optimizer": adamw, "ema": Ema(decay=0.5)}
    ours = ring_plan(sdxl_like(2, dtype), keep=2, **options)
    theirs = plain(sdxl_like(2, dtype), **options)
    for seed in range(3):
        written = []
        for plan in (ours, theirs):
            assert plan.gradient(window(SHORT, seed=seed), ignore).sound
            written.append(plan.update(lambda _: 1e-3, max_grad_norm=0.01, damping=0.7))
        assert written[0] == written[1] and written[0].clipped
    assert differing(dict(ours.weights()), dict(theirs.weights())) == []
    assert differing(dict(ours.averages()), dict(theirs.averages())) == []
    asked = window(SHORT)[0].micro
    assert torch.equal(ours.predict(asked), theirs.predict(asked)) and not ours.predict(asked).requires_grad


def test_a_plan_that_is_dropped_gives_its_memory_back():
    net = sdxl_like(2)
    plan = ring_plan(net)
    plan.gradient(window(SHORT), ignore)
    gone, ring = weakref.ref(plan), weakref.ref(plan._ring)
    del plan
    gc.collect()
    assert gone() is None and ring() is None and isinstance(net, nn.Module)


# The ring


SHAPES = {"a": (40, 50), "b": (7,), "c": (300,), "d": (3, 17, 3, 3), "e": (1, 1), "f": (1111,), "g": (256,)}


class Fed:
    """Feeds a ring with gradients, some stored the other way round, and their memory at once with something else."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.expected: dict[str, Tensor] = {}

    def micro(self, seed: int, *, last: bool, without: Sequence[str] = ()) -> None:
        draw = torch.Generator().manual_seed(seed)
        made = []
        with self.ring.backward(last=last):
            for name, shape in reversed(SHAPES.items()):
                gradient = torch.randn(shape, generator=draw)
                if name in without:
                    continue
                expected = self.expected.get(name)
                self.expected[name] = gradient.clone() if expected is None else expected + gradient
                made.append(_other_way_round(gradient) if name == "d" else gradient)
                self.ring.collect(name, made[-1])
                # Of what the ring has let go the memory is the computation's again, and so is that of what it copied.
                held = {gradient.data_ptr() for gradient, _ in self.ring._pending}
                for gradient in made:
                    _ = gradient.data_ptr() in held or gradient.fill_(torch.nan)
        for gradient in made:
            gradient.fill_(torch.nan)


def _other_way_round(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("pending", [0, 3000, 1 << 20])
@pytest.mark.parametrize("seed", [None, *range(8)])
def test_however_late_the_lanes_are_the_sums_are_exact(seed: int | None, pending: int):
    sizes = Sizes(chunk=256, small=10, pending=pending)
    shapes = {name: torch.Size(shape) for name, shape in SHAPES.items()}
    ring = Ring(shapes, torch.float32, CPU, sizes=sizes, lanes=late(seed))
    for round_ in range(3):
        fed = Fed(ring)
        with ring.window(shapes):
            fed.micro(10 * round_, last=False, without="c")
            fed.micro(10 * round_ + 1, last=False)
            fed.micro(10 * round_ + 2, last=True, without="af")
            assert ring.norm() == pytest.approx(global_norm(fed.expected.values()), rel=1e-12)
        after = ring.after(shapes)
        assert list(after) == ["a", "c", "d", "f"] and after["a"] == "c"
        for name, expected in fed.expected.items():
            got = ring.sum(name, after.get(name))
            assert torch.equal(got, expected), name
            got.fill_(torch.nan)
        # As often as they are asked for, in any order, and whatever is on its way.
        for name, then in (("f", "a"), ("c", "f"), ("f", None), ("d", "a"), ("a", "c"), ("a", "d")):
            assert torch.equal(ring.sum(name, then), fed.expected[name])
        ring.settle()


@pytest.mark.parametrize("seed", [None, 0])
def test_a_sum_is_read_as_it_rests_however_often_and_whatever_was_done_to_what_was_read(seed: int | None):
    ring = Ring({"a": torch.Size((300,)), "b": torch.Size((500,))}, torch.float32, CPU, sizes=SPLIT, lanes=late(seed))
    for value in (1.0, 2.0):
        with ring.window("ab"):
            for _ in range(2):
                with ring.backward(last=False):  # nobody knew that it was the last
                    ring.collect("a", torch.full((300,), value))
                    ring.collect("b", torch.full((500,), 3 * value))
            assert ring.norm() == pytest.approx(2 * value * (300 + 9 * 500) ** 0.5)
        for name, then in (("a", None), ("b", None), ("a", "b"), ("b", "a")):
            got = ring.sum(name, then)
            assert bool((got == value * (2 if name == "a" else 6)).all())
            got.fill_(torch.nan)
        ring.settle()


def test_a_tensor_that_has_two_gradients_in_one_pass_is_a_fault_that_shows():
    ring = Ring({"a": torch.Size((300,))}, torch.float32, CPU, sizes=SPLIT)
    with pytest.raises(AssertionError, match="two gradients"), ring.window("a"), ring.backward(last=True):
        for _ in range(2):
            ring.collect("a", torch.ones(300))


def test_slots_and_places_are_the_same_memory():
    """Four slots of the greatest chunk, or the widest two neighbours, whichever is more; nothing is paid twice."""
    for shape, elements in (((1000, 1000), 2_000_384), ((300,), 2048), ((3,), 1024)):
        ring = Ring(dict.fromkeys("ab", torch.Size(shape)), torch.float32, CPU, sizes=Sizes(chunk=4096, small=100))
        places = [*(slot.memory for slot in ring._slots), *(place.end.memory for place in ring._places)]
        assert {part.untyped_storage().nbytes() for part in places} == {4 * elements}
        assert len({part.untyped_storage().data_ptr() for part in places}) == 1 and len(ring._slots) >= 4


@pytest.mark.parametrize("order", ["abc", "cba", "acb", "bac", "aca"])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_sums_that_have_no_room_beside_each_other_come_one_after_another(order: str, seed: int | None):
    shapes = {"a": torch.Size([5000]), "b": torch.Size([300]), "c": torch.Size([5000])}
    ring = Ring(shapes, torch.float32, CPU, sizes=Sizes(chunk=256, small=1, pending=0), lanes=late(seed))
    assert len(ring._places[0].end.memory) == aligned(5000) + aligned(300)
    given = {name: torch.randn(shape) for name, shape in shapes.items()}
    with ring.window("abc"), ring.backward(last=True):
        for name, gradient in given.items():
            ring.collect(name, gradient.clone())
    ring.norm()
    for name, then in pairwise([*order, None]):
        got = ring.sum(name, then)
        assert torch.equal(got, given[name])
        got.fill_(-1.0)
    ring.settle()


# The layout


def test_chunks_cover_every_element_once_and_cross_no_slabs_edge():
    sizes = {"a": 1000, "b": 1, "c": 5000, "d": 256, "e": 2048}
    spans = lay_out(sizes, slab=2048, chunk=512)
    taken: set[tuple[int, int]] = set()
    for name, size in sizes.items():
        assert [span.start for span in spans[name]] == [0, *(span.stop for span in spans[name][:-1])]
        assert spans[name][-1].stop == size and spans[name][0].at % 256 == 0
        for span in spans[name]:
            assert 0 < span.stop - span.start <= 512 and span.at + span.stop - span.start <= 2048
            elements = {(span.slab, span.at + at) for at in range(span.stop - span.start)}
            assert not elements & taken
            taken |= elements
    assert len(taken) == sum(sizes.values())
    # A tensor goes on in the next slab where one ends.
    assert {span.slab for span in spans["c"]} == {0, 1, 2, 3}


def test_sums_over_several_slabs_are_exact(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunks, "SLAB", 1024 * 4)
    ours, theirs = ring_plan(sdxl_like(2)), plain(sdxl_like(2))
    assert len({each.resting.untyped_storage().data_ptr() for part in ours._ring._chunks.values() for each in part}) > 9
    for plan in (ours, theirs):
        plan.gradient(window(), ignore)
    assert differing(sums(ours, SAMPLES), sums(theirs, SAMPLES)) == []


def test_where_page_locking_is_refused_memory_is_pageable(monkeypatch: pytest.MonkeyPatch):
    """Of a machine with so many pages to lock as one slab has."""
    granted: list[int] = []
    plainly = {make: getattr(torch, make) for make in ("empty", "zeros")}

    def refusing(make: str, size: int, *, dtype: torch.dtype, pin_memory: bool = False) -> Tensor:
        if pin_memory:
            if granted:
                raise RuntimeError("CUDA error: out of memory")
            granted.append(size)
        return plainly[make](size, dtype=dtype)

    for make in plainly:
        monkeypatch.setattr(torch, make, partial(refusing, make))
    slabs = Slabs(page_locked=True)
    assert len(slabs.empty(7, torch.float32)) == 7 and slabs.page_locked
    assert not slabs.zeros(5, torch.int16).any() and not slabs.page_locked
    assert len(slabs.empty(3, torch.uint8)) == 3 and granted == [7]
