"""On a card: sums that rest in host memory are bitwise those that stay, however late any of the lanes is, and also as
part of a graph."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from engine.contract.sections import TextEncoders as TextSettings
from engine.memory import ring as ring_module
from engine.memory.lanes import Lane, Lanes
from engine.memory.micro_step import predict
from engine.memory.plain import PlainPlan
from engine.memory.plan import Embedded, Judged, MicroBatch, Plan
from engine.memory.ring import Ring, Sizes
from engine.memory.ring_plan import RingPlan
from engine.model.conditioner import Conditioner, trainable
from engine.optim.adamw import AdamW, AdamWSettings
from engine.optim.slabs import Slabs
from tests.engine.summing import Noting, sums
from tests.engine.tiny_sdxl import MIXED, names, sdxl_like, window
from tests.golden.tiny_text import tiny_conditioner
from tests.gpu.test_stage_major import micro_on_card, moved

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card"),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("deterministic"),
]

CARD = torch.device("cuda")
BESIDE = ("arriving", "adding", "leaving")
LATE = 300_000  # cycles of the card's clock
# Tensors of several chunks, and hardly a gradient may wait: memory is used again as soon as ever it may be.
SPLIT = Sizes(chunk=512, small=100, pending=8192)
SAMPLES = sum(size for size, *_ in MIXED)


class SlowLane(Lane):
    def run(self, work: Callable[[], object]) -> None:
        super().run(lambda: (torch.cuda._sleep(LATE), work()))


class Held(Lanes):
    """One of the lanes is held up before each piece of work, or the computation before each mark: what does not wait
    for it reads what is not there."""

    def __init__(self, device: torch.device, *, late: str) -> None:
        super().__init__(device)
        self._late, self._made = late, 0

    def computing(self) -> Lane:
        if self._late == "computing":
            torch.cuda._sleep(LATE)
        return super().computing()

    def beside(self) -> Lane:
        lane, which = super().beside(), BESIDE[self._made]
        self._made += 1
        return SlowLane(lane._stream) if which == self._late else lane


def adamw(shapes, device) -> AdamW:
    return AdamW(shapes, AdamWSettings(), device)


def ignore(*_: object) -> None:
    pass


def on_card(seed: int, *, tokens: bool = False, scale: float = 1.0) -> list[Judged]:
    return moved(MIXED, seed=seed, tokens=tokens, scale=scale)


def ring_plan(net: nn.Module, late: str = "nothing", *, trained=None, optimizer=Noting, **options) -> RingPlan:
    ring = partial(Ring, sizes=SPLIT, lanes=partial(Held, late=late))
    return RingPlan(net, names(net) if trained is None else trained, optimizer, keep=2, ring=ring, **options)


def plain(net: nn.Module, *, trained=None, optimizer=Noting, **options) -> PlainPlan:
    return PlainPlan(net, names(net) if trained is None else trained, optimizer, **options)


def network(dtype: torch.dtype = torch.bfloat16, levels: int = 2) -> nn.Module:
    return sdxl_like(levels, dtype).to(CARD)


def differing(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    assert ours.keys() == theirs.keys()
    return [name for name in theirs if not torch.equal(ours[name].cpu(), theirs[name].cpu())]


def compare(ours: Plan, theirs: Plan, asked: Sequence[Judged]) -> None:
    answers = [plan.gradient(iter(asked), ignore) for plan in (ours, theirs)]
    assert answers[0].losses == answers[1].losses and answers[0].sound
    # The norm is taken in other pieces.
    assert answers[0].grad_norm == pytest.approx(answers[1].grad_norm, rel=1e-12)
    samples = len(answers[0].losses)
    assert differing(sums(ours, samples), sums(theirs, samples)) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("late", ["nothing", "computing", *BESIDE])
def test_sums_are_bitwise_the_plain_plans(late: str, dtype: torch.dtype):
    ours, theirs = ring_plan(network(dtype), late), plain(network(dtype))
    assert ours._ring.pinned
    for seed in range(2):
        compare(ours, theirs, on_card(seed))


@pytest.mark.parametrize("late", ["computing", *BESIDE])
def test_training_is_bitwise_the_plain_plans(late: str):
    """An update reads the sums from the memory through which the next window's gradients pass. Without a limit on the
    norm, which is not taken in the same pieces."""
    ours, theirs = ring_plan(network(), late, optimizer=adamw), plain(network(), optimizer=adamw)
    for seed in range(3):
        losses = []
        for plan in (ours, theirs):
            losses.append(plan.gradient(on_card(seed), ignore).losses)
            plan.update(lambda _: 1e-3, max_grad_norm=0.0)
        assert losses[0] == losses[1]
    assert differing(dict(ours.weights()), dict(theirs.weights())) == []


@pytest.mark.parametrize("late", ["computing", *BESIDE])
def test_what_was_discarded_in_the_middle_leaves_no_trace(late: str):
    class Stopped(Exception):
        pass

    def give_up(index: int, _: Tensor) -> None:
        if index == 2:
            raise Stopped

    def fail(_: Tensor) -> None:
        raise Stopped

    plan, theirs = ring_plan(network(), late), plain(network())
    with pytest.raises(Stopped):
        plan.gradient(on_card(5, scale=100.0), give_up)
    compare(plan, theirs, on_card(0))
    hook = plan._unet.mid_block.resnets[0].conv1.weight.register_hook(fail)
    with pytest.raises(Stopped):
        plan.gradient(on_card(5, scale=100.0), ignore)
    hook.remove()
    compare(plan, theirs, on_card(1))


def test_a_bad_sample_never_goes_backward():
    plan, theirs = ring_plan(network(), "leaving"), plain(network())
    asked = on_card(0)
    asked[3] = on_card(0, scale=float("inf"))[3]
    answer = plan.gradient(asked, ignore)
    assert not answer.sound and str(answer.losses) == str(theirs.gradient(asked, ignore).losses)
    compare(plan, theirs, on_card(1))


@pytest.mark.parametrize("late", ["adding", "leaving"])
@pytest.mark.parametrize("part", ["attn2", "time_embedding"])
def test_a_selection_is_bitwise_the_plain_plans(part: str, late: str):
    trained = frozenset(name for name in names(sdxl_like(2)) if part in name)
    ours, theirs = ring_plan(network(), late, trained=trained), plain(network(), trained=trained)
    some = frozenset(sorted(trained)[: len(trained) // 2])
    for seed, resting in enumerate((frozenset(), some, frozenset())):
        for plan in (ours, theirs):
            plan.rest(resting)
        compare(ours, theirs, on_card(seed))


@pytest.mark.parametrize("late", ["adding", "leaving"])
def test_trained_text_encoders_are_bitwise_the_plain_plans(late: str):
    """Reached by some micro-batches only: what the last one does not reach comes again to be measured."""
    plans: list[Plan] = []
    for make in (partial(ring_plan, late=late), plain):
        conditioner = tiny_conditioner().to(CARD)
        assert isinstance(conditioner, Conditioner)
        text = trainable(conditioner, TextSettings(train="both", token_embedding="row_wise"))
        net = network(torch.float32)
        plans.append(make(net, trained=names(net) | text, conditioner=conditioner))
    compare(*plans, on_card(0, tokens=True))
    compare(*plans, [*on_card(1, tokens=True)[:3], *on_card(2)[3:]])
    compare(*plans, on_card(3))


def test_pageable_memory_is_slower_and_no_different(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ring_module, "Slabs", lambda page_locked: Slabs(page_locked=False))
    ours, theirs = ring_plan(network()), plain(network())
    assert not ours._ring.pinned
    for seed in range(2):
        compare(ours, theirs, on_card(seed))


class Still:
    """A micro-batch of one shape whose memory stays where it is, and its targets."""

    def __init__(self) -> None:
        self.micro = self.drawn(0)[0]
        self.target = self.drawn(0)[1]

    @staticmethod
    def drawn(seed: int) -> tuple[MicroBatch, Tensor]:
        (asked,) = window([(2, 8, 12)], seed=seed)
        target = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(seed))
        return micro_on_card(asked.micro), target.to(CARD)

    def show(self, seed: int) -> None:
        micro, target = self.drawn(seed)
        for still, there in zip(_tensors(self.micro), _tensors(micro), strict=True):
            still.copy_(there)
        self.target.copy_(target)

    def losses(self, answer: Tensor) -> Tensor:
        return (answer.float() - self.target).square().flatten(1).mean(1)

    @classmethod
    def judged(cls, seed: int) -> Judged:
        still = cls()
        still.show(seed)
        return Judged(still.micro, still.losses)


def _tensors(micro: MicroBatch) -> list[Tensor]:
    assert isinstance(micro.condition, Embedded)
    condition = micro.condition
    return [micro.noisy_latents, micro.network_time, condition.prompt_embeds, condition.pooled_prompt_embeds]


def test_in_a_graph_together_with_the_backward_pass_the_sums_are_the_same():
    """One graph that stores, one that adds and one that adds and measures; replayed for two windows."""
    net, theirs = network(), plain(network())
    plan, still = ring_plan(net), Still()
    ring, every = plan._ring, list(plan.shapes)

    def micro_step(*, last: bool) -> None:
        with torch.enable_grad():
            each = still.losses(predict(net, still.micro))
        with ring.backward(last=last):
            torch.autograd.backward(each.sum())

    warming = torch.cuda.Stream()
    warming.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warming), ring.window(every):
        for last in (False, False, True):
            micro_step(last=last)
        ring.norm()
    torch.cuda.current_stream().wait_stream(warming)

    graphs: list[torch.cuda.CUDAGraph] = []
    with ring.window(every):
        for last in (False, False, True):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=graphs[0].pool() if graphs else None):
                micro_step(last=last)
            graphs.append(graph)
        assert not ring.missing  # so that the second and the third add
        for round_ in range(2):
            seeds = range(3 * round_, 3 * round_ + 3)
            for graph, seed in zip(graphs, seeds, strict=True):
                still.show(seed)
                graph.replay()
            answer = theirs.gradient(map(Still.judged, seeds), ignore)
            assert ring.norm() / 6 == pytest.approx(answer.grad_norm, rel=1e-12)
            after = ring.after(every)
            got = {name: ring.sum(name, after.get(name)).clone() for name in every}
            assert differing(got, sums(theirs, 6)) == []
    torch.cuda.synchronize()
