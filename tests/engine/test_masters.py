"""The four kinds of masters: what is kept, what the network computes with, and what an update leaves behind."""

import pytest
import torch
from torch import nn

from engine.contract.rounding_loss import share_lost
from engine.contract.sections import MasterKind
from engine.optim.masters import Masters

KINDS: tuple[MasterKind, ...] = ("split", "fp32", "stochastic", "nearest")
CPU = torch.device("cpu")


def weights(shape=(64, 48), dtype=torch.bfloat16, seed=0) -> dict[str, nn.Parameter]:
    draw = torch.Generator().manual_seed(seed)
    return {"w": nn.Parameter((torch.randn(shape, generator=draw) * 0.02).to(dtype))}


def start(kind: MasterKind, base: torch.Tensor, seed: int = 0) -> tuple[Masters, dict[str, nn.Parameter]]:
    parameters = weights(tuple(base.shape))
    masters = Masters(parameters, kind, device=CPU, seed=seed)
    masters.start("w", base)
    return masters, parameters


@pytest.mark.parametrize("kind", ["split", "fp32"])
def test_a_finer_base_is_kept_bit_for_bit_and_the_network_has_its_nearest_bf16(kind):
    base = weights(dtype=torch.float32)["w"].detach()
    masters, parameters = start(kind, base)
    assert torch.equal(masters.read("w"), base)
    assert torch.equal(parameters["w"].detach(), base.bfloat16())


def test_split_and_fp32_are_one_run():
    """Ties included: half a bf16 step above 1 and above the next number."""
    for base in (torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8]), weights(dtype=torch.float32)["w"].detach()):
        _, ours = start("split", base.reshape(1, -1))
        _, theirs = start("fp32", base.reshape(1, -1))
        assert torch.equal(ours["w"].detach(), theirs["w"].detach())


@pytest.mark.parametrize("kind", ["stochastic", "nearest"])
def test_what_keeps_nothing_starts_from_the_nearest_bf16(kind):
    base = weights(dtype=torch.float32)["w"].detach()
    masters, parameters = start(kind, base)
    assert torch.equal(masters.read("w"), base.bfloat16().float())
    assert torch.equal(parameters["w"].detach(), base.bfloat16())


@pytest.mark.parametrize("kind", ["split", "fp32"])
def test_a_thousand_small_updates_arrive_as_in_fp32(kind):
    base = weights(dtype=torch.float32)["w"].detach()
    masters, _ = start(kind, base)
    reference = base.clone()
    draw = torch.Generator().manual_seed(1)
    for step in range(1, 1001):
        change = torch.randn(base.shape, generator=draw) * 8e-7
        reference += change
        master = masters.read("w")
        master += change
        masters.write("w", master, step)
    assert torch.equal(masters.read("w"), reference)


def test_nearest_loses_what_stochastic_keeps_on_average():
    base = weights((256, 256), dtype=torch.float32)["w"].detach().bfloat16().float()
    moved = {}
    for kind in ("nearest", "stochastic"):
        masters, _ = start(kind, base)
        for step in range(1, 201):
            master = masters.read("w")
            master += 8e-7
            masters.write("w", master, step)
        moved[kind] = float((masters.read("w") - base).mean()) / (200 * 8e-7)
    assert moved["nearest"] < 0.1
    assert moved["stochastic"] == pytest.approx(1.0, abs=0.02)


def test_chance_is_a_function_of_seed_step_and_name():
    base = weights(dtype=torch.float32)["w"].detach()

    def rounded(seed: int, step: int) -> torch.Tensor:
        masters, parameters = start("stochastic", base, seed)
        masters.write("w", base, step)
        return parameters["w"].detach()

    state = torch.get_rng_state()
    assert torch.equal(rounded(1, 5), rounded(1, 5))
    assert not torch.equal(rounded(1, 5), rounded(1, 6))
    assert not torch.equal(rounded(1, 5), rounded(2, 5))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_an_fp32_network_is_its_own_master(kind):
    parameters = weights(dtype=torch.float32)
    masters = Masters(parameters, kind, device=CPU, seed=0)
    assert masters.read("w").data_ptr() == parameters["w"].data_ptr()
    masters.write("w", parameters["w"].detach() + 1, 1)
    assert torch.equal(parameters["w"].detach(), weights(dtype=torch.float32)["w"].detach() + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_outlives_the_next_write(kind):
    masters, _ = start(kind, weights(dtype=torch.float32)["w"].detach())
    kept = masters.copy("w")
    before = kept.clone()
    masters.write("w", masters.read("w") * 2, 1)
    assert torch.equal(kept, before)


def test_large_tensors_are_split_in_pieces_and_joined_the_same(monkeypatch):
    base = weights((100, 33), dtype=torch.float32)["w"].detach()
    monkeypatch.setattr("engine.optim.pieces.PIECE", 64)
    masters, parameters = start("split", base)
    assert torch.equal(masters.read("w"), base)
    assert torch.equal(parameters["w"].detach(), base.bfloat16())


def test_the_share_of_lost_updates_is_what_rounding_normal_updates_loses():
    """Counted one by one, and the same as the check's estimate for weights of that spread."""
    parameters = weights((512, 64))
    values = parameters["w"].detach().float()
    masters = Masters(parameters, "nearest", device=CPU, seed=0)
    draw = torch.Generator().manual_seed(1)
    for rate in (8e-7, 1e-5, 1e-4):
        updates = torch.randn(values.shape, generator=draw) * rate
        lost = float(((values + updates).bfloat16() == values.bfloat16()).float().mean())
        assert masters.share_lost(lambda _, rate=rate: rate) == pytest.approx(lost, abs=0.01)
        assert masters.share_lost(lambda _, rate=rate: rate) == pytest.approx(share_lost(rate), abs=0.01)
    assert masters.share_lost(lambda _: 0.0) == pytest.approx(1.0, abs=1e-3)
