import numpy as np
import pytest
import torch
from torch import Tensor

from engine.model.rank import effective_rank, examine, grid, singular_values, stable_rank, ulp

FP16, BF16, FP32 = torch.float16, torch.bfloat16, torch.float32


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def weights(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Rows of unequal size, as in trained models."""
    return (torch.randn(rows, columns) * 0.03 * torch.exp(0.4 * torch.randn(rows, 1))).to(dtype)


def low_rank(rows: int, columns: int, rank: int) -> Tensor:
    """An adapter's product, elements of about unit size."""
    return torch.randn(rows, rank) @ torch.randn(rank, columns) / rank**0.5


def size_of(matrix: Tensor) -> float:
    return float(matrix.float().square().mean().sqrt())


def trained(before: Tensor, relative: float) -> Tensor:
    change = torch.randn(before.shape) * size_of(before) * relative
    return (before.float() + change).to(before.dtype)


def merged(before: Tensor, rank: int, relative: float) -> Tensor:
    change = low_rank(*before.shape, rank) * size_of(before) * relative
    return (before.float() + change).to(before.dtype)


# -- the numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 40), (30, 90), (90, 30)])
def test_ranks_agree_with_numpy_s_decomposition(shape):
    before = torch.randn(shape)
    after = before + torch.randn(shape) * torch.logspace(0, -3, shape[1])
    exact = np.linalg.svd((after - before).double().numpy(), compute_uv=False)
    shares = exact / exact.sum()
    found = examine("x", before, after)
    assert found.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
    assert found.stable_rank == pytest.approx((exact**2).sum() / exact[0] ** 2, rel=1e-9)
    np.testing.assert_allclose(singular_values(after - before).numpy(), exact, rtol=1e-6, atol=1e-7 * exact[0])


def test_effective_rank_of_equal_values_is_their_number():
    assert effective_rank(torch.ones(7)) == pytest.approx(7)
    assert effective_rank(torch.tensor([3.0, 0.0])) == pytest.approx(1)
    assert stable_rank(torch.tensor([2.0, 1.0, 1.0])) == pytest.approx(1.5)
    assert (effective_rank(torch.zeros(3)), stable_rank(torch.zeros(3))) == (0.0, 0.0)


def test_ulp_is_numpy_s_spacing():
    values = torch.tensor([1.0, 0.03, -0.03, 1e-5, 0.0, 1000.0, 2.0])
    for dtype, other in ((FP16, np.float16), (FP32, np.float32)):
        stored = values.to(dtype)
        np.testing.assert_array_equal(
            ulp(stored.float(), dtype).numpy(), np.spacing(np.abs(stored.numpy().astype(other)))
        )
    stored = values[values != 0].to(BF16)
    bits = stored.abs().view(torch.int16)
    gap = (bits + 1).view(BF16).float() - bits.view(BF16).float()
    assert torch.equal(ulp(stored.float(), BF16), gap)


def test_the_grid_is_the_coarsest_type_that_holds_the_numbers():
    numbers = torch.randn(64, 64)
    assert grid(numbers) == FP32
    assert grid(numbers.to(FP16)) == grid(numbers.to(FP16).float()) == FP16
    assert grid(numbers.to(BF16)) == grid(numbers.to(BF16).float()) == grid(numbers.to(BF16).to(FP16)) == BF16
    assert grid(numbers.to(torch.float8_e4m3fn)) == torch.float8_e4m3fn


# -- rounding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [FP16, BF16])
@pytest.mark.parametrize(("shape", "times"), [((32, 32), 40), ((64, 96), 25), ((200, 1000), 3)])
def test_rounding_alone_has_no_rank_and_the_energy_that_is_expected(dtype, shape, times):
    left = []
    for _ in range(times):
        before = weights(*shape, FP32)
        found = examine("x", before, before.to(dtype))
        assert (found.verdict, found.rank) == ("undecided", 0)
        left.append(found.left)
    assert sum(left) / times == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("deviation", [0.1, 0.3, 0.5, 2.0])
def test_the_error_of_a_small_change_is_what_the_formula_says(deviation):
    """Changes to numbers that lie on the grid, in units of an ulp."""
    change = torch.randn(1_000_000, dtype=torch.float64) * deviation
    series = sum((-1) ** k * np.exp(-2 * (np.pi * k * deviation) ** 2) / k**2 for k in range(1, 50))
    expected = 1 / 12 + series / np.pi**2
    assert float((change.round() - change).square().mean()) == pytest.approx(expected, rel=0.01)
    assert expected <= 1 / 12


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
@pytest.mark.parametrize("shape", [(64, 64), (96, 400), (400, 96)])
def test_training_every_number_is_full(dtype, shape):
    before = weights(*shape, dtype)
    assert examine("x", before, trained(before, 0.01)).verdict == "full"


@pytest.mark.parametrize(("dtype", "weak"), [(FP32, 1e-4), (FP16, 1e-3), (BF16, 6e-3)])
@pytest.mark.parametrize("rank", [4, 16, 64])
def test_a_merged_adapter_is_found_with_its_rank_whatever_its_strength(dtype, weak, rank):
    before = weights(320, 480, dtype)
    for strength in (weak, 0.05, 0.5):
        found = examine("x", before, merged(before, rank, strength))
        assert (found.verdict, found.rank) == ("low-rank", rank), strength


def test_rank_128_of_640_is_still_an_adapter():
    before = weights(640, 640, FP16)
    found = examine("x", before, merged(before, 128, 0.01))
    assert (found.verdict, found.rank) == ("low-rank", 128)


def test_where_the_spectrum_breaks_off_half_the_rank_is_still_an_adapter():
    before = weights(64, 64, FP16)
    found = examine("x", before, merged(before, 24, 0.05))
    assert (found.verdict, found.rank) == ("low-rank", 24)


def test_an_adapter_computed_in_half_precision_is_found_in_any_file():
    base, product = weights(256, 256, FP32), low_rank(256, 256, 16) * 3e-4
    for after in (
        base + product.to(BF16).float(),
        base + product.to(FP16).float(),
        (base.to(BF16) + product.to(BF16)).float(),
        (base.to(BF16) + product.to(BF16)).to(FP16),
    ):
        before = base.to(FP16) if after.dtype == FP16 else base
        found = examine("x", before, after)
        assert (found.verdict, found.rank) == ("low-rank", 16)


def test_a_base_that_was_rounded_itself_hides_no_adapter():
    exact = weights(256, 256, FP32)
    after = exact + low_rank(256, 256, 16) * size_of(exact) * 0.01
    for before, stored in ((FP16, FP16), (FP16, FP32), (BF16, FP16)):
        found = examine("x", exact.to(before), after.to(stored))
        assert (found.verdict, found.rank) == ("low-rank", 16), (before, stored)


@pytest.mark.parametrize("dtype", [FP16, BF16])
def test_training_is_never_taken_for_an_adapter_however_little_of_it_is_seen(dtype):
    before = weights(256, 256, dtype)
    spike = low_rank(256, 256, 4)
    verdicts = set()
    for relative in (1e-4, 3e-4, 7e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2):
        # Most of it in four directions, the rest spread: what a strong common trend in training looks like.
        change = (spike + 0.5 * torch.randn(256, 256)) * size_of(before) * relative
        verdicts.add(examine("x", before, (before.float() + change).to(dtype)).verdict)
        verdicts.add(examine("x", before, trained(before, relative)).verdict)
    assert verdicts == {"full", "undecided"}


def test_a_change_below_the_rounding_is_undecided():
    before = weights(256, 256, BF16)
    assert examine("x", before, trained(before, 3e-4)).verdict == "undecided"
    assert examine("x", before, merged(before, 16, 3e-4)).verdict == "undecided"


def test_rows_stored_finely_do_not_make_training_an_adapter():
    """Rounding hides the change in all rows but forty, whose weights are near zero: these alone have rank 40."""
    before = weights(256, 256, FP32)
    before[:40] *= 1e-3
    before = before.to(BF16)
    after = (before.float() + torch.randn(256, 256) * size_of(before) * 5e-4).to(BF16)
    assert examine("x", before, after).verdict != "low-rank"


def test_one_strong_row_hides_no_adapter():
    """Its rounding alone is several times the adapter; unscaled, it would set the limit for all."""
    before = weights(256, 256, FP32)
    change = low_rank(256, 256, 16) * size_of(before) * 0.003
    before[5] *= 100
    before = before.to(FP16)
    found = examine("x", before, (before.float() + change).to(FP16))
    assert (found.verdict, found.rank) == ("low-rank", 16)


def test_a_few_trained_rows_of_a_table_are_training():
    before = weights(2000, 256, FP16)
    after = before.clone()
    after[100:140] = trained(before[100:140], 0.05)
    assert examine("x", before, after).verdict == "full"


@pytest.mark.parametrize("scale", [1e-25, 1e12])
def test_the_scale_of_the_weights_does_not_matter(scale):
    before = weights(64, 64, BF16).float()
    for after, verdict in ((merged(before, 4, 0.05), "low-rank"), (trained(before, 0.05), "full")):
        found = examine("x", (before * scale).to(BF16), (after * scale).to(BF16))
        assert found.verdict == verdict


def test_kernels_count_as_columns():
    before = weights(64, 48 * 9, FP16)
    after = merged(before, 8, 0.02)
    found = examine("x", before.view(64, 48, 3, 3), after.view(64, 48, 3, 3))
    assert (found.rows, found.columns, found.verdict, found.rank) == (64, 432, "low-rank", 8)


def test_matrices_that_are_too_small_or_equal_are_undecided():
    before = weights(16, 400, FP32)
    assert examine("x", before, trained(before, 0.1)).verdict == "undecided"
    found = examine("x", before, before)
    assert (found.verdict, found.rank, found.effective_rank, found.stable_rank) == ("undecided", 0, 0.0, 0.0)
