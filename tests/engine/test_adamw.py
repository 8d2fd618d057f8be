"""AdamW against torch's own, bit for bit; its bf16 moments and its cautions against formulas."""

import pytest
import torch

from engine.optim import pieces
from engine.optim.adamw import AdamW, AdamWSettings
from engine.optim.optimizer import Caution
from tests.engine import optimizers
from tests.engine.optimizers import CPU, SHAPES, Transients, bits, gradients, normal, take

TABLE = {"table": torch.Size((6, 64))}
BY_ROWS = {"table": Caution(row_wise=True)}


def torchs(masters, settings, lr):
    parameters = {name: torch.nn.Parameter(master.clone()) for name, master in masters.items()}
    return parameters, torch.optim.AdamW(
        parameters.values(),
        lr=lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        foreach=False,
        fused=False,
    )


@pytest.mark.parametrize("piece", [pieces.PIECE, 4096])
@pytest.mark.parametrize(
    ("settings", "lr"),
    [
        (AdamWSettings(), 1e-2),
        (AdamWSettings(weight_decay=0.1), 8e-7),
        (AdamWSettings(beta1=0.95, beta2=0.98, epsilon=1e-6, weight_decay=0.01), 1e-3),
        (AdamWSettings(beta1=0.0, beta2=0.5), 0.3),
        (AdamWSettings(weight_decay=0.01), 0.0),
    ],
)
def test_weights_and_moments_are_torchs_bit_for_bit(monkeypatch, piece, settings, lr):
    monkeypatch.setattr(pieces, "PIECE", piece)
    shapes = SHAPES | {"long": torch.Size((131, 277))}
    masters = normal(shapes, 1)
    parameters, reference = torchs(masters, settings, lr)
    optimizer = AdamW(shapes, settings, CPU)
    for step in range(1, 6):
        for name, gradient in gradients(shapes, step).items():
            parameters[name].grad = gradient
        reference.step()
        take(optimizer, masters, [step], lr=lr)
        assert bits(masters) == bits(parameters)
    state = optimizer.state_dict()
    for name, parameter in parameters.items():
        kept = reference.state[parameter]
        assert torch.equal(state[f"{name}.m"], kept["exp_avg"]) and torch.equal(state[f"{name}.v"], kept["exp_avg_sq"])
        assert int(state["taken"]) == int(kept["step"])


def test_a_tensor_that_begins_late_or_rests_is_torchs_too():
    """torch counts each parameter's own steps: bias correction must not take old moments for new ones."""
    settings, shapes = AdamWSettings(weight_decay=0.1), {"early": torch.Size((5, 3)), "late": torch.Size((7,))}
    masters = normal(shapes, 1)
    parameters, reference = torchs(masters, settings, 1e-2)
    optimizer = AdamW(shapes, settings, CPU)
    for step in range(1, 12):
        optimizer.begin_step()
        for name, gradient in gradients(shapes, step).items():
            learns = name == "early" or step > 5
            parameters[name].grad = gradient.clone() if learns else None
            if learns:
                optimizer.update(name, masters[name], gradient, 1e-2)
        reference.step()
        assert bits(masters) == bits(parameters)


def test_the_change_is_reported_without_weight_decay():
    optimizer = AdamW(SHAPES, AdamWSettings(weight_decay=0.1), CPU)
    masters = normal(SHAPES, 1)
    for step in range(1, 4):
        optimizer.begin_step()
        for name, gradient in gradients(SHAPES, step).items():
            before = masters[name].double() * (1 - 1e-2 * 0.1)
            moved = optimizer.update(name, masters[name], gradient, 1e-2)
            expected = float((masters[name].double() - before).norm())
            assert moved.shape == () and float(moved) == pytest.approx(expected, rel=1e-3)


def test_bf16_moments_are_within_their_rounding_and_a_second_moment_can_shrink():
    shapes = {"w": torch.Size((64, 64))}
    coarse, fine = AdamW(shapes, AdamWSettings(moments="bf16"), CPU), AdamW(shapes, AdamWSettings(), CPU)
    generator = torch.Generator().manual_seed(2)
    nearest = torch.zeros(())
    for step in range(1, 601):
        gradient = torch.randn(64, 64, generator=generator) * (1.0 if step <= 100 else 0.0)
        nearest = torch.tensor(1.0) if step == 100 else (nearest * 0.999).bfloat16().float()
        for optimizer in (coarse, fine):
            optimizer.begin_step()
            optimizer.update("w", torch.zeros(64, 64), gradient.clone(), 1e-3)
    ours, exact = coarse.state_dict(), fine.state_dict()
    assert ours["w.m"].dtype == ours["w.v"].dtype == torch.bfloat16
    assert float(nearest) > 0.99  # rounded to the nearest it would not have moved
    # exact has shrunk to 0.999^500 = 0.61 of itself; 4096 independent walks agree with it on average
    assert float(ours["w.v"].double().mean() / exact["w.v"].double().mean()) == pytest.approx(1.0, abs=0.01)
    spread = (ours["w.v"].double() / exact["w.v"].double() - 1).square().mean().sqrt()
    assert float(spread) < 0.1


def test_bf16_moments_are_the_same_in_pieces_of_any_size(monkeypatch):
    stored = []
    for piece in (pieces.PIECE, 24):
        monkeypatch.setattr(pieces, "PIECE", piece)
        optimizer, masters = AdamW(SHAPES, AdamWSettings(moments="bf16"), CPU), normal(SHAPES, 1)
        take(optimizer, masters, range(1, 4))
        stored.append([bits(masters), bits(optimizer.state_dict())])
    assert stored[0] == stored[1]


def test_both_bf16_moments_are_rounded_by_chances_of_their_own():
    optimizer = AdamW({"w": torch.Size((40_000,))}, AdamWSettings(beta1=0.5, beta2=0.5, moments="bf16"), CPU)
    optimizer.begin_step()
    optimizer.update("w", torch.zeros(40_000), torch.full((40_000,), 1.0 + 2.0**-8), 1e-3)
    state = optimizer.state_dict()
    together = torch.corrcoef(torch.stack([state["w.m"].double(), state["w.v"].double()]))
    assert abs(float(together[0, 1])) < 5 / 40_000**0.5


def test_the_weights_of_bf16_moments_follow_those_of_fp32():
    coarse, fine = normal(SHAPES, 1), normal(SHAPES, 1)
    take(AdamW(SHAPES, AdamWSettings(moments="bf16"), CPU), coarse, range(1, 6))
    take(AdamW(SHAPES, AdamWSettings(), CPU), fine, range(1, 6))
    for name, master in coarse.items():
        torch.testing.assert_close(master, fine[name], rtol=0, atol=5 * 1e-2 * 0.05)  # 5 steps, 5 % of each


def test_rows_follow_the_formula_each_with_its_own_count(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 128)
    cautions = {"table": Caution(row_wise=True, element_clip=0.9, most_kept=0.99)}
    optimizer = AdamW(TABLE, AdamWSettings(weight_decay=0.1), CPU, cautions=cautions)
    master = normal(TABLE, 1)["table"]
    reference, counts = master.double(), [0] * 6
    first, second = torch.zeros(6, 64, dtype=torch.float64), torch.zeros(6, 64, dtype=torch.float64)
    for step in range(1, 9):
        gradient = gradients(TABLE, step)["table"]
        gradient[step % 6], gradient[5] = 0.0, 0.0
        for row in range(6):
            if not gradient[row].any():
                continue
            exact, counts[row] = gradient[row].double(), counts[row] + 1
            first[row] = 0.9 * first[row] + 0.1 * exact
            second[row] = 0.99 * second[row] + 0.01 * exact.square()
            update = first[row] / (1 - 0.9 ** counts[row])
            update /= (second[row] / (1 - 0.99 ** counts[row])).sqrt() + 1e-8
            reference[row] = reference[row] * (1 - 1e-2 * 0.1) - 1e-2 * update.clamp(-0.9, 0.9)
        optimizer.begin_step()
        optimizer.update("table", master, gradient, 1e-2)
        torch.testing.assert_close(master.double(), reference, rtol=1e-5, atol=1e-6)
    assert optimizer.state_dict()["table.counts"].tolist() == counts and min(counts) == 0


@pytest.mark.parametrize("moments", ["fp32", "bf16"])
def test_resting_rows_stay_bit_for_bit(moments):
    optimizer = AdamW(TABLE, AdamWSettings(weight_decay=0.1, moments=moments), CPU, cautions=BY_ROWS)
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


def test_no_element_moves_beyond_its_clip():
    optimizer = AdamW(SHAPES, AdamWSettings(), CPU, cautions={"linear": Caution(element_clip=0.5)})
    masters = {"linear": torch.zeros(SHAPES["linear"])}
    for step in range(1, 4):
        before = masters["linear"].clone()
        take(optimizer, masters, [step], lr=1.0)
        assert float((masters["linear"] - before).abs().max()) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(("moments", "most"), [("fp32", 1), ("bf16", 4)])
def test_a_step_needs_a_few_pieces_however_large_the_tensor_is(monkeypatch, moments, most):
    monkeypatch.setattr(pieces, "PIECE", 4096)
    shapes = {"w": torch.Size((512, 16, 3, 3)), "table": torch.Size((1000, 64))}
    optimizer = AdamW(shapes, AdamWSettings(moments=moments, weight_decay=0.1), CPU, cautions=BY_ROWS)
    masters, given = normal(shapes, 1), gradients(shapes, 1)
    optimizer.begin_step()
    for name, master in masters.items():
        with Transients() as transients:
            optimizer.update(name, master, given[name], 1e-3)
        assert 4096 * 4 <= transients.peak <= most * 4096 * 4 + 4096, name


def cautious(moments):
    settings = AdamWSettings(weight_decay=0.1, moments=moments)
    return AdamW(SHAPES | TABLE, settings, CPU, cautions=BY_ROWS, seed=7)


@pytest.mark.parametrize("moments", ["fp32", "bf16"])
def test_a_resumed_run_is_bit_for_bit_the_unbroken_one(tmp_path, moments):
    path = tmp_path / "state.safetensors"
    optimizers.assert_resumed_is_unbroken(lambda: cautious(moments), path, SHAPES | TABLE)


@pytest.mark.parametrize("moments", ["fp32", "bf16"])
def test_all_state_is_there_from_the_start(moments):
    optimizers.assert_all_state_is_there_from_the_start(cautious(moments), SHAPES | TABLE)


@pytest.mark.parametrize("moments", ["fp32", "bf16"])
def test_a_rehearsal_changes_nothing(moments):
    optimizers.assert_a_rehearsal_changes_nothing(cautious(moments), SHAPES | TABLE)


def test_state_is_restored_whole_or_not_at_all():
    first = cautious("fp32")
    take(first, normal(SHAPES | TABLE, 1), range(1, 4))
    state = first.state_dict()
    for moments, wrong, named in (
        ("bf16", state, r"m is float32 .*, not bfloat16"),
        ("fp32", state | {"table.counts": torch.zeros(6)}, r"table\.counts is float32 \(6,\), not int64 \(6,\)"),
        ("fp32", state | {"scalar.v": torch.zeros(1)}, r"scalar\.v is float32 \(1,\), not float32 \(\)"),
        ("fp32", {key: tensor for key, tensor in state.items() if not key.endswith(".m")}, "m and 3 more"),
        ("fp32", state | {"b.v": torch.zeros(1)}, r"has b\.v, of no use"),
    ):
        untouched = cautious(moments)
        nothing = bits(untouched.state_dict())
        with pytest.raises(ValueError, match=named):
            untouched.load_state_dict(wrong)
        assert bits(untouched.state_dict()) == nothing and untouched.taken == 0
