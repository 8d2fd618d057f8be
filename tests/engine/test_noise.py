"""The noise scale against diffusers, and against values computed in float64 elsewhere."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from engine.contract import noise
from engine.contract.sections import Objective

# t, alphas_cumprod plain, snr plain, alphas_cumprod zero-terminal, snr zero-terminal.
TABLE = [
    (0, 0.99915, 1175.4706, 0.99915, 1175.4706),
    (1, 0.9982960278, 585.86405, 0.9982334461, 565.07388),
    (100, 0.8942234776, 8.4538937, 0.8867612845, 7.830902),
    (250, 0.6737926252, 2.0655346, 0.6524570153, 1.8773419),
    (500, 0.2763326838, 0.38185044, 0.2410187828, 0.31755566),
    (750, 0.056169848, 0.059512665, 0.03279911813, 0.033911382),
    (998, 0.0047166989, 0.0047390516, 1.967888057e-07, 1.9678884e-07),
]
PLAIN = Objective(prediction_type="v_prediction", zero_terminal_snr=False)
ZERO_TERMINAL = Objective(prediction_type="v_prediction", zero_terminal_snr=True)
FLOW = Objective(prediction_type="flow", zero_terminal_snr=False)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"t={row[0]}")
def test_schedule_has_the_published_values(row):
    t, plain, snr, zero_terminal, snr_zero_terminal = row
    assert noise.alphas_cumprod(zero_terminal_snr=False)[t] == pytest.approx(plain, rel=1e-7)
    assert noise.alphas_cumprod(zero_terminal_snr=True)[t] == pytest.approx(zero_terminal, rel=1e-6)
    assert noise.snr(PLAIN)[t] == pytest.approx(snr, rel=1e-7)
    assert noise.snr(ZERO_TERMINAL)[t] == pytest.approx(snr_zero_terminal, rel=1e-6)


def test_zero_terminal_schedule_ends_in_nothing_but_noise_and_keeps_its_start_and_sum():
    plain, rescaled = noise.alphas_cumprod(zero_terminal_snr=False), noise.alphas_cumprod(zero_terminal_snr=True)
    assert rescaled[-1] == 0 and noise.snr(ZERO_TERMINAL)[-1] == 0
    assert rescaled[0] == pytest.approx(plain[0], rel=1e-15)
    assert sum(rescaled) == pytest.approx(352.17934167, rel=1e-9)
    assert sum(plain) == pytest.approx(373.37663057, rel=1e-9)
    assert len(plain) == len(rescaled) == 1000


def test_the_rescale_cannot_be_applied_twice():
    with pytest.raises(AssertionError, match="twice"):
        noise._to_zero_terminal(noise.alphas_cumprod(zero_terminal_snr=True))


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_schedule_and_snr_equal_diffusers(zero_terminal_snr):
    theirs = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=zero_terminal_snr,
    )
    ours = noise.alphas_cumprod(zero_terminal_snr=zero_terminal_snr)
    torch.testing.assert_close(torch.tensor(ours), theirs.alphas_cumprod, rtol=1e-4, atol=0)
    snr = noise.snr(ZERO_TERMINAL if zero_terminal_snr else PLAIN)
    torch.testing.assert_close(torch.tensor(snr), compute_snr(theirs, torch.arange(1000)), rtol=1e-3, atol=0)


def test_flow_goes_in_equal_parts_to_pure_noise():
    time = noise.flow_time()
    assert time[0] == 0.001 and time[499] == 0.5 and time[-1] == 1
    assert noise.snr(FLOW)[499] == 1 and noise.snr(FLOW)[-1] == 0
    assert noise.snr(FLOW)[249] == pytest.approx(9, rel=1e-12)
