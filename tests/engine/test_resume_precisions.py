"""A checkpoint of each optimizer, whatever the base was stored in and the network computes in: saved and resumed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.contract.profile import decode_profile
from engine.contract.sections import Ema, Optimizer
from engine.memory.plain import PlainPlan
from engine.memory.plan import Judged
from engine.optim.build import build
from engine.run import checkpoint
from tests.golden.tiny_unet import micro_batch, tiny_unet

OPTIMIZERS = {
    "adafactor": Optimizer(momentum=0.9),
    "adamw": Optimizer(kind="adamw", weight_decay=0.1),
    "adamw_bf16": Optimizer(kind="adamw", moments="bf16"),
}


def plan_of(base: torch.dtype, computed: torch.dtype, optimizer: Optimizer) -> PlainPlan:
    unet = tiny_unet(computed)
    stored = {name: parameter.detach().to(base) for name, parameter in tiny_unet().named_parameters()}
    names = frozenset(name for name in stored if "attn" in name or "conv1" in name)
    make = partial(build, optimizer, cautions={}, factors={}, seed=1)
    plan = PlainPlan(unet, names, make, ema=Ema(decay=0.9), seed=1)
    plan.adopt((name, stored[name]) for name in names)
    return plan


def take(plan: PlainPlan, steps: range) -> None:
    for step in steps:
        draw = torch.Generator().manual_seed(step)
        noisy, target = torch.randn(2, 1, 4, 8, 8, generator=draw)
        micro = micro_batch(noisy, torch.tensor([100 * step]), seed=step)
        losses: Callable[[torch.Tensor], torch.Tensor] = partial(squared, target)
        assert plan.gradient([Judged(micro, losses)], lambda *_: None).sound
        plan.update(lambda _: 1e-4, max_grad_norm=1.0)


def squared(target: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    return (prediction.float() - target).square().flatten(1).mean(1)


def bits(plan: PlainPlan) -> dict[str, torch.Tensor]:
    parts = {"w": plan.weights(), "o": plan.optimizer_state(), "a": plan.averages()}
    return {f"{part} {name}": tensor.clone() for part, held in parts.items() for name, tensor in held.items()}


@pytest.mark.parametrize(
    ("base", "computed"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(tmp_path: Path, optimizer, base, computed):
    state = checkpoint.TrainingState(step=2, profile=profile(), data_fingerprint="d", base_fingerprint="b", version="v")
    unbroken, broken = (plan_of(base, computed, OPTIMIZERS[optimizer]) for _ in range(2))
    take(unbroken, range(4))
    take(broken, range(2))
    path, _, _ = checkpoint.save(tmp_path, state, broken)
    moments = load_file(path / checkpoint.OPTIMIZER)
    kept = torch.bfloat16 if optimizer == "adamw_bf16" else torch.float32
    assert {tensor.dtype for name, tensor in moments.items() if name.endswith((".v", ".rows", ".columns"))} == {kept}
    resumed = plan_of(base, computed, OPTIMIZERS[optimizer])
    checkpoint.restore(path, resumed, state)
    take(resumed, range(2, 4))
    ours, theirs = bits(resumed), bits(unbroken)
    assert ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def profile():
    made, _ = decode_profile({"model": {"base": "x"}, "data": {"folders": [{"path": "x"}]}})
    assert made is not None
    return made
