"""Stochastic rounding: right on average, never far off, and a function of (key, element) alone."""

import math

import pytest
import torch

from engine.contract.seeding import derive
from engine.optim.rounding import stochastic_bf16

KEY = derive(0, "rounding", 1)
GREATEST = torch.finfo(torch.bfloat16).max


def below(values):
    """The next bf16 towards zero, or the value itself."""
    return (values.view(torch.int32) & -0x10000).view(torch.float32)


def above(values):
    """The next bf16 away from zero."""
    return ((values.view(torch.int32) & -0x10000) + 0x10000).view(torch.float32)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("share", [0.004, 0.3, 0.5, 0.97])
def test_rounding_is_unbiased(sign, share):
    low, step, count = 0.015625, 2.0**-13, 400_000
    values = torch.full((count,), sign * (low + share * step))
    rounded = stochastic_bf16(values, KEY).double() * sign
    assert set(rounded.unique().tolist()) == {low, low + step}
    ups = int((rounded > low).sum())
    assert abs(ups - share * count) < 5 * math.sqrt(count * share * (1 - share))  # one in a million by chance


def test_rounding_moves_no_value_beyond_its_two_neighbours():
    generator = torch.Generator().manual_seed(1)
    bits = torch.randint(-(2**31), 2**31 - 1, (1_000_000,), generator=generator, dtype=torch.int64).to(torch.int32)
    values = bits.view(torch.float32)
    values = values[values.abs() < GREATEST]
    rounded = stochastic_bf16(values, KEY).float()
    assert bool(((rounded == below(values)) | (rounded == above(values))).all())


def test_what_bf16_can_hold_stays():
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    numbers = every[~every.isnan()]
    for step in range(3):
        rounded = stochastic_bf16(numbers.float(), derive(0, "w", step))
        assert torch.equal(rounded.view(torch.int16), numbers.view(torch.int16))


def test_finite_stays_finite_and_the_others_what_they_are():
    top = torch.nextafter(torch.tensor(torch.inf), torch.tensor(0.0))
    values = torch.tensor([top, -top, GREATEST, -GREATEST, torch.inf, -torch.inf, torch.nan]).repeat(1000)
    rounded = stochastic_bf16(values, KEY).view(-1, 7).float()
    expected = torch.tensor([GREATEST, -GREATEST, GREATEST, -GREATEST, torch.inf, -torch.inf, torch.nan])
    assert torch.equal(rounded.nan_to_num(7.0), expected.nan_to_num(7.0).expand(1000, 7))


@pytest.mark.parametrize("cut", [1, 7, 64, 4096])
def test_pieces_round_as_the_whole_does(cut):
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(2))
    whole = stochastic_bf16(values.view(100, 100), KEY)
    pieces = [stochastic_bf16(piece, KEY, start=at * cut) for at, piece in enumerate(values[: 30 * cut].split(cut))]
    together = torch.cat(pieces)
    assert whole.shape == (100, 100) and torch.equal(together, whole.view(-1)[: len(together)])


def test_the_bits_are_these_on_every_device():
    """Worked out by the published 32-bit finalizer in Python's own integers."""

    def mixed(counter):
        for half in (KEY & 0xFFFFFFFF, KEY >> 32):
            counter ^= half
            counter = ((counter ^ (counter >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
            counter = ((counter ^ (counter >> 15)) * 0x846CA68B) & 0xFFFFFFFF
            counter ^= counter >> 16
        return counter & 0xFFFF

    start = 29_000_000
    values = torch.randn(500, generator=torch.Generator().manual_seed(3))
    bits = values.view(torch.int32).tolist()
    expected = [(bit + mixed(start + at)) >> 16 for at, bit in enumerate(bits)]
    assert stochastic_bf16(values, KEY, start=start).view(torch.int16).tolist() == expected


def test_draws_of_different_keys_and_of_neighbours_are_independent():
    count = 200_000
    values = torch.full((count,), 1.0 + 2.0**-8)  # half a step above 1
    draws = [stochastic_bf16(values, derive(0, name, step)).double() for name in ("a", "b") for step in (1, 2)]
    together = torch.corrcoef(torch.stack([*draws, draws[0].roll(1), draws[0].roll(256)]))
    assert float((together - torch.eye(6)).abs().max()) < 5 / math.sqrt(count)


def test_torchs_own_generator_is_left_alone():
    before = torch.get_rng_state()
    values = torch.randn(64, generator=torch.Generator().manual_seed(4))
    kept = values.clone()
    stochastic_bf16(values, KEY)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(values, kept)
