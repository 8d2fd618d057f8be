"""Adafactor against the paper's algorithm in float64; the split master bit by bit."""

import pytest
import torch

from engine.optim.adafactor import Adafactor, AdafactorSettings
from engine.optim.precision import join, split


def paper_step(weight, gradient, state, *, step, lr, exponent=0.8, clip=1.0, decay=0.0):
    """Shazeer and Stern 2018, algorithms 4 and 5, in float64; a convolution is the matrix [O, I*kh*kw]."""
    keep = 1 - step**-exponent
    matrix = gradient.double().reshape(gradient.shape[0], -1) if gradient.dim() > 1 else gradient.double()
    square = matrix**2 + 1e-30
    if matrix.dim() == 1:
        state["v"] = keep * state.get("v", 0) + (1 - keep) * square
        update = matrix / state["v"].sqrt()
    else:
        # The paper sums; with means, as here, the estimate R C / mean(R) is the same matrix.
        state["r"] = keep * state.get("r", 0) + (1 - keep) * square.sum(1)
        state["c"] = keep * state.get("c", 0) + (1 - keep) * square.sum(0)
        update = matrix / (torch.outer(state["r"], state["c"]) / state["r"].sum()).sqrt()
    update = update / max(1.0, update.square().mean().sqrt().item() / clip)
    return weight * (1 - lr * decay) - lr * update.view_as(weight)


@pytest.mark.parametrize("shape", [(17,), (12, 7), (8, 4, 3, 3), (6, 5, 1, 1)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_five_steps_equal_the_paper(shape, decay):
    generator = torch.Generator().manual_seed(0)
    settings = AdafactorSettings(weight_decay=decay)
    optimizer = Adafactor({"w": torch.Size(shape)}, settings, torch.device("cpu"))
    ours = torch.randn(shape, generator=generator)
    reference, state = ours.double(), {}
    for step in range(1, 6):
        gradient = torch.randn(shape, generator=generator) * (50.0 if step == 3 else 0.01)
        optimizer.update("w", ours, gradient, 1e-2, optimizer.begin_step())
        reference = paper_step(reference, gradient, state, step=step, lr=1e-2, decay=decay)
    torch.testing.assert_close(ours.double(), reference, rtol=1e-5, atol=1e-6)


def test_a_spike_moves_no_weight_by_more_than_the_clip():
    optimizer = Adafactor({"w": torch.Size((64, 64))}, AdafactorSettings(), torch.device("cpu"))
    weight = torch.zeros(64, 64)
    for gradient in (torch.randn(64, 64), torch.randn(64, 64) * 1e4):
        before = weight.clone()
        optimizer.update("w", weight, gradient, 1e-3, optimizer.begin_step())
        assert (weight - before).norm() <= 1e-3 * 64 * 1.0001


def test_second_moments_of_a_convolution_are_factored_over_its_flattened_kernel():
    optimizer = Adafactor({"w": torch.Size((320, 640, 3, 3))}, AdafactorSettings(), torch.device("cpu"))
    assert sum(tensor.numel() for name, tensor in optimizer.state_dict().items() if name != "taken") == 320 + 640 * 9


def test_state_is_restored_whole_or_not_at_all():
    shapes = {"a": torch.Size((4, 3)), "b": torch.Size((5,))}
    first = Adafactor(shapes, AdafactorSettings(), torch.device("cpu"))
    for name, shape in shapes.items():
        first.update(name, torch.zeros(shape), torch.randn(shape), 1e-3, first.begin_step())
    second = Adafactor(shapes, AdafactorSettings(), torch.device("cpu"))
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    assert second.taken == first.taken
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)
    narrowed = dict(first.state_dict()) | {"a.rows": first.state_dict()["a.rows"].bfloat16()}
    untouched = Adafactor(shapes, AdafactorSettings(), torch.device("cpu"))
    with pytest.raises(ValueError, match=r"a\.rows"):
        untouched.load_state_dict(narrowed)
    assert untouched.taken == 0
    with pytest.raises(ValueError, match=r"b\.v"):
        untouched.load_state_dict({k: v for k, v in first.state_dict().items() if k != "b.v"})


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
