"""Adafactor against the paper's algorithm in float64, whole and in pieces; its cautions and its state."""

import pytest
import torch

from engine.optim import pieces
from engine.optim.adafactor import Adafactor, AdafactorSettings
from engine.optim.optimizer import Caution
from tests.engine import optimizers
from tests.engine.optimizers import CPU, SHAPES, Transients, bits, gradients, normal, take

TABLE = {"table": torch.Size((6, 64))}
BY_ROWS = {"table": Caution(row_wise=True)}


def paper_step(weight, gradient, state, *, step, lr, exponent=0.8, clip=1.0, decay=0.0, momentum=0.0):
    """Shazeer and Stern 2018, algorithms 4 and 5, in float64; a convolution is the matrix [O, I*kh*kw]."""
    keep = 1 - step**-exponent
    matrix = gradient.double().reshape(gradient.shape[0], -1) if gradient.dim() > 1 else gradient.double().reshape(-1)
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
    if momentum:
        update = state["m"] = momentum * state.get("m", 0) + (1 - momentum) * update
    return weight * (1 - lr * decay) - lr * update.view_as(weight)


@pytest.mark.parametrize("piece", [pieces.PIECE, 40, 1])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_six_steps_equal_the_paper_in_pieces_of_any_size(monkeypatch, piece, decay):
    monkeypatch.setattr(pieces, "PIECE", piece)
    optimizer = Adafactor(SHAPES, AdafactorSettings(weight_decay=decay), CPU)
    masters = normal(SHAPES, 1)
    reference, states = {name: master.double() for name, master in masters.items()}, {name: {} for name in SHAPES}
    for step in range(1, 7):
        optimizer.begin_step()
        for name, gradient in gradients(SHAPES, step).items():
            before = reference[name] * (1 - 1e-2 * decay)
            reference[name] = paper_step(reference[name], gradient, states[name], step=step, lr=1e-2, decay=decay)
            moved = optimizer.update(name, masters[name], gradient, 1e-2)
            assert float(moved) == pytest.approx(float((reference[name] - before).norm()), rel=1e-4)
    for name, master in masters.items():
        torch.testing.assert_close(master.double(), reference[name], rtol=1e-5, atol=1e-6)


def test_momentum_equals_the_formula_within_the_rounding_of_bf16():
    optimizer = Adafactor(SHAPES, AdafactorSettings(momentum=0.9), CPU)
    masters = normal(SHAPES, 1)
    reference, states = {name: master.double() for name, master in masters.items()}, {name: {} for name in SHAPES}
    errors = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in SHAPES.items()}
    bounds = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in SHAPES.items()}
    for step in range(1, 7):
        optimizer.begin_step()
        for name, gradient in gradients(SHAPES, step).items():
            reference[name] = paper_step(reference[name], gradient, states[name], step=step, lr=1e-2, momentum=0.9)
            optimizer.update(name, masters[name], gradient, 1e-2)
            # The moment was rounded by less than a bf16 step, 2^-7 of it at most, on top of what it was off before.
            bounds[name] += 1e-2 * 0.9 * errors[name]
            moment = states[name]["m"].view_as(bounds[name]).abs()
            errors[name] = 0.9 * errors[name] + 2.0**-7 * (moment + 0.9 * errors[name])
            difference = (masters[name].double() - reference[name]).abs()
            assert bool((difference <= bounds[name] + 1e-5).all()), (name, step)
            stored = optimizer.state_dict()[f"{name}.m"].double()
            assert bool(((stored - states[name]["m"].view_as(stored)).abs() <= errors[name] + 1e-6).all())


def test_the_momentum_is_rounded_alike_in_pieces_of_any_size(monkeypatch):
    stored = []
    for piece in (pieces.PIECE, 5):
        monkeypatch.setattr(pieces, "PIECE", piece)
        # Without the clip, whose sum depends on the pieces in its last bit, a vector's elements are independent.
        settings = AdafactorSettings(clip_threshold=torch.inf, momentum=0.9)
        optimizer = Adafactor({"vector": torch.Size((1000,))}, settings, CPU)
        take(optimizer, normal({"vector": torch.Size((1000,))}, 1), range(1, 4))
        stored.append(bits(optimizer.state_dict()))
    assert stored[0] == stored[1]


def test_a_step_needs_a_few_pieces_however_large_the_tensor_is(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 4096)
    shapes = {"w": torch.Size((512, 16, 3, 3)), "long": torch.Size((80_000,)), "table": torch.Size((1000, 64))}
    for momentum, most in ((0.0, 2), (0.9, 4)):
        settings = AdafactorSettings(momentum=momentum, weight_decay=0.1)
        optimizer = Adafactor(shapes, settings, CPU, cautions=BY_ROWS)
        masters, given = normal(shapes, 1), gradients(shapes, 1)
        optimizer.begin_step()
        for name, master in masters.items():
            with Transients() as transients:
                optimizer.update(name, master, given[name], 1e-3)
            vectors = 8 * 4 * 1000  # factors and masks, a number a row
            assert 4096 * 4 <= transients.peak <= most * 4096 * 4 + vectors, (name, momentum)
            assert transients.peak < master.nbytes / 2


def test_a_spike_moves_no_weight_by_more_than_the_clip():
    optimizer = Adafactor({"w": torch.Size((64, 64))}, AdafactorSettings(), CPU)
    weight = torch.zeros(64, 64)
    for gradient in (torch.randn(64, 64), torch.randn(64, 64) * 1e4):
        before = weight.clone()
        optimizer.begin_step()
        optimizer.update("w", weight, gradient, 1e-3)
        assert (weight - before).norm() <= 1e-3 * 64 * 1.0001


def test_a_rate_of_zero_changes_the_moments_alone():
    settings = AdafactorSettings(weight_decay=0.1, momentum=0.5)
    optimizer = Adafactor(SHAPES | TABLE, settings, CPU, cautions=BY_ROWS)
    masters = normal(SHAPES | TABLE, 1)
    before = bits(masters)
    take(optimizer, masters, range(1, 3), lr=0.0)
    assert bits(masters) == before
    assert all(bool(tensor.isfinite().all() and tensor.any()) for tensor in optimizer.state_dict().values())


def test_second_moments_of_a_convolution_are_factored_over_its_flattened_kernel():
    optimizer = Adafactor({"w": torch.Size((320, 640, 3, 3))}, AdafactorSettings(), CPU)
    assert sum(tensor.numel() for name, tensor in optimizer.state_dict().items() if name != "taken") == 320 + 640 * 9


def late_row(cautions):
    """RMS, in learning rates, of a row's first move at step 400, when the others have had a gradient all along."""
    shape = torch.Size((512, 16))
    optimizer = Adafactor({"table": shape}, AdafactorSettings(), CPU, cautions=cautions)
    generator = torch.Generator().manual_seed(5)
    master = before = torch.zeros(shape)
    for step in range(1, 401):
        gradient = torch.randn(shape, generator=generator)
        gradient[5] *= step == 400
        before = master.clone()
        optimizer.begin_step()
        optimizer.update("table", master, gradient, 1e-3)
    return float((master - before)[5].square().mean().sqrt()) / 1e-3


def test_a_row_first_seen_late_moves_no_further_than_the_clip():
    assert late_row(BY_ROWS) <= 1.0001
    assert late_row({}) > 5


@pytest.mark.parametrize("piece", [pieces.PIECE, 128])
def test_rows_follow_the_formula_each_with_its_own_count(monkeypatch, piece):
    monkeypatch.setattr(pieces, "PIECE", piece)
    cautions = {"table": Caution(row_wise=True, element_clip=1.5, most_kept=0.6)}
    optimizer = Adafactor(TABLE, AdafactorSettings(weight_decay=0.1), CPU, cautions=cautions)
    master = normal(TABLE, 1)["table"]
    reference, moments, counts = master.double(), [0.0] * 6, [0] * 6
    for step in range(1, 9):
        gradient = gradients(TABLE, step)["table"]
        gradient[step % 6], gradient[5] = 0.0, 0.0
        for row in range(6):
            if not gradient[row].any():
                continue
            exact, counts[row] = gradient[row].double(), counts[row] + 1
            kept = min(1 - counts[row] ** -0.8, 0.6)
            moments[row] = kept * moments[row] + (1 - kept) * float(exact.square().mean())
            update = exact / moments[row] ** 0.5
            update = update / max(1.0, float(update.square().mean().sqrt()))
            reference[row] = reference[row] * (1 - 1e-2 * 0.1) - 1e-2 * update.clamp(-1.5, 1.5)
        optimizer.begin_step()
        optimizer.update("table", master, gradient, 1e-2)
        torch.testing.assert_close(master.double(), reference, rtol=1e-5, atol=1e-6)
    assert optimizer.state_dict()["table.counts"].tolist() == counts and min(counts) == 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_resting_rows_stay_bit_for_bit(momentum):
    settings = AdafactorSettings(weight_decay=0.1, momentum=momentum)
    optimizer = Adafactor(TABLE, settings, CPU, cautions=BY_ROWS)
    masters = normal(TABLE, 1)
    take(optimizer, masters, range(1, 3))
    masters["table"][4:, :8] = -0.0
    gradient = gradients(TABLE, 9)["table"]
    gradient[3:] = -0.0

    def resting():
        return bits({key: tensor[3:] for key, tensor in (optimizer.state_dict() | masters).items() if key != "taken"})

    before, moving = resting(), masters["table"][:3].clone()
    optimizer.begin_step()
    optimizer.update("table", masters["table"], gradient, 1e-2)
    assert resting() == before
    assert bool((masters["table"][:3] != moving).all())


def test_no_element_moves_beyond_its_clip_and_no_more_is_kept_than_allowed():
    caution = {"linear": Caution(element_clip=0.5, most_kept=0.25)}
    optimizer = Adafactor(SHAPES, AdafactorSettings(), CPU, cautions=caution)
    masters = {"linear": torch.zeros(SHAPES["linear"])}
    rows = torch.zeros(12, dtype=torch.float64)
    for step in range(1, 6):
        before = masters["linear"].clone()
        take(optimizer, masters, [step], lr=1.0)
        farthest = float((masters["linear"] - before).abs().max())
        assert farthest == pytest.approx(0.5, rel=1e-5) if step <= 3 else farthest < 0.5  # the spike is remembered
        kept = min(1 - step**-0.8, 0.25)
        gradient = gradients({"linear": SHAPES["linear"]}, step)["linear"].double()
        rows = kept * rows + (1 - kept) * gradient.square().mean(1)
    torch.testing.assert_close(optimizer.state_dict()["linear.rows"].double(), rows, rtol=1e-5, atol=0)


def cautious(momentum=0.9):
    settings = AdafactorSettings(weight_decay=0.1, momentum=momentum)
    return Adafactor(SHAPES | TABLE, settings, CPU, cautions=BY_ROWS, seed=7)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_resumed_run_is_bit_for_bit_the_unbroken_one(tmp_path, momentum):
    path = tmp_path / "state.safetensors"
    optimizers.assert_resumed_is_unbroken(lambda: cautious(momentum), path, SHAPES | TABLE)


def test_all_state_is_there_from_the_start():
    optimizers.assert_all_state_is_there_from_the_start(cautious(), SHAPES | TABLE)


def test_a_rehearsal_changes_nothing():
    optimizers.assert_a_rehearsal_changes_nothing(cautious(), SHAPES | TABLE)


def test_the_seed_decides_how_the_first_moment_is_rounded():
    stored = []
    for seed in (1, 1, 2):
        optimizer = Adafactor(SHAPES, AdafactorSettings(momentum=0.9), CPU, seed=seed)
        take(optimizer, normal(SHAPES, 1), [1])
        stored.append(bits(optimizer.state_dict()))
    assert stored[0] == stored[1] != stored[2]


def test_state_is_restored_whole_or_not_at_all():
    shapes = {"a": torch.Size((4, 3)), "b": torch.Size((5,))}
    first = Adafactor(shapes, AdafactorSettings(), CPU)
    take(first, normal(shapes, 1), range(1, 4))
    state = first.state_dict()
    assert set(state) == {"taken", "a.rows", "a.columns", "b.v"}  # as every version so far has written it
    second = Adafactor(shapes, AdafactorSettings(), CPU)
    second.load_state_dict({name: tensor.clone() for name, tensor in state.items()})
    assert second.taken == 3 and bits(second.state_dict()) == bits(state)
    untouched = Adafactor(shapes, AdafactorSettings(), CPU)
    nothing = bits(untouched.state_dict())
    for wrong, named in (
        (state | {"a.rows": state["a.rows"].bfloat16()}, r"a\.rows is bfloat16 \(4,\), not float32 \(4,\)"),
        (state | {"a.rows": torch.ones(5)}, r"a\.rows is float32 \(5,\), not float32 \(4,\)"),
        ({key: tensor for key, tensor in state.items() if key != "b.v"}, r"has no b\.v"),
        (state | {"a.m": torch.zeros(4, 3)}, r"has a\.m, of no use"),
    ):
        with pytest.raises(ValueError, match=named):
            untouched.load_state_dict(wrong)
        assert bits(untouched.state_dict()) == nothing and untouched.taken == 0


@pytest.mark.parametrize("size", [1e8, 1e15])
def test_a_row_without_a_gradient_beside_a_huge_one_stays_finite(size: float):
    """R C^T / mean(R) of the paper is; R / mean(R) alone is 0 there in fp32."""
    shapes = {"w": torch.Size((8, 8))}
    optimizer, master = Adafactor(shapes, AdafactorSettings(), CPU), torch.ones(8, 8)
    gradient = torch.full((8, 8), size)
    gradient[3] = 0.0
    optimizer.begin_step()
    optimizer.update("w", master, gradient, 1e-2)
    assert bool(torch.isfinite(master).all()) and bool((master[3] == 1).all()) and bool((master[0] < 1).all())
