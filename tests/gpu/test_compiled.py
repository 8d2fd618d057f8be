"""On a card: compiled blocks give the losses and gradients of those that are not, but for rounding."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.contract import events
from engine.memory.compiling import Clock, compile_blocks, require_compiler
from engine.memory.graphs import CudaRecorder
from engine.memory.plain import PlainPlan
from engine.memory.plan import Plan
from engine.memory.ring_plan import RingPlan
from engine.memory.stage_major import StageMajorPlan
from scripts.benchmarks import adafactor, random_unet, random_window
from tests.end_to_end.harness import changed, copy_pictures, of_type, run_here, write_profile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card"),
]
CARD = torch.device("cuda")
SHAPES = (2, 64, 64), (2, 48, 80)


@pytest.fixture(autouse=True)
def _beside_the_default_stream():
    torch.compiler.reset()
    with torch.cuda.stream(torch.cuda.Stream(CARD)):
        yield
    torch.cuda.synchronize()


def _recorder() -> CudaRecorder:
    return CudaRecorder(CARD, tries_first=True)


def _plain(unet, names) -> Plan:
    return PlainPlan(unet, names, adafactor, recorder=_recorder())


def _fast(unet, names) -> Plan:
    return RingPlan(unet, names, adafactor, keep=2, recorder=_recorder())


def _staged(unet, names) -> Plan:
    return StageMajorPlan(unet.to("cpu"), names, adafactor, device=CARD, group=2, recorder=_recorder())


@pytest.mark.parametrize("make", [_plain, _fast, _staged])
def test_compiled_blocks_change_nothing_but_the_rounding(make: Callable[..., Plan]):
    clock = Clock()
    require_compiler(CARD)
    plans = []
    for compiled in (False, True):
        torch.manual_seed(0)
        unet = random_unet(small=True)
        if compiled:
            compile_blocks(unet)
        plans.append(make(unet, frozenset(name for name, _ in unet.named_parameters())))
    for seed in range(4):  # step by step, recorded, replayed
        torch.manual_seed(seed)
        window = [each for shape in SHAPES for each in random_window(2, shape, context=2048, pooled=1280)]
        eager, compiled = (plan.gradient(window, lambda *_: None) for plan in plans)
        assert compiled.losses == pytest.approx(eager.losses, rel=1e-2)
        assert compiled.grad_norm == pytest.approx(eager.grad_norm, rel=2e-2)
    resting = frozenset(name for name in plans[0].shapes if "attn2" in name)
    for seed in range(3):  # others learn: what is compiled anew for them must not be while one records
        for plan in plans:
            plan.rest(resting)
        torch.manual_seed(seed)
        window = random_window(2, SHAPES[0], context=2048, pooled=1280)
        eager, compiled = (plan.gradient(window, lambda *_: None) for plan in plans)
        assert compiled.grad_norm == pytest.approx(eager.grad_norm, rel=2e-2)
    assert clock.take() > 0
    assert clock.take() == 0


def test_a_run_says_how_long_it_compiled(tmp_path: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AOZORA_DATA", str(tmp_path / "data"))
    copy_pictures(demo_folder, tmp_path / "pictures")
    profile = write_profile(tmp_path, demo_folder, steps=2, precision="bf16")
    memory = {"device": "cuda", "plan": "plain"}
    eager, compiled = (
        run_here(changed(profile, memory={**memory, "compile": on}), tmp_path / "runs") for on in (False, True)
    )
    assert not of_type(eager, events.Compiled)
    assert sum(event.seconds for event in of_type(compiled, events.Compiled)) > 0
    losses = [[event.loss for event in of_type(run, events.Step)] for run in (eager, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
