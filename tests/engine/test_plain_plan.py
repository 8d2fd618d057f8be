"""The plain plan against ordinary autograd: sums, norm, clip, the transaction, and bf16 weights on a split master."""

import gc
import weakref
from collections.abc import Iterator, Sequence
from functools import partial

import pytest
import torch
from torch import nn

from engine.contract.sections import Ema, Optimizer
from engine.memory.plain import PlainPlan
from engine.memory.plan import Embedded, Judged, MicroBatch, global_norm
from engine.optim.adafactor import Adafactor, AdafactorSettings
from engine.optim.build import build
from engine.optim.imported import Imported


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
            condition=Embedded(torch.ones(size, 7, 3), torch.zeros(size, 2)),
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
            encoder_hidden_states=micro.condition.prompt_embeds.double(),
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


def adafactor(shapes, device) -> Adafactor:
    return Adafactor(shapes, AdafactorSettings(), device)


def make_plan(net: nn.Module, trained: frozenset[str] | None = None, **options) -> PlainPlan:
    return PlainPlan(net, names(net) if trained is None else trained, adafactor, **options)


def at(lr: float):
    """The same rate for each tensor."""
    return lambda name: lr


def ignore(*_: object) -> None:
    pass


def test_gradient_norm_is_that_of_the_mean_over_samples_however_they_are_divided():
    norms = {}
    for sizes in ([4], [1, 1, 1, 1], [3, 1]):
        net = network()
        norms[tuple(sizes)] = make_plan(net).gradient(window(sizes), ignore).grad_norm
    expected = torch.cat([g.flatten() for g in reference_gradient([4]).values()]).norm().item()
    assert list(norms.values()) == pytest.approx([expected] * 3, rel=1e-5)


def test_update_applies_the_clipped_mean_gradient():
    """With a rate of 1 on fresh Adafactor state the update depends on the gradient's direction only, so compare with
    Adafactor fed by float64 autograd and torch's own clip."""
    net = network()
    plan = make_plan(net)
    expected = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    plan.gradient(window([2, 1, 1]), ignore)
    assert plan.update(at(1e-2), max_grad_norm=0.01).clipped
    gradients = reference_gradient([2, 1, 1])
    holders = [nn.Parameter(torch.zeros_like(g)) for g in gradients.values()]
    for holder, gradient in zip(holders, gradients.values(), strict=True):
        holder.grad = gradient
    nn.utils.clip_grad_norm_(holders, 0.01)
    optimizer = adafactor({n: p.shape for n, p in expected.items()}, torch.device("cpu"))
    optimizer.begin_step()
    for (name, weight), holder in zip(expected.items(), holders, strict=True):
        assert holder.grad is not None
        optimizer.update(name, weight, holder.grad.float(), 1e-2)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-4, atol=1e-6)
    plan.gradient(window([2]), ignore)
    assert not plan.update(at(1e-3), max_grad_norm=0.0).clipped


def test_a_discarded_window_leaves_no_trace():
    one, other = network(), network()
    interrupted, fresh = (make_plan(net) for net in (one, other))

    def give_up(micro: int, losses: torch.Tensor) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        interrupted.gradient(window([2, 2], scale=100.0), give_up)
    for plan in (interrupted, fresh):
        plan.gradient(window([2, 2]), ignore)
        plan.update(at(1e-3), max_grad_norm=1.0)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_window_that_is_not_finite_is_judged_so_and_changes_nothing(bad: float):
    net = network()
    plan = make_plan(net)
    before = {name: tensor.clone() for name, tensor in plan.weights().items()}
    gradient = plan.gradient([*window([1]), *window([1], scale=bad)], ignore)
    assert not gradient.sound
    with pytest.raises(AssertionError):
        plan.update(at(1e-3), max_grad_norm=1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in plan.weights().items())
    assert plan.optimizer_state()["taken"] == 0


@pytest.mark.parametrize("kind", ["adafactor", "adamw"])
def test_a_gradient_whose_squares_fp32_cannot_hold_is_rejected(kind):
    """Finite as it is: written, it would leave weights that are no numbers, or moments that never move again."""
    net = network()
    plan = PlainPlan(net, names(net), partial(build, Optimizer(kind=kind), cautions={}, factors={}, seed=0))
    largest = plan.gradient(window([2], scale=1e15), ignore)
    assert largest.sound
    plan.update(at(1e-3), max_grad_norm=0.0)
    assert all(tensor.isfinite().all() for tensor in (*plan.weights().values(), *plan.optimizer_state().values()))
    before = {name: tensor.clone() for name, tensor in plan.weights().items()}
    gradient = plan.gradient(window([2], scale=1e20), ignore)
    assert not gradient.sound and gradient.grad_norm < float("inf")
    with pytest.raises(AssertionError):
        plan.update(at(1e-3), max_grad_norm=0.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in plan.weights().items())


def test_what_a_foreign_optimizer_makes_not_finite_is_not_written():
    net = network()
    plan = PlainPlan(net, names(net), sgd)
    before = {name: tensor.clone() for name, tensor in plan.weights().items()}
    plan.gradient(window([2]), ignore)
    with pytest.raises(FloatingPointError):
        plan.update(at(float("inf")), max_grad_norm=0.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in plan.weights().items())


def test_frozen_tensors_get_no_gradient_and_no_state():
    net = network()
    plan = make_plan(net, frozenset({"conv.weight"}))
    frozen = net.mix.weight.detach().clone()
    plan.gradient(window([2]), ignore)
    plan.update(at(1e-2), max_grad_norm=0.0)
    assert net.mix.weight.grad is None and torch.equal(net.mix.weight, frozen)
    assert set(plan.weights()) == {"conv.weight"}
    assert {name.rpartition(".")[0] for name in plan.optimizer_state()} <= {"conv.weight", ""}


def test_bf16_weights_follow_their_fp32_master_at_a_rate_far_below_their_step():
    net = network(torch.bfloat16)
    plan = make_plan(net)
    before = {name: tensor.clone() for name, tensor in plan.weights().items()}
    for _ in range(20):
        plan.gradient(window([2, 2]), ignore)
        plan.update(at(8e-7), max_grad_norm=0.0)
    for name, parameter in net.named_parameters():
        moved = (plan.weights()[name] - before[name]).abs()
        assert moved.mean() > 5e-6, name
        assert (parameter.float() - plan.weights()[name]).abs().max() <= parameter.abs().max().float() * 2**-8


def test_bf16_starts_from_the_base_files_own_precision():
    net = network(torch.bfloat16)
    plan = make_plan(net)
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
    plan = make_plan(net)
    before = {name: tensor.clone() for name, tensor in plan.weights().items()}
    plan.gradient(window([2]), ignore)
    plan.rehearse()
    assert all(torch.equal(tensor, before[name]) for name, tensor in plan.weights().items())
    assert plan.optimizer_state()["taken"] == 0


def test_restore_takes_all_or_nothing():
    def trained() -> Iterator[PlainPlan]:
        net = network()
        plan = make_plan(net)
        plan.gradient(window([2]), ignore)
        plan.update(at(1e-2), max_grad_norm=1.0)
        yield plan

    source = next(trained())
    weights = {name: tensor.clone() for name, tensor in source.weights().items()}
    moments = {name: tensor.clone() for name, tensor in source.optimizer_state().items()}
    net = network()
    plan = make_plan(net)
    with pytest.raises(ValueError, match=r"conv\.bias"):
        plan.restore({name: tensor for name, tensor in weights.items() if name != "conv.bias"}, moments, {})
    plan.restore(weights, moments, {})
    assert all(torch.equal(plan.weights()[name], tensor) for name, tensor in weights.items())
    assert all(torch.equal(plan.optimizer_state()[name], tensor) for name, tensor in moments.items())


def test_a_tensor_that_no_gradient_reaches_has_none_not_that_of_an_earlier_window():
    net = network()
    plan = make_plan(net)
    plan.gradient(window([2]), ignore)
    plan.update(at(1e-2), max_grad_norm=0.0)
    before = net.mix.weight.detach().clone()
    blind = [Judged(judged.micro, lambda _: net.conv.weight.square().sum().reshape(1)) for judged in window([1])]
    assert plan.gradient(blind, ignore).grad_norm == pytest.approx(2 * float(net.conv.weight.detach().norm()))
    plan.update(at(1e-2), max_grad_norm=0.0)
    assert torch.equal(net.mix.weight, before)


def test_who_rests_has_no_gradient_no_part_in_the_norm_and_no_step():
    net, alone = network(), network()
    plan, reference = make_plan(net), make_plan(alone, frozenset({"conv.weight"}))
    plan.rest(names(net) - {"conv.weight"})
    still = {name: tensor.detach().clone() for name, tensor in net.named_parameters()}
    moments = {name: tensor.clone() for name, tensor in plan.optimizer_state().items()}
    assert plan.gradient(window([2]), ignore).grad_norm == reference.gradient(window([2]), ignore).grad_norm
    plan.update(at(1e-2), max_grad_norm=0.0)
    reference.update(at(1e-2), max_grad_norm=0.0)
    assert torch.equal(net.conv.weight, alone.conv.weight)
    for name, tensor in net.named_parameters():
        assert torch.equal(tensor, still[name]) == (name != "conv.weight")
        assert tensor.requires_grad == (name == "conv.weight")
    changed = {name for name, tensor in plan.optimizer_state().items() if not torch.equal(tensor, moments[name])}
    assert changed == {"taken", "conv.weight.rows", "conv.weight.columns"}
    plan.rest(frozenset())
    plan.gradient(window([2]), ignore)
    plan.update(at(1e-2), max_grad_norm=0.0)
    assert not torch.equal(net.mix.weight, still["mix.weight"])


def test_each_tensor_has_its_own_rate_and_the_report_says_how_far_it_went():
    net = network()
    plan = make_plan(net)
    before = {name: tensor.detach().clone() for name, tensor in net.named_parameters()}
    plan.gradient(window([2]), ignore)
    rates = {"conv.weight": 1e-2, "conv.bias": 0.0, "mix.weight": 1e-3, "mix.bias": 0.0}
    ratios = plan.update(rates.__getitem__, max_grad_norm=0.0).ratios
    moved = {name: (tensor.detach() - before[name]).norm() for name, tensor in net.named_parameters()}
    assert moved["conv.bias"] == moved["mix.bias"] == 0
    after = torch.cat([tensor.detach().flatten() for _, tensor in net.named_parameters()]).norm()
    assert ratios == {"unet": pytest.approx(float(torch.stack(list(moved.values())).norm() / after), rel=1e-3)}


def test_damping_scales_the_gradient_before_the_clip():
    """Seen through plain SGD, where the change is the gradient."""
    changes = []
    for damping, limit in ((1.0, 0.0), (0.25, 0.0), (0.25, 1e-3)):
        net = network()
        plan = PlainPlan(net, names(net), sgd)
        before = net.conv.weight.detach().clone()
        plan.gradient(window([2]), ignore)
        clipped = plan.update(at(1.0), max_grad_norm=limit, damping=damping).clipped
        assert clipped == (limit > 0)
        changes.append(net.conv.weight.detach() - before)
    torch.testing.assert_close(changes[1], changes[0] * 0.25, rtol=1e-4, atol=1e-7)
    assert changes[2].norm() < 1e-3 * 1.001


def sgd(shapes, device) -> Imported:
    return Imported("torch.optim.SGD", {}, shapes, device, learning_rate=1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_average_is_shown_and_training_goes_on_as_if_nobody_had_looked(dtype):
    net, other = network(dtype), network(dtype)
    looked_at, left_alone = (make_plan(each, ema=Ema(decay=0.5, warmup=False)) for each in (net, other))
    expected = {name: tensor.clone() for name, tensor in looked_at.weights().items()}
    for _ in range(3):
        for plan in (looked_at, left_alone):
            plan.gradient(window([2]), ignore)
            plan.update(at(1e-2), max_grad_norm=0.0)
        expected = {name: 0.5 * old + 0.5 * looked_at.weights()[name] for name, old in expected.items()}
        with looked_at.shown() as shown:
            for name, parameter in net.named_parameters():
                torch.testing.assert_close(shown[name], expected[name], rtol=1e-6, atol=1e-7)
                assert torch.equal(parameter.detach(), shown[name].to(dtype))
    for name, tensor in looked_at.weights().items():
        assert torch.equal(tensor, left_alone.weights()[name])


def test_the_average_of_what_rests_goes_on_to_where_it_came_to_rest():
    net = network()
    plan = make_plan(net, ema=Ema(decay=0.5, warmup=False))
    for step in range(40):
        plan.rest(frozenset({"conv.weight", "conv.bias"}) if step >= 3 else frozenset())
        plan.gradient(window([2]), ignore)
        plan.update(at(1e-2), max_grad_norm=0.0)
    torch.testing.assert_close(plan.averages()["conv.weight"], plan.weights()["conv.weight"], rtol=1e-6, atol=1e-7)
    assert not torch.allclose(plan.averages()["mix.weight"], plan.weights()["mix.weight"], rtol=1e-4, atol=0)


def test_a_base_that_stores_a_matrix_the_other_way_round_is_adopted():
    net = network(torch.bfloat16)
    plan = make_plan(net)
    stored = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).T
    assert not stored.is_contiguous()
    plan.adopt([("mix.weight", stored)])
    assert torch.equal(plan.weights()["mix.weight"], stored)


def test_without_an_average_the_masters_are_shown():
    plan = make_plan(network(torch.bfloat16))
    with plan.shown() as shown:
        assert all(torch.equal(tensor, shown[name]) for name, tensor in plan.weights().items())


def test_an_average_that_warms_up_forgets_the_base():
    """Kept shares (1 + n) / (10 + n), written out: after three steps to a weight of 1 from one of 0."""
    from engine.optim.average import Average

    average = Average({"w": torch.Size((1,))}, 0.999, warmup=True)
    average.start("w", torch.zeros(1))
    for _ in range(3):
        average.begin_step()
        average.update("w", torch.ones(1))
    assert float(average.tensors()["w"]) == pytest.approx(1 - (1 / 10) * (2 / 11) * (3 / 12))


def test_an_average_is_restored_with_the_weights_or_the_checkpoint_is_refused():
    source = make_plan(network(), ema=Ema(decay=0.9))
    source.gradient(window([2]), ignore)
    source.update(at(1e-2), max_grad_norm=0.0)
    parts = [
        {name: tensor.clone() for name, tensor in part.items()}
        for part in (source.weights(), source.optimizer_state(), source.averages())
    ]
    plan = make_plan(network(), ema=Ema(decay=0.9))
    with pytest.raises(ValueError, match="no average"):
        plan.restore(parts[0], parts[1], {})
    with pytest.raises(ValueError, match="an average"):
        make_plan(network()).restore(*parts)
    plan.restore(*parts)
    for each in (source, plan):
        each.gradient(window([1]), ignore)
        each.update(at(1e-2), max_grad_norm=0.0)
    assert all(torch.equal(tensor, plan.averages()[name]) for name, tensor in source.averages().items())


def test_a_plan_that_is_dropped_gives_its_memory_back():
    net = network()
    plan = make_plan(net)
    plan.gradient(window([2]), ignore)
    gone = weakref.ref(plan)
    del plan
    gc.collect()
    assert gone() is None
