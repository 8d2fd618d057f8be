"""The plain plan against ordinary autograd: sums, norm, clip, the transaction, and bf16 weights on a split master."""

import gc
import weakref
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import nn

from engine.memory.plain import PlainPlan
from engine.memory.plan import Judged, MicroBatch, global_norm
from engine.optim.adafactor import AdafactorSettings


class Stopped(Exception):
    pass


class TinyNet(nn.Module):
    """Takes what a UNet takes; a convolution, a bias and a matrix are enough to sum gradients over."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.mix = nn.Linear(6, 4)

    def forward(self, x, time, *, encoder_hidden_states, added_cond_kwargs, return_dict):
        bias = self.mix(added_cond_kwargs["time_ids"].to(x.dtype)) + encoder_hidden_states.mean((1, 2))[:, None]
        return (torch.tanh(self.conv(x)) + bias[:, :, None, None] + time.to(x.dtype)[:, None, None, None] * 0.01,)


def network(dtype: torch.dtype = torch.float32) -> TinyNet:
    torch.manual_seed(0)
    return TinyNet().to(dtype)


def window(sizes: Sequence[int], *, scale: float = 1.0) -> list[Judged]:
    """Micro-batches of different sizes and shapes; sample i is the same in any division."""
    samples = []
    for index in range(sum(sizes)):
        draw = torch.Generator().manual_seed(index)
        samples.append((torch.randn(1, 4, 6, 6, generator=draw), torch.randn(1, 4, 6, 6, generator=draw), index))
    judged, start = [], 0
    for size in sizes:
        part = samples[start : start + size]
        start += size
        x, target = torch.cat([p[0] for p in part]), torch.cat([p[1] for p in part])
        micro = MicroBatch(
            noisy_latents=x,
            network_time=torch.tensor([p[2] for p in part]),
            prompt_embeds=torch.ones(size, 7, 3),
            pooled_prompt_embeds=torch.zeros(size, 2),
            time_ids=torch.stack([torch.arange(6.0) + p[2] for p in part]),
        )

        def losses(prediction: torch.Tensor, target: torch.Tensor = target) -> torch.Tensor:
            return scale * (prediction.float() - target).square().flatten(1).mean(1)

        judged.append(Judged(micro, losses))
    return judged


def reference_gradient(sizes: Sequence[int]) -> dict[str, torch.Tensor]:
    """Autograd's own gradient of the mean loss over the whole window in float64, all samples in one graph."""
    net = network().double()
    total = torch.zeros((), dtype=torch.float64)
    for judged in window(sizes):
        micro = judged.micro
        prediction = net(
            micro.noisy_latents.double(),
            micro.network_time,
            encoder_hidden_states=micro.prompt_embeds.double(),
            added_cond_kwargs={"time_ids": micro.time_ids},
            return_dict=False,
        )[0]
        target = torch.cat(
            [torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(int(i)))[1:] for i in micro.network_time]
        )
        total = total + (prediction - target.double()).square().flatten(1).mean(1).sum()
    (total / sum(sizes)).backward()
    return {name: parameter.grad for name, parameter in net.named_parameters()}


def names(net: nn.Module) -> frozenset[str]:
    return frozenset(name for name, _ in net.named_parameters())


def ignore(*_: object) -> None:
    pass


def test_gradient_norm_is_that_of_the_mean_over_samples_however_they_are_divided():
    norms = {}
    for sizes in ([4], [1, 1, 1, 1], [3, 1]):
        net = network()
        norms[tuple(sizes)] = PlainPlan(net, names(net), AdafactorSettings()).gradient(window(sizes), ignore).grad_norm
    expected = torch.cat([g.flatten() for g in reference_gradient([4]).values()]).norm().item()
    assert list(norms.values()) == pytest.approx([expected] * 3, rel=1e-5)


def test_update_applies_the_clipped_mean_gradient():
    """With a rate of 1 on fresh Adafactor state the update depends on the gradient's direction only, so compare with
    Adafactor fed by float64 autograd and torch's own clip."""
    from engine.optim.adafactor import Adafactor

    net = network()
    plan = PlainPlan(net, names(net), AdafactorSettings())
    expected = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    plan.gradient(window([2, 1, 1]), ignore)
    assert plan.update(1e-2, max_grad_norm=0.01)
    gradients = reference_gradient([2, 1, 1])
    holders = [nn.Parameter(torch.zeros_like(g)) for g in gradients.values()]
    for holder, gradient in zip(holders, gradients.values(), strict=True):
        holder.grad = gradient
    nn.utils.clip_grad_norm_(holders, 0.01)
    optimizer = Adafactor({n: p.shape for n, p in expected.items()}, AdafactorSettings(), torch.device("cpu"))
    keep = optimizer.begin_step()
    for (name, weight), holder in zip(expected.items(), holders, strict=True):
        assert holder.grad is not None
        optimizer.update(name, weight, holder.grad.float(), 1e-2, keep)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-4, atol=1e-6)
    assert not PlainPlanOf(network()).clips_at(0.0)


class PlainPlanOf:
    def __init__(self, net: TinyNet) -> None:
        self.plan = PlainPlan(net, names(net), AdafactorSettings())

    def clips_at(self, norm: float) -> bool:
        self.plan.gradient(window([2]), ignore)
        return self.plan.update(1e-3, norm)


def test_a_discarded_window_leaves_no_trace():
    one, other = network(), network()
    interrupted, fresh = (PlainPlan(net, names(net), AdafactorSettings()) for net in (one, other))

    def give_up(micro: int, losses: torch.Tensor) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        interrupted.gradient(window([2, 2], scale=100.0), give_up)
    for plan in (interrupted, fresh):
        plan.gradient(window([2, 2]), ignore)
        plan.update(1e-3, 1.0)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_window_that_is_not_finite_is_judged_so_and_changes_nothing(bad: float):
    net = network()
    plan = PlainPlan(net, names(net), AdafactorSettings())
    before = {name: tensor.clone() for name, tensor in plan.weights().items()}
    gradient = plan.gradient([*window([1]), *window([1], scale=bad)], ignore)
    assert not gradient.finite
    with pytest.raises(AssertionError):
        plan.update(1e-3, 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in plan.weights().items())
    assert plan.optimizer_state()["taken"] == 0


def test_frozen_tensors_get_no_gradient_and_no_state():
    net = network()
    plan = PlainPlan(net, frozenset({"conv.weight"}), AdafactorSettings())
    frozen = net.mix.weight.detach().clone()
    plan.gradient(window([2]), ignore)
    plan.update(1e-2, 0.0)
    assert net.mix.weight.grad is None and torch.equal(net.mix.weight, frozen)
    assert set(plan.weights()) == {"conv.weight"}
    assert {name.rpartition(".")[0] for name in plan.optimizer_state()} <= {"conv.weight", ""}


def test_bf16_weights_follow_their_fp32_master_at_a_rate_far_below_their_step():
    net = network(torch.bfloat16)
    plan = PlainPlan(net, names(net), AdafactorSettings())
    before = {name: tensor.clone() for name, tensor in plan.weights().items()}
    for _ in range(20):
        plan.gradient(window([2, 2]), ignore)
        plan.update(8e-7, 0.0)
    for name, parameter in net.named_parameters():
        moved = (plan.weights()[name] - before[name]).abs()
        assert moved.mean() > 5e-6, name
        assert (parameter.float() - plan.weights()[name]).abs().max() <= parameter.abs().max().float() * 2**-8


def test_bf16_starts_from_the_base_files_own_precision():
    net = network(torch.bfloat16)
    plan = PlainPlan(net, names(net), AdafactorSettings())
    exact = {name: tensor.detach() for name, tensor in network().named_parameters()}
    plan.adopt(iter(exact.items()))
    assert all(torch.equal(plan.weights()[name], tensor) for name, tensor in exact.items())


@pytest.mark.parametrize("scale", [1.0, 1e18, 1e-25])
def test_the_global_norm_is_exact_for_large_tensors_and_for_any_scale(scale: float):
    tensors = [torch.full((9_000_000,), 0.3 * scale), torch.full((5,), 2.0 * scale)]
    expected = (9_000_000 * float(torch.tensor(0.3)) ** 2 + 5 * 4.0) ** 0.5 * scale
    assert global_norm(tensors) == pytest.approx(expected, rel=1e-6)


def test_rehearsal_changes_nothing():
    net = network()
    plan = PlainPlan(net, names(net), AdafactorSettings())
    before = {name: tensor.clone() for name, tensor in plan.weights().items()}
    plan.gradient(window([2]), ignore)
    plan.rehearse()
    assert all(torch.equal(tensor, before[name]) for name, tensor in plan.weights().items())
    assert plan.optimizer_state()["taken"] == 0


def test_restore_takes_all_or_nothing():
    def trained() -> Iterator[PlainPlan]:
        net = network()
        plan = PlainPlan(net, names(net), AdafactorSettings())
        plan.gradient(window([2]), ignore)
        plan.update(1e-2, 1.0)
        yield plan

    source = next(trained())
    weights = {name: tensor.clone() for name, tensor in source.weights().items()}
    moments = {name: tensor.clone() for name, tensor in source.optimizer_state().items()}
    net = network()
    plan = PlainPlan(net, names(net), AdafactorSettings())
    with pytest.raises(ValueError, match=r"conv\.bias"):
        plan.restore({name: tensor for name, tensor in weights.items() if name != "conv.bias"}, moments)
    plan.restore(weights, moments)
    assert all(torch.equal(plan.weights()[name], tensor) for name, tensor in weights.items())
    assert all(torch.equal(plan.optimizer_state()[name], tensor) for name, tensor in moments.items())


def test_a_plan_that_is_dropped_gives_its_memory_back():
    net = network()
    plan = PlainPlan(net, names(net), AdafactorSettings())
    plan.gradient(window([2]), ignore)
    gone = weakref.ref(plan)
    del plan
    gc.collect()
    assert gone() is None
