"""Two hundred steps under every plan: the same curve. `python -m pytest -m slow -s -n 0`, and this file."""

import pytest
import torch

from engine.memory.plain import PlainPlan
from engine.memory.plan import Plan
from engine.memory.ring_plan import RingPlan
from engine.memory.stage_major import StageMajorPlan
from engine.optim.adafactor import Adafactor, AdafactorSettings
from tests.engine.tiny_sdxl import Again, Card, names, sdxl_like, window

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 200
SHAPES = [(1, 8, 8), (1, 8, 8), (1, 7, 10)]
SEEN = 4  # windows, again and again: something to learn


def adafactor(shapes, device) -> Adafactor:
    return Adafactor(shapes, AdafactorSettings(), device)


def plans() -> dict[str, Plan]:
    nets = [sdxl_like(2) for _ in range(4)]
    cpu = torch.device("cpu")
    return {
        "plain": PlainPlan(nets[0], names(nets[0]), adafactor),
        "fast": RingPlan(nets[1], names(nets[1]), adafactor, keep=1),
        "resident": RingPlan(nets[2], names(nets[2]), adafactor, keep=0),
        "stage-major": StageMajorPlan(
            nets[3], names(nets[3]), adafactor, device=cpu, group=2, deepest=1, residency=Card, recorder=Again()
        ),
    }


def curve(plan: Plan) -> list[float]:
    losses = []
    for step in range(STEPS):
        gradient = plan.gradient(window(SHAPES, seed=step % SEEN), lambda *_: None)
        losses.append(sum(gradient.losses) / len(gradient.losses))
        plan.update(lambda _: 2e-4, max_grad_norm=1.0)
    return losses


def test_two_hundred_steps_give_the_same_curve():
    curves = {name: curve(plan) for name, plan in plans().items()}
    plain = curves["plain"]
    assert plain[-1] < 0.7 * plain[0]  # it learns
    for name, other in curves.items():
        furthest = max(abs(ours - theirs) / theirs for ours, theirs in zip(other, plain, strict=True))
        print(f"{name}: {other[0]:.4f} -> {other[-1]:.4f}, at most {furthest:.1e} from the plain plan's")  # noqa: T201
        assert furthest <= (1e-3 if name == "stage-major" else 0.0), name
