"""What the program is for: at the recipes' rate an update arrives, and a rare word does not fly away."""

import sys
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch

from engine.contract.sections import MasterKind, Optimizer, TextEncoders
from engine.contract.text_tensors import TOKEN_EMBEDDING
from engine.memory.micro_step import predict
from engine.memory.plain import PlainPlan
from engine.memory.plan import Judged, Tokens
from engine.model.conditioner import trainable
from engine.optim.adafactor import Adafactor, AdafactorSettings
from engine.optim.build import build
from engine.optim.optimizer import Caution
from engine.run.conditions import cautions
from tests.golden.tiny_text import LENGTH, VOCABULARY, networks
from tests.golden.tiny_unet import micro_batch, tiny_unet

RATE = 8e-7
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def say(figures: str) -> None:
    """`pytest -s` shows them."""
    sys.stdout.write(f"\n{figures}\n")


def samples(step: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy latents, timesteps and targets of one micro-batch."""
    draw = torch.Generator().manual_seed(1000 * seed + step)
    shape = (1, 4, 8, 8)
    return (
        torch.randn(shape, generator=draw),
        torch.randint(0, 1000, (1,), generator=draw),
        torch.randn(shape, generator=draw),
    )


def squared(target: torch.Tensor):
    return lambda prediction: (prediction.float() - target).square().flatten(1).mean(1)


def displacement(kind: MasterKind, steps: int) -> torch.Tensor:
    """What `steps` updates at RATE make of bf16 weights that are kept in this way: masters now minus masters then."""
    unet = tiny_unet(torch.bfloat16)
    names = frozenset(name for name, _ in unet.named_parameters() if "attn" in name or "conv1" in name)
    make = partial(build, Optimizer(), cautions={}, factors={}, seed=0)
    plan = PlainPlan(unet, names, make, master=kind)
    before = {name: tensor.clone() for name, tensor in plan.weights().items()}
    for step in range(steps):
        noisy, timesteps, target = samples(step)
        plan.gradient([Judged(micro_batch(noisy, timesteps, seed=step), squared(target))], lambda *_: None)
        plan.update(lambda _: RATE, max_grad_norm=0.0)
    return torch.cat([(tensor - before[name]).flatten() for name, tensor in plan.weights().items()])


def reference(steps: int) -> torch.Tensor:
    """The same with weights in fp32, written out: autograd's gradient of a bf16 network that before every step is given
    the nearest bf16 of each weight, ties away from zero."""
    unet, exact = tiny_unet(torch.bfloat16), {}
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_("attn" in name or "conv1" in name)
        if parameter.requires_grad:
            exact[name] = parameter.detach().float()
    before = {name: tensor.clone() for name, tensor in exact.items()}
    optimizer = Adafactor({name: tensor.shape for name, tensor in exact.items()}, AdafactorSettings(), CPU)
    for step in range(steps):
        noisy, timesteps, target = samples(step)
        squared(target)(predict(unet, micro_batch(noisy, timesteps, seed=step))).sum().backward()
        optimizer.begin_step()
        for name, parameter in unet.named_parameters():
            if name in exact:
                assert parameter.grad is not None
                optimizer.update(name, exact[name], parameter.grad.float(), RATE)
                bits = (exact[name].numpy().view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)
                parameter.data = torch.from_numpy(bits.view(np.float32)).to(torch.bfloat16)
                parameter.grad = None
    return torch.cat([(tensor - before[name]).flatten() for name, tensor in exact.items()])


@pytest.mark.parametrize("steps", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_a_split_master_goes_where_fp32_weights_go_and_rounding_to_the_nearest_does_not(steps):
    expected, split, nearest = reference(steps), displacement("split", steps), displacement("nearest", steps)
    far = float((split - expected).norm() / expected.norm())
    kept = float(nearest @ expected / expected.square().sum())
    say(f"{steps} steps at {RATE}: split differs by {far:.1e} of the displacement; nearest keeps {kept:.1%} of it")
    assert far < 1e-3
    assert kept < 0.1


COMMON, RARE = torch.arange(1, 8), torch.arange(60, 100)


def captions(step: int) -> torch.Tensor:
    """(1, 1, LENGTH) ids: common words in every caption, each rare one first at a step of its own, late in the run."""
    draw = torch.Generator().manual_seed(step)
    ids = COMMON[torch.randint(len(COMMON), (LENGTH,), generator=draw)]
    if step % 40 == 39:
        ids[LENGTH // 2] = RARE[step // 40 % len(RARE)]
    ids[0], ids[-1] = VOCABULARY - 2, VOCABULARY - 1
    return ids[None, None]


def greatest_row_update(steps: int, *, careful: bool) -> tuple[float, float]:
    """In learning rates: the greatest RMS of a token embedding's row in one update, and the greatest element."""
    unet, reader = networks()
    settings = TextEncoders(train="both", token_embedding="row_wise")
    text = trainable(reader, settings)
    kept = cautions(text, settings) if careful else dict.fromkeys(text, Caution())
    names = text | {name for name, _ in unet.named_parameters() if "attn2" in name}
    make = partial(build, Optimizer(), cautions=kept, factors={}, seed=0)
    plan = PlainPlan(unet, names, make, conditioner=reader)
    tables = [name for name in text if name.endswith(TOKEN_EMBEDDING)]
    assert len(tables) == 2
    rate = 1e-5
    rows, elements = 0.0, 0.0
    for step in range(steps):
        noisy, timesteps, target = samples(step)
        micro = micro_batch(noisy, timesteps, seed=step)
        ids = captions(step)
        micro = type(micro)(noisy, timesteps, Tokens(ids, ids, torch.tensor([False])), micro.time_ids)
        before = {name: plan.weights()[name].clone() for name in tables}
        assert plan.gradient([Judged(micro, squared(target))], lambda *_: None).sound
        plan.update(lambda _: rate, max_grad_norm=0.0)
        for name in tables:
            moved = (plan.weights()[name] - before[name]) / rate
            rows = max(rows, float(moved.square().mean(1).sqrt().max()))
            elements = max(elements, float(moved.abs().max()))
    return rows, elements


# A rare word comes at step 40, after which a table-wide clip has had long enough to forget what it has not seen.
@pytest.mark.parametrize("steps", [45, pytest.param(2000, marks=pytest.mark.slow)])
def test_no_rare_word_moves_further_than_the_clip_lets_it(steps):
    """Bound: RMS of a row's update one learning rate, an element five; and what a table-wide clip lets pass."""
    rows, elements = greatest_row_update(steps, careful=True)
    naive, flown = greatest_row_update(steps, careful=False)
    say(f"{steps} steps, in learning rates: rows {rows:.2f}, elements {elements:.2f}; naive {naive:.1f}, {flown:.1f}")
    assert rows <= 1.01 and elements <= 5.01
    assert naive > 3 * rows
