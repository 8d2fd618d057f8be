"""Tensors that visit the card from host memory give what they give on a CPU, whatever is still on its way."""

import pytest
import torch

from engine.optim.adamw import AdamW, AdamWSettings
from engine.optim.hosted import HostTensors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card"),
    pytest.mark.timeout(300),
]

SIZES = {
    "tiny": [(), (3,), (5, 7), (1,)],
    "one": [(1000, 1000)],
    "mixed": [(4096, 4096), (3,), (2048, 2048), (17, 5, 3, 3), (4096, 2048), (1,), (3000, 1111)],
}


def named(sizes):
    return {f"t{at}": torch.Size(shape) for at, shape in enumerate(sizes)}


def sweep(shapes, device, dtype, *, order=None, prefetching=True, busy=0):
    """Five steps of x/2 + ramp, rounded once, so alike on every device; `busy` keeps the card behind its orders."""
    tensors = HostTensors(shapes, dtype, device)
    for step in range(5):
        for name in order or shapes:
            visitor = tensors.fetch(name, then=tensors.after(name) if prefetching else None)
            if busy:
                torch.cuda._sleep(busy)
            ramp = torch.arange(visitor.numel(), device=device, dtype=torch.int64).remainder_(7).add_(step)
            visitor.mul_(0.5).add_(ramp.view(visitor.shape).to(dtype))
            tensors.store(name, visitor)
    return tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("busy", [0, 2_000_000])
@pytest.mark.parametrize("prefetching", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_sweep_on_the_card_is_bitwise_the_sweep_on_a_cpu(sizes, prefetching, busy, dtype):
    shapes = named(SIZES[sizes])
    on_card = sweep(shapes, torch.device("cuda"), dtype, prefetching=prefetching, busy=busy)
    expected = sweep(shapes, torch.device("cpu"), dtype)
    assert on_card.pinned
    for name, tensor in expected.resting().items():
        assert torch.equal(on_card.resting()[name].cpu(), tensor), name


def test_another_order_than_foreseen_changes_nothing():
    shapes = named(SIZES["mixed"])
    on_card = sweep(shapes, torch.device("cuda"), torch.float32, order=list(shapes)[::-1], busy=2_000_000)
    expected = sweep(shapes, torch.device("cpu"), torch.float32)
    assert all(torch.equal(on_card.resting()[name].cpu(), tensor) for name, tensor in expected.resting().items())


def test_what_is_changed_at_rest_or_stored_from_elsewhere_is_what_arrives():
    shapes = named(SIZES["mixed"])
    tensors = HostTensors(shapes, torch.float32, torch.device("cuda"))
    tensors.fetch("t0", then="t1")
    tensors.resting()["t1"].fill_(3.0)
    assert bool((tensors.fetch("t1", then="t2") == 3).all())
    for value in range(20):
        torch.cuda._sleep(1_000_000)
        tensors.store("t2", torch.full(shapes["t2"], float(value), device="cuda"))  # freed at once
        torch.full(shapes["t2"], -1.0, device="cuda")  # wants the same memory
        assert bool((tensors.fetch("t2", then="t0") == value).all())


@pytest.mark.parametrize("moments", ["fp32", "bf16"])
def test_adamw_on_the_card_is_adamw_on_a_cpu(moments):
    shapes = named([(513, 257), (64, 32, 3, 3), (11,), ()])
    settings = AdamWSettings(weight_decay=0.01, moments=moments)
    masters, optimizers = {}, {}
    for device in ("cpu", "cuda"):
        generator = torch.Generator().manual_seed(0)
        optimizers[device] = AdamW(shapes, settings, torch.device(device), seed=3)
        masters[device] = {n: torch.randn(s, generator=generator).to(device) for n, s in shapes.items()}
        for _ in range(5):
            optimizers[device].begin_step()
            for name, shape in shapes.items():
                gradient = torch.randn(shape, generator=generator).to(device)
                optimizers[device].update(name, masters[device][name], gradient, 1e-2)
    for name in shapes:
        # A moment that the card computes one fp32 step away may round to the other bf16 neighbour.
        close = {"rtol": 1e-5, "atol": 1e-6} if moments == "fp32" else {"rtol": 0.0, "atol": 2e-3}
        torch.testing.assert_close(masters["cuda"][name].cpu(), masters["cpu"][name], **close)
    ours, theirs = optimizers["cuda"].state_dict(), optimizers["cpu"].state_dict()
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        rounded = {"rtol": 0.02, "atol": 2e-3 if key.endswith(".m") else 1e-6}
        close = {"rtol": 1e-5, "atol": 1e-7} if moments == "fp32" else rounded
        torch.testing.assert_close(ours[key].cpu(), tensor, **close)
