"""The objective against diffusers, and against values computed in float64 elsewhere (the table below)."""

import itertools

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from engine.contract.sections import Objective as Settings
from engine.contract.seeding import derive
from engine.objective.objective import Objective
from engine.objective.randomness import noise_of, timesteps_of
from engine.objective.sampler import sample, sampler_timesteps
from engine.objective.schedule import FlowSchedule, sdxl_schedule
from engine.objective.target import DiffusionPath, FlowPath, Path
from engine.objective.weight import flow_min_snr_weights, min_snr_weights, squared_error

# t, alphas_cumprod plain, snr plain, alphas_cumprod zero-terminal, snr zero-terminal, eps weight (plain), v weight (ZT)
# at gamma 5; computed once in float64 outside this project.
TABLE = [
    (0, 0.99915, 1175.4706, 0.99915, 1175.4706, 0.004253616, 0.00425),
    (1, 0.9982960278, 585.86405, 0.9982334461, 565.07388, 0.008534403, 0.008832769),
    (100, 0.8942234776, 8.4538937, 0.8867612845, 7.830902, 0.5914434, 0.5661936),
    (250, 0.6737926252, 2.0655346, 0.6524570153, 1.8773419, 1.0, 0.652457),
    (500, 0.2763326838, 0.38185044, 0.2410187828, 0.31755566, 1.0, 0.2410188),
    (750, 0.056169848, 0.059512665, 0.03279911813, 0.033911382, 1.0, 0.03279912),
    (998, 0.0047166989, 0.0047390516, 1.967888057e-07, 1.9678884e-07, 1.0, 1.967888e-07),
]


def diffusers_schedule(prediction_type: str, *, zero_terminal_snr: bool) -> DDPMScheduler:
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        rescale_betas_zero_snr=zero_terminal_snr,
    )


@pytest.mark.parametrize("row", TABLE)
def test_schedule_and_weights_have_the_published_values(row):
    t, plain, snr, zero_terminal, snr_zero_terminal, weight_eps, weight_v = row
    schedule, rescaled = sdxl_schedule(zero_terminal_snr=False), sdxl_schedule(zero_terminal_snr=True)
    assert schedule.alphas_cumprod[t].item() == pytest.approx(plain, rel=1e-7)
    assert schedule.snr[t].item() == pytest.approx(snr, rel=1e-7)
    assert rescaled.alphas_cumprod[t].item() == pytest.approx(zero_terminal, rel=1e-6)
    assert rescaled.snr[t].item() == pytest.approx(snr_zero_terminal, rel=1e-6)
    assert min_snr_weights(schedule.snr, "epsilon", 5.0)[t].item() == pytest.approx(weight_eps, rel=1e-5)
    assert min_snr_weights(rescaled.snr, "v_prediction", 5.0)[t].item() == pytest.approx(weight_v, rel=1e-5)


def test_zero_terminal_schedule_ends_in_nothing_but_noise_and_keeps_its_sum():
    schedule = sdxl_schedule(zero_terminal_snr=True)
    assert schedule.alphas_cumprod[-1] == 0 and schedule.snr[-1] == 0 and schedule.sigma[-1] == 1
    assert schedule.alphas_cumprod.sum().item() == pytest.approx(352.17934167, rel=1e-9)
    assert sdxl_schedule(zero_terminal_snr=False).alphas_cumprod.sum().item() == pytest.approx(373.37663057, rel=1e-9)
    assert min_snr_weights(schedule.snr, "v_prediction", 5.0)[-1] == 0


def test_mean_weight_of_the_noisier_half_is_small_as_published():
    weights = min_snr_weights(sdxl_schedule(zero_terminal_snr=True).snr, "v_prediction", 5.0)
    assert weights.mean().item() == pytest.approx(0.2776, abs=1e-4)
    assert weights[500:].mean().item() == pytest.approx(0.0628, abs=1e-4)


@pytest.mark.parametrize(
    ("prediction_type", "zero_terminal_snr"), [("epsilon", False), ("v_prediction", False), ("v_prediction", True)]
)
def test_noising_and_targets_equal_diffusers(prediction_type, zero_terminal_snr):
    theirs = diffusers_schedule(prediction_type, zero_terminal_snr=zero_terminal_snr)
    ours = DiffusionPath(sdxl_schedule(zero_terminal_snr=zero_terminal_snr), prediction_type)
    latents, noise = torch.randn(2, 5, 4, 6, 8, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([0, 1, 500, 998, 999])
    noisy = ours.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(noisy, theirs.add_noise(latents, noise, timesteps), rtol=1e-4, atol=2e-6)
    expected = noise if prediction_type == "epsilon" else theirs.get_velocity(latents, noise, timesteps)
    torch.testing.assert_close(ours.target(latents, noise, timesteps), expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(
    "path",
    [
        DiffusionPath(sdxl_schedule(zero_terminal_snr=False), "epsilon"),
        DiffusionPath(sdxl_schedule(zero_terminal_snr=True), "v_prediction"),
        FlowPath(FlowSchedule()),
    ],
    ids=lambda path: path.prediction_type,
)
def test_a_perfect_answer_gives_back_latents_and_noise(path: Path):
    latents, noise = torch.randn(2, 4, 4, 6, 8, generator=torch.Generator().manual_seed(2))
    timesteps = torch.tensor([0, 1, 500, 999])
    noisy = path.add_noise(latents, noise, timesteps)
    clean, implied = path.parts(noisy, path.target(latents, noise, timesteps), timesteps)
    torch.testing.assert_close(clean, latents, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(implied, noise, rtol=1e-3, atol=1e-4)


def test_flow_weight_is_min_snr_of_the_latents_error():
    """snr = (1-t)^2 / t^2 and ||x_0 error||^2 = t^2 ||velocity error||^2, so the weight is min(snr, gamma) t^2."""
    time = torch.tensor([0.001, 0.3, 0.5, 0.999], dtype=torch.float64)
    snr = (1 - time) ** 2 / time**2
    torch.testing.assert_close(flow_min_snr_weights(time, 5.0), snr.clamp(max=5.0) * time**2)


def test_sampler_equals_diffusers_ddim_on_the_same_timesteps():
    theirs = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    theirs.set_timesteps(20)
    noise = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(3))

    def answer(noisy: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return torch.tanh(noisy) * (at.float().mean() / 1000)

    expected = noise
    for timestep in theirs.timesteps:
        step = theirs.step(answer(expected, timestep.view(1)), timestep, expected)
        expected = step.prev_sample
    path = DiffusionPath(sdxl_schedule(zero_terminal_snr=True), "v_prediction")
    ours = sample(path, noise, theirs.timesteps.tolist(), answer)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_sampler_starts_at_the_noisiest_timestep_and_falls():
    for steps in (1, 16, 28, 61, 103):
        timesteps = sampler_timesteps(steps)
        assert len(timesteps) == steps and timesteps[0] == 999
        assert all(after < before for before, after in itertools.pairwise(timesteps))
        assert timesteps[-1] > 0


def test_input_perturbation_moves_the_input_only():
    latents = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(4))
    plain = Objective(Settings(ip_noise_gamma=0.0), seed=7).ask(latents, [0, 1, 2])
    perturbed = Objective(Settings(ip_noise_gamma=0.1), seed=7).ask(latents, [0, 1, 2])
    assert torch.equal(plain.target, perturbed.target) and torch.equal(plain.timesteps, perturbed.timesteps)
    assert not torch.equal(plain.noisy_latents, perturbed.noisy_latents)
    sigma = sdxl_schedule(zero_terminal_snr=True).sigma[plain.timesteps].view(-1, 1, 1, 1)
    stray = (perturbed.noisy_latents - plain.noisy_latents) / (0.1 * sigma)
    assert stray.std().item() == pytest.approx(1.0, abs=0.15)


def test_noisier_half_draws_500_to_999_inclusive_and_evenly():
    drawn = timesteps_of(1, range(20_000), 500, 999)
    counts = torch.bincount(drawn - 500, minlength=500)
    assert drawn.min() == 500 and drawn.max() == 999
    assert counts.min() > 0 and counts.float().std() < 10  # Poisson with mean 40 has a deviation of 6.3


def test_draws_depend_on_seed_stream_and_position_only():
    together = noise_of(5, [10, 11, 12], (4, 2, 2))
    assert torch.equal(together[1:2], noise_of(5, [11], (4, 2, 2)))
    assert not torch.equal(together[1:2], noise_of(6, [11], (4, 2, 2)))
    assert not torch.equal(together[1:2], noise_of(5, [11], (4, 2, 2), stream="ip_noise"))


def test_streams_do_not_coincide_where_32_bits_of_a_hash_would():
    """These two hashes agree in their lower half, all that torch's CPU generator would keep of them."""
    assert derive(42, "noise", 9521) % 2**32 == derive(42, "ip_noise", 76118) % 2**32
    first, second = noise_of(42, [9521], (4, 8, 8)), noise_of(42, [76118], (4, 8, 8), stream="ip_noise")
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 0.3


def test_noise_is_standard_normal():
    drawn = noise_of(3, range(400), (4, 16, 16)).double()
    assert drawn.mean().item() == pytest.approx(0, abs=0.01) and drawn.std().item() == pytest.approx(1, abs=0.01)
    assert (drawn**4).mean().item() == pytest.approx(3, abs=0.05)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    Objective(Settings(ip_noise_gamma=0.1), seed=1).ask(torch.zeros(2, 4, 2, 2), [0, 1])
    assert torch.equal(before, torch.get_rng_state())


def test_loss_is_the_weighted_mean_square_of_each_sample():
    objective = Objective(Settings(timesteps="uniform"), seed=3)
    question = objective.ask(torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(5)), [4, 5, 6])
    prediction = torch.zeros_like(question.target)
    expected = [
        float(objective.weights[t]) * float(question.target[i].double().pow(2).mean())
        for i, t in enumerate(question.timesteps.tolist())
    ]
    assert question.losses(prediction).tolist() == pytest.approx(expected, rel=1e-5)
    assert squared_error(prediction.bfloat16(), question.target).dtype == torch.float32
