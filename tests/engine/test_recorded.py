"""Recorded work gives bitwise what is done step by step, whatever shapes come in whatever order."""

import random
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from engine.contract.sections import TextEncoders as TextSettings
from engine.memory.graphs import Kept, Recorder, Work
from engine.memory.groups import grouped
from engine.memory.plain import PlainPlan
from engine.memory.plan import Plan
from engine.memory.ring import Ring, Sizes
from engine.memory.ring_plan import RingPlan
from engine.memory.stage_major import StageMajorPlan
from engine.memory.unit_work import RECORDED, UnitWork
from engine.model.conditioner import Conditioner, trainable
from engine.optim.adamw import AdamW, AdamWSettings
from tests.engine.tiny_sdxl import SHORT, Again, Card, micro, names, sdxl_like, window
from tests.golden.tiny_text import tiny_conditioner

CPU = torch.device("cpu")
Make = Callable[[Recorder | None], Plan]


def ignore(*_: object) -> None:
    pass


def adamw(shapes, device) -> AdamW:
    return AdamW(shapes, AdamWSettings(), device)


def plain(recorder: Recorder | None) -> Plan:
    net = sdxl_like(2)
    return PlainPlan(net, names(net), adamw, recorder=recorder)


def stage_major(recorder: Recorder | None) -> Plan:
    net = sdxl_like(3)
    return StageMajorPlan(net, names(net), adamw, device=CPU, recorder=recorder, group=2, deepest=1, residency=Card)


def with_text(make: type[PlainPlan] | type[StageMajorPlan], recorder: Recorder | None) -> Plan:
    net, conditioner = sdxl_like(2), tiny_conditioner()
    assert isinstance(conditioner, Conditioner)
    text = trainable(conditioner, TextSettings(train="both", token_embedding="row_wise"))
    options = {"device": CPU} if make is StageMajorPlan else {}
    return make(net, names(net) | text, adamw, conditioner=conditioner, recorder=recorder, **options)


def sums(plan: Plan) -> dict[str, Tensor]:
    learning = plan._learner.learning()
    if isinstance(plan, PlainPlan):
        return {name: plan._sums[name].clone() for name in learning}
    if isinstance(plan, RingPlan):
        return {name: plan._ring.sum(name).clone() for name in learning}
    return {name: plan._residency.sum(name, None).clone() for name in learning}


def learners(plan: Plan) -> frozenset[str]:
    """The names of all that learn."""
    return frozenset(plan._learner.learning())


def steps(plan: Plan, windows: list[list[tuple[int, int, int]]], *, tokens: bool = False) -> list[dict[str, Tensor]]:
    found = []
    for step, shapes in enumerate(windows):
        assert plan.gradient(window(shapes, seed=step, tokens=tokens), ignore).sound
        found.append(sums(plan))
        plan.update(lambda _: 1e-3, max_grad_norm=1.0)
    return [*found, {name: tensor.clone() for name, tensor in plan.weights().items()}]


def same(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]]) -> bool:
    return all(torch.equal(mine[name], each[name]) for mine, each in zip(ours, theirs, strict=True) for name in each)


def ring(recorder: Recorder | None) -> Plan:
    net = sdxl_like(2)
    return RingPlan(net, names(net), adamw, keep=1, recorder=recorder)


@pytest.mark.parametrize("make", [plain, ring, stage_major])
def test_windows_of_mixed_shapes(make: Make):
    recorder = Again()
    # A shape that is new, one that is larger than all before it, and one that has been recorded.
    windows = [SHORT[:1], SHORT, [(2, 16, 12), *SHORT[:2]], SHORT[::-1]]
    assert same(steps(make(recorder), windows), steps(make(None), windows))
    assert recorder.recorded > 0


@pytest.mark.parametrize("kind", [PlainPlan, StageMajorPlan])
def test_text_encoders_that_learn(kind: type[PlainPlan] | type[StageMajorPlan]):
    recorder = Again()
    ours, theirs = (steps(with_text(kind, each), [SHORT[:2]] * 3, tokens=True) for each in (recorder, None))
    assert same(ours, theirs) and recorder.recorded > 0


@pytest.mark.parametrize("make", [plain, ring, stage_major])
def test_who_rests_after_the_recording_gets_no_gradient(make: Make):
    plans = [make(Again()), make(None)]
    resting = frozenset(name for name in learners(plans[0]) if "attn" in name or name.startswith("down"))
    for plan in plans:
        for seed in range(2):
            plan.gradient(window(SHORT[:2], seed=seed), ignore)
        plan.rest(resting)
        for seed in range(2):
            plan.gradient(window(SHORT[:2], seed=seed), ignore)
    ours, theirs = map(sums, plans)
    assert ours.keys() == theirs.keys() and not resting & ours.keys()
    assert same([ours], [theirs])


def test_after_the_first_window_every_shape_is_recorded_and_units_of_one_make_share():
    recorder = Again()
    plan = stage_major(recorder)
    assert isinstance(plan, StageMajorPlan)
    plan.gradient(window(SHORT[:1]), ignore)
    assert recorder.recorded == 0
    plan.gradient(window(SHORT[:1]), ignore)
    units = len(plan._cut.units)
    makes = {(unit.structure, number % 2) for number, unit in enumerate(plan._cut.units)}  # at one of two places
    assert len(makes) < units and recorder.recorded == 2 * len(makes)  # there and back
    before = recorder.recorded
    plan.gradient(window(SHORT[:1], seed=7), ignore)
    assert recorder.recorded == before


@pytest.mark.parametrize("make", [plain, stage_major])
def test_what_has_to_be_tried_first_is_recorded_when_it_comes_again_and_whenever_others_learn(make: Make):
    recorder = Again(tries_first=True)
    plan = make(recorder)
    for shape in ((1, 8, 8), (1, 8, 12), (2, 12, 8)):
        plan.gradient(window([shape]), ignore)
        assert recorder.recorded == 0
    plan.gradient(window([(1, 8, 12)]), ignore)
    before = recorder.recorded
    assert before > 0
    plan.rest(frozenset(name for name in learners(plan) if "attn" in name))
    plan.gradient(window([(1, 8, 12)]), ignore)
    assert recorder.recorded == before
    plan.gradient(window([(1, 8, 12)]), ignore)
    assert recorder.recorded > before


def test_all_else_is_recorded_at_once_or_it_would_need_its_memory_beside_that_of_the_recordings():
    recorder = Again()
    plan = plain(recorder)
    for count, shape in enumerate(((1, 8, 8), (1, 8, 12), (2, 12, 8))):
        plan.gradient(window([shape]), ignore)
        assert recorder.recorded == 2 * count


def test_previews_between_the_windows_are_none_of_the_recordings_business():
    plans = [stage_major(Again()), stage_major(None)]
    for seed in range(2):
        answers = []
        for plan in plans:
            plan.gradient(window(SHORT[:2], seed=seed), ignore)
            answers.append(plan.predict(window(SHORT)[0].micro))
        assert torch.equal(*answers)
    assert same([sums(plans[0])], [sums(plans[1])])


def test_a_window_given_up_while_recording_leaves_no_trace():
    class Stopped(Exception):
        pass

    def give_up(*_: object) -> None:
        raise Stopped

    plans = [plain(Again()), plain(None)]
    plans[0].gradient(window(SHORT), ignore)
    for _ in range(2):
        with pytest.raises(Stopped):
            plans[0].gradient(window(SHORT, seed=3), give_up)
    assert same(*(steps(plan, [SHORT]) for plan in plans))


class AsCuda:
    """A recorder as CUDA's, played for a ring: recording runs Python and leaves no numbers, a replay makes the numbers
    and leaves what Python knows alone."""

    tries_first = False

    def __init__(self) -> None:
        self.ring: Ring | None = None

    def record(self, work: Work) -> Work:
        known, numbers = self._known(), [tensor.clone() for tensor in self._numbers()]
        work()
        for tensor, number in zip(self._numbers(), numbers, strict=True):
            tensor.copy_(number)

        def replay() -> None:
            now = self._known()
            self._know(known)
            work()
            self._know(now)

        return replay

    def _known(self) -> tuple[set[str], set[str], int, bool]:
        return set(self.ring.missing), set(self.ring.collected), self.ring.passes, self.ring._measuring

    def _know(self, known: tuple[set[str], set[str], int, bool]) -> None:
        self.ring.missing, self.ring.collected = set(known[0]), set(known[1])
        self.ring.passes, self.ring._measuring = known[2:]

    def _numbers(self) -> list[Tensor]:
        chunks = [chunk for each in self.ring._chunks.values() for chunk in each]
        return [*self.ring._here.values(), *(c.resting for c in chunks), *(norm for c in chunks for norm in c.norms)]


def as_on_a_card() -> tuple[RingPlan, PlainPlan]:
    """A ring whose passes are recorded, and what it has to equal."""
    recorder, net, other = AsCuda(), sdxl_like(2), sdxl_like(2)
    sizes = partial(Ring, sizes=Sizes(chunk=512, small=100, pending=8192))
    ours = RingPlan(net, names(net), adamw, keep=1, recorder=recorder, ring=sizes)
    recorder.ring = ours._ring
    return ours, PlainPlan(other, names(other), adamw)


def test_a_ring_whose_first_pass_ran_out_of_memory_still_sums_up_all():
    ours, theirs = as_on_a_card()
    parameter = next(iter(ours._unet.mid_block.parameters()))

    def full(_: Tensor) -> None:
        raise torch.OutOfMemoryError

    handle = parameter.register_hook(full)
    with pytest.raises(torch.OutOfMemoryError):
        ours.gradient(window(SHORT[:1]), ignore)
    handle.remove()
    assert ours.cheaper() is not None
    for seed in range(3):
        asked = window([(1, 8, 8)] * 3, seed=seed)
        answers = [plan.gradient(iter(asked), ignore) for plan in (ours, theirs)]
        assert answers[0].grad_norm == pytest.approx(answers[1].grad_norm, rel=1e-9)
        assert same([sums(ours)], [sums(theirs)])


def test_who_rested_and_learns_again_is_summed_up_by_a_recorded_ring():
    ours, theirs = as_on_a_card()
    resting = frozenset(name for name in names(ours._unet) if "attn" in name)
    for step, names_ in enumerate((resting, frozenset(), resting)):
        for plan in (ours, theirs):
            plan.rest(names_)
        for seed, shapes in enumerate(([(1, 8, 8)] * 3, [(1, 8, 8)] * 3, [(1, 8, 12)] * 3)):
            asked = window(shapes, seed=10 * step + seed)
            answers = [plan.gradient(iter(asked), ignore) for plan in (ours, theirs)]
            assert answers[0].grad_norm == pytest.approx(answers[1].grad_norm, rel=1e-9)
            assert same([sums(ours)], [sums(theirs)])


def test_what_is_asked_for_most_often_stays_and_what_passes_does_not_displace_it():
    made: list[str] = []
    kept: Kept[str] = Kept(2)

    def get(key: str) -> str:
        def make() -> str:
            made.append(key)
            return key.upper()

        return kept.get(key, make)

    assert [get(key) for key in "aabbcd"] == ["A", "A", "B", "B", "C", "D"] and made == ["a", "b", "c", "d"]
    assert get("a") == "A" and get("b") == "B" and made == ["a", "b", "c", "d"]
    for _ in range(4):
        get("c")  # now it is more frequent than one of them
    before = len(made)
    assert get("c") == "C" and len(made) == before


def test_nine_buckets_in_groups_are_hardly_ever_recorded_anew():
    buckets = [micro(1, 8, 8 + 2 * number, seed=1) for number in range(9)]
    often = [1 / number for number in range(1, 10)]
    work, draws = UnitWork(Again(), CPU), random.Random(1)
    seen: set[int] = set()
    holds = []  # or an address might be given to another
    anew: list[int] = []
    for _ in range(100):
        groups = grouped(draws.choices(buckets, often, k=64), 4)
        shapes = {group.micro.noisy_latents.shape: group.micro.noisy_latents.numel() for group in groups}
        found = work.recordings(shapes)
        anew.append(len({id(each) for each in found.values()} - seen))
        seen |= {id(each) for each in found.values()}
        holds.append([*found.values()])
        full = {shape for shape in shapes if shape[0] == 4}
        assert not found or full <= found.keys()  # what is left over may go without, what is large must not
        work.came_back(shapes)
    assert sum(anew[50:]) <= 10 and sum(anew) <= 3 * RECORDED


def test_what_is_small_and_rare_goes_without():
    made: list[str] = []
    kept: Kept[str] = Kept(2)

    def get(key: str) -> str | None:
        return kept.often(key, lambda: made.append(key) or key.upper(), size=4 if key.isupper() else 1)

    assert [get(key) for key in "Aabab"] == ["A", None, None, "A", None] and made == ["A", "a"]
    assert [get("B"), get("a"), get("b")] == ["B", None, None]  # what is large takes the place of what is small
    assert [get(key) for key in "CCC"] == ["C"] * 3 and made == ["A", "a", "B", "C", "C", "C"]
    assert [get("C"), get("A"), get("B")] == ["C", "A", "B"]


def test_windows_whose_leftovers_are_done_step_by_step_have_the_same_sums():
    def grouped_by_four(recorder: Recorder | None) -> Plan:
        net = sdxl_like(2)
        return StageMajorPlan(net, names(net), adamw, device=CPU, recorder=recorder, group=4, residency=Card)

    windows = [[(1, 8, 8)] * 4, [(1, 8, 8)] * 4 + [(1, 8, 12)], [(1, 8, 8)] * 7, [(1, 8, 8)] * 7]
    assert same(steps(grouped_by_four(Again()), windows), steps(grouped_by_four(None), windows))
