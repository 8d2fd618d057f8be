"""The stage-major plan against autograd itself in float64 and against the plain plan: what moves, and when, is no part
of the mathematics."""

import gc
import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from engine.contract.sections import Ema
from engine.contract.sections import TextEncoders as TextSettings
from engine.memory.groups import grouped
from engine.memory.micro_step import predict
from engine.memory.plain import PlainPlan
from engine.memory.plan import Judged
from engine.memory.stage_major import StageMajorPlan
from engine.memory.streaming import Residency
from engine.model.conditioner import Conditioner, trainable
from engine.optim.adamw import AdamW, AdamWSettings
from engine.optim.imported import Imported
from tests.engine.tiny_sdxl import MIXED, SHORT, Card, micro, names, relative, sdxl_like, window
from tests.golden.tiny_text import tiny_conditioner

CPU = torch.device("cpu")


class Stopped(Exception):
    pass


class Clock:
    """Raises at the tick number `last`."""

    ticks, last = 0, -1

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks == self.last:
            raise Stopped


def adamw(shapes, device) -> AdamW:
    return AdamW(shapes, AdamWSettings(), device)


def sgd(shapes, device) -> Imported:
    return Imported("torch.optim.SGD", {}, shapes, device, learning_rate=1.0)


def streamed(units, trained, device) -> Residency:
    return Card(units, trained, device)


def stage_major(unet, trained=None, optimizer=adamw, **options) -> StageMajorPlan:
    return StageMajorPlan(unet, names(unet) if trained is None else trained, optimizer, device=CPU, **options)


def plain(unet, trained=None, optimizer=adamw, **options) -> PlainPlan:
    return PlainPlan(unet, names(unet) if trained is None else trained, optimizer, **options)


def ignore(*_: object) -> None:
    pass


def at(lr: float) -> Callable[[str], float]:
    return lambda name: lr


def summed(plan: StageMajorPlan) -> dict[str, Tensor]:
    """A window's sums, as the update would read them."""
    return {name: plan._residency.sum(name, None).clone() for name in plan._learner.learning()}


def by_autograd(unet, trained, asked: list[Judged], conditioner=None) -> dict[str, Tensor]:
    """The sums of one graph over the whole window, in the network's own dtype."""
    parameters = dict(unet.named_parameters()) | (dict(conditioner.named_parameters()) if conditioner else {})
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
    torch.stack([each.losses(predict(unet, each.micro, conditioner)).sum() for each in asked]).sum().backward()
    gradients = {name: parameters[name].grad for name in parameters if name in trained}
    return {name: torch.zeros(()) if gradient is None else gradient for name, gradient in gradients.items()}


# The gradient


@pytest.mark.parametrize(("levels", "group", "deepest"), [(2, 1, 0), (2, 3, 0), (3, 1, 1), (3, 3, 0), (3, 3, 1)])
def test_in_float64_the_gradient_is_that_of_autograd(levels: int, group: int, deepest: int):
    expected = by_autograd(net := sdxl_like(levels, torch.float64), names(net), window())
    plan = stage_major(sdxl_like(levels, torch.float64), master="nearest", group=group, deepest=deepest)
    answer = plan.gradient(window(), ignore)
    assert relative(summed(plan), expected) <= 1e-12
    mean = torch.cat([gradient.flatten() for gradient in expected.values()]).norm() / sum(size for size, *_ in MIXED)
    assert answer.sound and answer.grad_norm == pytest.approx(float(mean), rel=1e-12)


SELECTIONS: dict[str, Callable[[str], bool]] = {
    "middle": lambda name: name.startswith("mid_block"),
    "up": lambda name: name.startswith("up_blocks"),
    "embeddings": lambda name: name.startswith(("time_embedding", "add_embedding")),
    "conv_in": lambda name: name.startswith("conv_in"),
    "a bias of the end": lambda name: name == "conv_out.bias",
    "a bias in between": lambda name: name == "down_blocks.1.attentions.0.proj_in.bias",
    "a skip's unit": lambda name: name.startswith("down_blocks.0.downsamplers"),
    "here and there": lambda name: "attn2" in name or name.startswith("conv_in") or "conv_shortcut" in name,
}


@pytest.fixture(scope="module")
def whole_gradient() -> dict[str, Tensor]:
    net = sdxl_like(2, torch.float64)
    return by_autograd(net, names(net), window(SHORT))


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_selection_has_the_gradient_it_has_among_all(selection: str, whole_gradient: dict[str, Tensor]):
    net = sdxl_like(2, torch.float64)
    trained = frozenset(filter(SELECTIONS[selection], names(net)))
    plan = stage_major(net, trained, master="nearest", group=2)
    plan.gradient(window(SHORT), ignore)
    assert trained and relative(summed(plan), {name: whole_gradient[name] for name in trained}) <= 1e-12


@dataclass
class Backward:
    """Counts, by module, how often a backward pass went into it."""

    counts: dict[str, int]

    @classmethod
    def watching(cls, unet: nn.Module) -> "Backward":
        counts: dict[str, int] = {}

        def count(name: str) -> Callable[[Tensor], Tensor]:
            def note(gradient: Tensor) -> Tensor:
                counts[name] = counts.get(name, 0) + 1
                return gradient

            return note

        for name, module in unet.named_modules():
            if type(module).__name__ in ("ResnetBlock2D", "BasicTransformerBlock", "Conv2d", "TimestepEmbedding"):

                def hook(_: object, __: object, output: object, name: str = name) -> None:
                    tensor = output[0] if isinstance(output, tuple) else output
                    if isinstance(tensor, Tensor) and tensor.requires_grad:
                        tensor.register_hook(count(name))

                module.register_forward_hook(hook)
        return cls(counts)


@pytest.mark.parametrize(
    ("trained", "lowest", "below"),
    [
        (
            "up_blocks.0.attentions.0.norm.bias",
            "up_blocks.0.attentions.0.transformer_blocks.0",
            "up_blocks.0.resnets.0",
        ),
        ("time_embedding.linear_1.bias", "down_blocks.0.resnets.0", "conv_in"),
        ("conv_in.bias", "conv_in", "time_embedding"),
        ("conv_out.bias", "conv_out", "up_blocks.1.resnets.1"),
    ],
)
def test_the_way_back_ends_at_the_lowest_unit_that_learns(trained: str, lowest: str, below: str):
    net = sdxl_like(2)
    plan = stage_major(net, frozenset({trained}))
    seen = Backward.watching(net).counts
    plan.gradient(window(SHORT), ignore)
    assert seen[lowest] == len(SHORT) and below not in seen


def test_when_everything_rests_nothing_goes_back():
    net = sdxl_like(2)
    plan = stage_major(net)
    plan.rest(names(net))
    seen = Backward.watching(net).counts
    answer = plan.gradient(window(SHORT), ignore)
    assert answer.sound and answer.grad_norm == 0 and not seen


@pytest.mark.parametrize("group", [1, 3])
def test_in_fp32_the_sums_are_the_plain_plans(group: int):
    net = sdxl_like(2)
    theirs = plain(sdxl_like(2))
    ours = stage_major(net, group=group)
    exact = by_autograd(sdxl_like(2, torch.float64), names(net), window())
    expected, answer = theirs.gradient(window(), ignore), ours.gradient(window(), ignore)
    assert answer.losses == pytest.approx(expected.losses, rel=1e-6)
    assert answer.grad_norm == pytest.approx(expected.grad_norm, rel=1e-6)
    plainly, sums = theirs._sums, summed(ours)
    # Both are rounded; with groups, differently, since a matrix product has another shape.
    rounding = relative(_wide(plainly), exact)
    assert relative(_wide(sums), exact) <= 1.5 * rounding and relative(sums, plainly) <= 2 * rounding < 2e-5


def _wide(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in tensors.items()}


# Text encoders that learn


def with_text(which: str, dtype: torch.dtype) -> tuple[nn.Module, Conditioner, frozenset[str]]:
    net, conditioner = sdxl_like(2, dtype), tiny_conditioner().to(dtype)
    return net, conditioner, trainable(conditioner, TextSettings(train=which, token_embedding="row_wise"))


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize(("which", "unet"), [("both", True), ("both", False), ("first", False), ("second", True)])
def test_text_encoders_get_the_gradient_of_autograd(which: str, unet: bool, group: int):
    net, conditioner, text = with_text(which, torch.float64)
    trained = text | names(net) if unet else text
    expected = by_autograd(net, trained, window(SHORT, tokens=True), conditioner)
    net, conditioner, _ = with_text(which, torch.float64)
    plan = stage_major(net, trained, master="nearest", group=group, conditioner=conditioner)
    plan.gradient(window(SHORT, tokens=True), ignore)
    # Keys' biases have no gradient: the softmax takes them out. What is left of it is rounding.
    tiny = {name for name, gradient in expected.items() if gradient.norm() < 1e-12}
    assert all(name.endswith("k_proj.bias") for name in tiny)
    sums = summed(plan)
    assert all(sums.pop(name).norm() < 1e-12 for name in tiny)
    assert relative(sums, {name: g for name, g in expected.items() if name not in tiny}) <= 1e-12


def test_encoders_that_rest_are_not_trained_and_the_unet_goes_on():
    net, conditioner, text = with_text("both", torch.float64)
    expected = by_autograd(net, names(net), window(SHORT, tokens=True), conditioner)
    net, conditioner, _ = with_text("both", torch.float64)
    plan = stage_major(net, names(net) | text, master="nearest", conditioner=conditioner)
    plan.gradient(window(SHORT, tokens=True), ignore)
    plan.rest(text)
    answer = plan.gradient(window(SHORT, tokens=True), ignore)
    assert summed(plan).keys() == names(net) and relative(summed(plan), expected) <= 1e-12
    mean = torch.cat([g.flatten() for g in expected.values()]).norm() / sum(size for size, *_ in SHORT)
    assert answer.grad_norm == pytest.approx(float(mean), rel=1e-12)
    net, conditioner, _ = with_text("both", torch.float32)
    plan = stage_major(net, names(net) | text, conditioner=conditioner)
    plan.rest(text)
    plan.gradient(window(SHORT, tokens=True), ignore)
    before = {name: tensor.clone() for name, tensor in plan.weights().items()}
    plan.update(at(1e-3), max_grad_norm=0.0)
    assert {name for name, tensor in plan.weights().items() if torch.equal(tensor, before[name])} == text


def test_with_the_first_encoder_alone_nothing_goes_back_below_the_lowest_attention():
    net, conditioner, text = with_text("first", torch.float32)
    plan = stage_major(net, text, conditioner=conditioner)
    seen = Backward.watching(net).counts
    plan.gradient(window(SHORT, tokens=True), ignore)
    assert "down_blocks.1.attentions.0.transformer_blocks.0" in seen and "down_blocks.1.resnets.0" not in seen


def test_encoders_whose_captions_were_encoded_before_have_a_gradient_of_zeros_not_an_earlier_one():
    net, conditioner, text = with_text("both", torch.float32)
    plan = stage_major(net, text | names(net), conditioner=conditioner)
    plan.gradient(window(SHORT, tokens=True), ignore)
    plan.gradient(window(SHORT), ignore)
    sums = summed(plan)
    assert all(not sums[name].any() for name in text) and all(sums[name].any() for name in names(net))


# Steps


@pytest.mark.parametrize(("group", "dtype"), [(1, torch.float32), (2, torch.bfloat16)])
def test_five_steps_are_the_plain_plans(group: int, dtype: torch.dtype):
    """Through SGD, which passes differences on as they are, at a rate that changes the weights by per cents; clipped in
    some of the steps. In bf16 a gradient is known to a few of its roundings only."""
    close = 1e-4 if dtype == torch.float32 else 3e-2
    nets = sdxl_like(2, dtype), sdxl_like(2, dtype)
    ours, theirs = stage_major(nets[0], optimizer=sgd, group=group), plain(nets[1], optimizer=sgd)
    before = {name: tensor.clone() for name, tensor in theirs.weights().items()}
    clipped = set()
    for step in range(5):
        norms = [plan.gradient(window(SHORT, seed=step), ignore).grad_norm for plan in (ours, theirs)]
        assert norms[0] == pytest.approx(norms[1], rel=close)
        written = [plan.update(at(0.05), max_grad_norm=1.045, damping=0.9) for plan in (ours, theirs)]
        assert written[0].clipped == written[1].clipped
        assert written[0].ratios == pytest.approx(written[1].ratios, rel=close)
        clipped.add(written[0].clipped)
    assert clipped == {True, False}
    moved = torch.cat([(tensor - before[name]).flatten() for name, tensor in theirs.weights().items()])
    apart = torch.cat([(tensor - theirs.weights()[name]).flatten() for name, tensor in ours.weights().items()])
    assert apart.norm() <= close * moved.norm()


@pytest.mark.parametrize("makers", [(stage_major, plain), (plain, stage_major)])
def test_a_checkpoint_moves_between_the_plans(makers):
    first, second = (make(sdxl_like(2, torch.bfloat16), ema=Ema(decay=0.9), seed=3) for make in makers)
    for step in range(2):
        first.gradient(window(SHORT, seed=step), ignore)
        first.update(at(1e-2), max_grad_norm=1.0)
    parts = [
        {name: tensor.clone() for name, tensor in part.items()}
        for part in (first.weights(), first.optimizer_state(), first.averages())
    ]
    second.restore(*parts)
    for mine, part in zip((second.weights(), second.optimizer_state(), second.averages()), parts, strict=True):
        assert mine.keys() == part.keys() and all(torch.equal(mine[name], tensor) for name, tensor in part.items())
    norms = [plan.gradient(window(SHORT, seed=2), ignore).grad_norm for plan in (first, second)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-2)


# A window that ends early


def test_a_discarded_window_leaves_no_trace_wherever_it_was():
    fresh = stage_major(sdxl_like(2))
    fresh.gradient(window(SHORT), ignore)
    expected = summed(fresh)
    clock = Clock()
    plan = stage_major(sdxl_like(2), tick=clock.tick, residency=streamed)
    plan.gradient(window(SHORT, scale=50.0), ignore)
    whole, through = clock.ticks, len(plan._cut.units) * len(SHORT)
    assert whole == 2 * through + 3 * len(SHORT)  # and drawing, setting out, and the embeddings
    for at_tick in (2, len(SHORT) + 1, through, whole):
        clock.ticks, clock.last = 0, at_tick
        with pytest.raises(Stopped):
            plan.gradient(window(SHORT, scale=50.0), ignore)
        with pytest.raises(AssertionError):
            plan.update(at(1e-3), max_grad_norm=1.0)
        assert all(parameter.grad is None for parameter in plan._learner.parameters.values())
    clock.last = -1
    plan.gradient(window(SHORT), ignore)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in summed(plan).items())


def test_what_was_on_its_way_in_a_discarded_window_is_not_what_the_next_one_computes_with():
    clock = Clock()
    plan = stage_major(sdxl_like(2), tick=clock.tick, residency=streamed)
    plan.gradient(window(SHORT), ignore)
    # In the lowest unit, while the embeddings are on their way, which are also what the next window begins with.
    clock.ticks, clock.last = 0, clock.ticks - len(SHORT)
    with pytest.raises(Stopped):
        plan.gradient(window(SHORT), ignore)
    fresh = stage_major(sdxl_like(2))
    losses = []
    for each in (plan, fresh):
        each.adopt((name, tensor * 1.5) for name, tensor in sdxl_like(2).named_parameters())
        losses.append(each.gradient(window(SHORT), ignore).losses)
    assert losses[0] == losses[1]


def test_whoever_hears_of_the_losses_may_end_the_window():
    heard = []

    def give_up(index: int, losses: Tensor) -> None:
        heard.append((index, len(losses)))
        if index == 1:
            raise Stopped

    net = sdxl_like(2)
    plan = stage_major(net, group=3)
    seen = Backward.watching(net).counts
    with pytest.raises(Stopped):
        plan.gradient(window(SHORT), give_up)
    assert heard == [(index, size) for index, (size, *_) in enumerate(SHORT[:2])] and not seen


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_window_before_anything_goes_back(bad: float):
    net = sdxl_like(2)
    plan = stage_major(net, group=2)
    seen = Backward.watching(net).counts
    asked = window()
    asked[1] = window(scale=bad)[1]
    answer = plan.gradient(asked, ignore)
    assert not answer.sound and not seen
    assert [index for index, loss in enumerate(answer.losses) if not math.isfinite(loss)] == [2]
    with pytest.raises(AssertionError):
        plan.update(at(1e-3), max_grad_norm=1.0)
    assert plan.gradient(window(), ignore).sound


def test_a_gradient_that_is_not_finite_is_judged_so():
    net = sdxl_like(2)
    plan = stage_major(net)
    asked = window(SHORT)
    # The loss of one sample is finite, its slope is not.
    asked[1] = Judged(asked[1].micro, lambda answer: (answer - answer.detach()).abs().sqrt().flatten(1).sum(1))
    answer = plan.gradient(asked, ignore)
    assert all(map(math.isfinite, answer.losses)) and not answer.sound


# What streams


@pytest.mark.parametrize("group", [1, 2])
def test_streamed_through_two_places_is_bitwise_what_stays_where_it_is(group: int):
    still, moving = (
        stage_major(sdxl_like(2, torch.bfloat16), group=group, residency=residency) for residency in (None, streamed)
    )
    for step, shapes in enumerate((SHORT, [(2, 8, 8)], SHORT[1:])):
        answers = [plan.gradient(window(shapes, seed=step), ignore) for plan in (still, moving)]
        assert answers[0].losses == answers[1].losses and answers[0].sound
        assert answers[0].grad_norm == pytest.approx(answers[1].grad_norm, rel=1e-12)
        ours, theirs = summed(moving), summed(still)
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
        for plan in (still, moving):
            plan.update(at(1e-3), max_grad_norm=1.0)
        assert all(torch.equal(moving.weights()[name], tensor) for name, tensor in still.weights().items())


def test_text_encoders_stay_beside_a_unet_that_streams():
    sums: list[dict[str, Tensor]] = []
    for residency in (None, streamed):
        net, conditioner, text = with_text("both", torch.float32)
        plan = stage_major(net, names(net) | text, conditioner=conditioner, residency=residency)
        for seed in range(2):
            plan.gradient(window(SHORT, tokens=True, seed=seed), ignore)
            sums.append(summed(plan))
            plan.update(at(1e-3), max_grad_norm=1.0)
    assert all(torch.equal(sums[2][name], tensor) for name, tensor in sums[0].items())
    assert all(torch.equal(sums[3][name], tensor) for name, tensor in sums[1].items())


def test_units_are_fetched_in_the_order_in_which_they_run_and_not_below_the_lowest():
    net = sdxl_like(2)
    trained = frozenset(name for name in names(net) if name.startswith("up_blocks.1"))
    plan = stage_major(net, trained, residency=streamed)
    plan.gradient(window(SHORT), ignore)
    units = [unit.name for unit in plan._cut.units]
    back = [name for name in units if name.startswith("up_blocks.1") or name == "out"][::-1]
    there = list(zip(["embeddings", *units], [*units, None], strict=True))
    assert plan._residency.visited == there + list(zip(back, [*back[1:], None], strict=True))


def test_what_no_unit_reads_any_more_does_not_stay():
    plan = stage_major(sdxl_like(3))
    (traveller,), _, _ = plan._set_out(grouped([micro(1, 8, 8, seed=1)], 1))
    units = len(plan._cut.units)
    plan._passage.forward([traveller], lowest=units)
    assert traveller.inputs.keys() == {units}
    (traveller,), _, _ = plan._set_out(grouped([micro(1, 8, 8, seed=1)], 1))
    plan._passage.forward([traveller], lowest=units - 3)
    read_again = {units - 3, units - 2, units - 1, units} | {plan._cut.units[-at].skip + 1 for at in (2, 3)}
    assert traveller.inputs.keys() == read_again


def test_rest_and_a_smaller_selection_take_part_in_a_stream():
    net = sdxl_like(2)
    trained = frozenset(name for name in names(net) if "attn" in name or name.startswith("conv_in"))
    resting = frozenset(name for name in trained if name.startswith(("conv_in", "down_blocks")))
    still, moving = (stage_major(sdxl_like(2), trained, residency=residency) for residency in (None, streamed))
    for plan in (still, moving):
        plan.gradient(window(SHORT, seed=1), ignore)
        plan.rest(resting)
        plan.gradient(window(SHORT), ignore)
    ours, theirs = summed(moving), summed(still)
    assert ours.keys() == theirs.keys() == trained - resting
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize("residency", [None, streamed])
def test_an_answer_is_the_unets_also_between_steps_and_with_the_average(residency):
    net = sdxl_like(2)
    plan = stage_major(net, residency=residency, ema=Ema(decay=0.5, warmup=False))
    asked = micro(2, 7, 10, seed=9)
    with torch.no_grad():
        assert torch.equal(plan.predict(asked), predict(net, asked))
        plan.gradient(window(SHORT[:1]), ignore)
        latest = plan.predict(asked)
        plan.update(at(1e-2), max_grad_norm=1.0)
        assert not torch.equal(plan.predict(asked), latest)
        latest = plan.predict(asked)
        with plan.shown():
            averaged = plan.predict(asked)
            assert torch.equal(averaged, predict(net, asked)) and not torch.equal(averaged, latest)
        assert torch.equal(plan.predict(asked), latest)


def test_rehearsal_changes_nothing_and_has_room_for_a_window():
    plan = stage_major(sdxl_like(2), residency=streamed, window=6)
    before = {name: tensor.clone() for name, tensor in plan.weights().items()}
    plan.gradient(window(MIXED[:1]), ignore)
    plan.rehearse()
    assert all(torch.equal(tensor, before[name]) for name, tensor in plan.weights().items())
    assert plan.optimizer_state()["taken"] == 0
    memory = plan._residency.shelf._memory
    room = len(memory._slabs)
    plan.gradient(window(MIXED[:1] * 6), ignore)
    assert len(memory._slabs) == room and memory._before > 0


def plans() -> Iterator[StageMajorPlan]:
    yield stage_major(sdxl_like(2))
    yield stage_major(sdxl_like(2), residency=streamed)


def test_a_plan_that_is_dropped_gives_its_memory_back():
    for plan in plans():
        plan.gradient(window(SHORT[:2]), ignore)
        gone = weakref.ref(plan)
        del plan
        gc.collect()
        assert gone() is None
