"""The split master, bit by bit."""

import torch

from engine.optim.precision import join, split


def test_split_master_is_exact_for_every_pattern_of_exponent_and_many_mantissas():
    generator = torch.Generator().manual_seed(1)
    bits = torch.randint(-(2**31), 2**31 - 1, (2_000_000,), generator=generator, dtype=torch.int64).to(torch.int32)
    values = bits.view(torch.float32)
    values = values[values.isfinite() & (values.abs() < 3.3e38)]
    edges = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1.0, -1.0, 1.00390625, 65504.0, 1.1754944e-38])
    values = torch.cat([values, edges])
    high, low = split(values)
    assert high.dtype == torch.bfloat16 and low.dtype == torch.int16
    assert torch.equal(join(high, low).view(torch.int32), values.view(torch.int32))


def test_high_half_is_the_nearest_bf16():
    values = torch.randn(1_000_000, generator=torch.Generator().manual_seed(2)) * 0.02
    high, _ = split(values)
    nearest = values.bfloat16()
    ties = (values.view(torch.int32) & 0xFFFF) == 0x8000  # exact ties go away from zero instead of to even
    assert torch.equal(high[~ties], nearest[~ties]) and ties.sum() < 100


def test_updates_far_below_a_bf16_step_add_up():
    """At a rate of 8e-7 rounding to bf16 loses all but 2 % of the movement; the split master loses none."""
    weight = torch.randn(4096, generator=torch.Generator().manual_seed(3)) * 0.02
    high, low = split(weight)
    reference, rounded = weight.clone(), weight.bfloat16()
    for _ in range(500):
        reference -= 8e-7
        rounded = (rounded.float() - 8e-7).bfloat16()
        high, low = split(join(high, low) - 8e-7)
    assert torch.equal(join(high, low), reference)
    moved = (weight.bfloat16() - rounded).float().mean() / (weight - reference).mean()
    assert moved < 0.2


def test_a_master_stored_the_other_way_round_is_split_and_joined():
    master = torch.randn(6, 4).t()
    assert torch.equal(join(*split(master)), master)
