"""On a card: recorded passes, replayed, are bitwise those done step by step, and nobody waits for it in between."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from engine.memory.graphs import CudaRecorder, Recorder
from engine.memory.plain import PlainPlan
from engine.memory.plan import Judged, Plan
from engine.memory.ring import Ring, Sizes
from engine.memory.ring_plan import RingPlan
from engine.memory.stage_major import StageMajorPlan
from tests.engine.tiny_sdxl import MIXED, SHORT, names, sdxl_like
from tests.gpu.test_stage_major import CARD, adamw, ignore, moved

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card"),
    pytest.mark.timeout(300),
]

Make = Callable[[Recorder | None], Plan]


@pytest.fixture(autouse=True)
def on_a_stream(deterministic: None) -> Iterator[None]:
    """Nothing can be recorded on the default stream."""
    with torch.cuda.stream(torch.cuda.Stream()):
        yield
    torch.cuda.synchronize()


def plain(recorder: Recorder | None) -> Plan:
    net = sdxl_like(3, torch.bfloat16).to(CARD)
    return PlainPlan(net, names(net), adamw, recorder=recorder)


def ring(recorder: Recorder | None) -> Plan:
    net = sdxl_like(3, torch.bfloat16).to(CARD)
    # Tensors of several chunks, and hardly a gradient may wait.
    sizes = Sizes(chunk=512, small=100, pending=8192)
    return RingPlan(net, names(net), adamw, keep=1, recorder=recorder, ring=partial(Ring, sizes=sizes))


def stage_major(recorder: Recorder | None, *, staying: int = 0) -> Plan:
    net = sdxl_like(3, torch.bfloat16)
    return StageMajorPlan(net, names(net), adamw, device=CARD, recorder=recorder, group=2, deepest=1, staying=staying)


def sums(plan: Plan) -> dict[str, Tensor]:
    learning = plan._learner.learning()
    if isinstance(plan, PlainPlan):
        return {name: plan._sums[name].cpu() for name in learning}
    if isinstance(plan, RingPlan):
        return {name: plan._ring.sum(name).cpu() for name in learning}
    return {name: plan._residency.sum(name, None).cpu() for name in learning}


@pytest.mark.parametrize("make", [plain, ring, stage_major, partial(stage_major, staying=1 << 30)])
def test_windows_of_mixed_shapes(make: Make):
    ours, theirs = make(CudaRecorder(CARD)), make(None)
    windows = [SHORT, MIXED, [(2, 16, 12), *SHORT], MIXED[::-1]]
    for step, shapes in enumerate(windows):
        answers = [plan.gradient(moved(shapes, seed=step), ignore) for plan in (ours, theirs)]
        assert answers[0] == answers[1] and answers[0].sound, step
        mine, other = sums(ours), sums(theirs)
        assert [name for name in other if not torch.equal(mine[name], other[name])] == [], step
        for plan in (ours, theirs):
            plan.update(lambda _: 1e-3, max_grad_norm=1.0)


def _squared(answer: Tensor) -> Tensor:
    return answer.float().square().flatten(1).mean(1)


@pytest.mark.parametrize("make", [plain, stage_major])
def test_a_window_waits_for_the_card_as_often_however_many_micro_batches_it_has(make: Make):
    plan = make(CudaRecorder(CARD))
    waits = []
    for count in (2, 2, 2, 8, 8):
        asked = [Judged(each.micro, _squared) for each in moved([(1, 8, 8)] * count, seed=count)]
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                plan.gradient(asked, ignore)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits.append([str(each.message) for each in seen if "synchroniz" in str(each.message)])
    assert len(waits[2]) == len(waits[4]) > 0, waits
