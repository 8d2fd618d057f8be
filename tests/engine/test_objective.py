"""The objective's tensors against diffusers, torch and float64 formulas. Its tables have tests of their own, in
test_noise, test_timesteps and test_loss_weight; its draws in test_randomness."""

import itertools

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler

from engine.contract.fields import form_fields
from engine.contract.loss_weight import weights
from engine.contract.sections import Objective as Settings
from engine.contract.sections import Point
from engine.objective.loss import loss_of
from engine.objective.objective import Objective, Question
from engine.objective.sampler import sample, sampler_timesteps
from engine.objective.schedule import Table, diffusion_schedule
from engine.objective.target import Path, path_of

EPSILON = Settings(prediction_type="epsilon", zero_terminal_snr=False)
V = Settings(prediction_type="v_prediction", zero_terminal_snr=False)
V_ZERO_TERMINAL = Settings(prediction_type="v_prediction", zero_terminal_snr=True)
FLOW = Settings(prediction_type="flow", zero_terminal_snr=False)
ALL = [EPSILON, V, V_ZERO_TERMINAL, FLOW]
NAMES = ["epsilon", "v", "v zero-terminal", "flow"]


def changed(settings: Settings, **fields) -> Settings:
    return msgspec.structs.replace(settings, **fields)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def asked(settings: Settings, *, seed: int = 7, count: int = 3, window: int = 4) -> Question:
    return Objective(settings, seed, window=window).ask(random(4, count, 4, 4, 4), range(count))


@pytest.mark.parametrize("settings", ALL[:3], ids=NAMES[:3])
def test_noising_and_targets_equal_diffusers(settings):
    theirs = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=settings.prediction_type,
        rescale_betas_zero_snr=settings.zero_terminal_snr,
    )
    ours = path_of(settings)
    latents, noise = random(1, 2, 5, 4, 6, 8)
    timesteps = torch.tensor([0, 1, 500, 998, 999])
    noisy = ours.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(noisy, theirs.add_noise(latents, noise, timesteps), rtol=1e-4, atol=2e-6)
    is_epsilon = settings.prediction_type == "epsilon"
    expected = noise if is_epsilon else theirs.get_velocity(latents, noise, timesteps)
    torch.testing.assert_close(ours.target(latents, noise, timesteps), expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("settings", ALL, ids=NAMES)
def test_noising_and_targets_equal_float64_formulas(settings):
    latents, noise = random(1, 2, 5, 4, 6, 8)
    timesteps = torch.tensor([0, 1, 500, 998, 999])
    clean, drawn = latents.double().numpy(), noise.double().numpy()
    t = (timesteps.numpy() + 1.0).reshape(-1, 1, 1, 1) / 1000
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    root = np.sqrt(np.cumprod(1 - betas))
    if settings.zero_terminal_snr:
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha = root[timesteps.numpy()].reshape(-1, 1, 1, 1)
    sigma = np.sqrt(1 - alpha**2)
    noisy, target = {
        "epsilon": (alpha * clean + sigma * drawn, drawn),
        "v_prediction": (alpha * clean + sigma * drawn, alpha * drawn - sigma * clean),
        "flow": ((1 - t) * clean + t * drawn, drawn - clean),
    }[settings.prediction_type]
    path = path_of(settings)
    np.testing.assert_allclose(path.add_noise(latents, noise, timesteps), noisy, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(path.target(latents, noise, timesteps), target, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("settings", ALL, ids=NAMES)
def test_everything_is_float32_whatever_comes_in(settings):
    """Half-precision latents must not drag the schedule down with them: in bf16 the first timesteps have no noise."""
    path = path_of(settings)
    timesteps = torch.tensor([0, 500])
    latents, noise = random(2, 2, 2, 4, 4, 4).bfloat16()
    noisy, target = path.add_noise(latents, noise, timesteps), path.target(latents, noise, timesteps)
    assert noisy.dtype == target.dtype == torch.float32
    assert torch.equal(noisy, path.add_noise(latents.float(), noise.float(), timesteps))
    assert torch.equal(target, path.target(latents.float(), noise.float(), timesteps))
    clean, implied = path.parts(noisy.bfloat16(), target.bfloat16(), timesteps)
    assert clean.dtype == implied.dtype == path.network_time(timesteps).dtype == torch.float32
    question = Objective(settings, 1, window=1).ask(latents, [0, 1])
    assert question.weights.dtype == question.losses(latents).dtype == torch.float32


@pytest.mark.parametrize("settings", ALL, ids=NAMES)
def test_a_perfect_answer_gives_back_latents_and_noise(settings):
    path = path_of(settings)
    latents, noise = random(2, 2, 4, 4, 6, 8)
    timesteps = torch.tensor([0, 1, 500, 999])
    noisy = path.add_noise(latents, noise, timesteps)
    clean, implied = path.parts(noisy, path.target(latents, noise, timesteps), timesteps)
    torch.testing.assert_close(clean, latents, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(implied, noise, rtol=1e-3, atol=1e-4)


def test_the_network_is_told_the_index_or_flows_time_in_thousandths():
    timesteps = torch.arange(1000)
    assert torch.equal(path_of(V).network_time(timesteps), timesteps.float())
    assert torch.equal(path_of(FLOW).network_time(timesteps), timesteps.float() + 1)


def test_zero_terminal_snr_reaches_the_table_that_noises_and_the_weights():
    schedule = diffusion_schedule(zero_terminal_snr=True)
    assert schedule.alpha.values[-1] == 0 and schedule.sigma.values[-1] == 1
    last = torch.tensor([999])
    latents, noise = random(3, 2, 1, 4, 4, 4)
    path = Path("v_prediction", schedule)
    assert torch.equal(path.add_noise(latents, noise, last), noise)
    assert torch.equal(path.target(latents, noise, last), -latents)
    assert Objective(V_ZERO_TERMINAL, 1, window=1).weights.at(last) == 0


def test_a_table_is_rounded_once_where_it_is_used():
    table = Table([1 / 3, 2 / 3, 1e-9])
    looked_up = table.at(torch.tensor([2, 0, 0]))
    assert looked_up.dtype == torch.float32
    assert looked_up.tolist() == [np.float32(1e-9), np.float32(1 / 3), np.float32(1 / 3)]


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
    noise = random(3, 1, 4, 4, 4)

    def answer(noisy: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        return torch.tanh(noisy) * (at.float().mean() / 1000)

    expected = noise
    for timestep in theirs.timesteps:
        step = theirs.step(answer(expected, timestep.view(1)), timestep, expected)
        expected = step.prev_sample
    ours = sample(path_of(V_ZERO_TERMINAL), noise, theirs.timesteps.tolist(), answer)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_sampler_starts_at_the_noisiest_timestep_and_falls():
    for steps in (1, 16, 28, 61, 103):
        timesteps = sampler_timesteps(steps)
        assert len(timesteps) == steps and timesteps[0] == 999
        assert all(after < before for before, after in itertools.pairwise(timesteps))
        assert timesteps[-1] > 0


def test_input_perturbation_moves_the_input_only():
    plain, perturbed = asked(V_ZERO_TERMINAL), asked(changed(V_ZERO_TERMINAL, ip_noise_gamma=0.1))
    assert torch.equal(plain.target, perturbed.target) and torch.equal(plain.timesteps, perturbed.timesteps)
    assert not torch.equal(plain.noisy_latents, perturbed.noisy_latents)
    sigma = diffusion_schedule(zero_terminal_snr=True).sigma.at(plain.timesteps).view(-1, 1, 1, 1)
    stray = (perturbed.noisy_latents - plain.noisy_latents) / (0.1 * sigma)
    assert stray.std().item() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("settings", ALL, ids=NAMES)
def test_noise_offset_shifts_each_channels_noise_in_input_and_target(settings):
    """The question is the one that a noise with the shift in it would have given."""
    plain, offset = asked(settings, count=40), asked(changed(settings, noise_offset=0.3), count=40)
    path, latents = path_of(settings), random(4, 40, 4, 4, 4)
    _, noise = path.parts(plain.noisy_latents, plain.target, plain.timesteps)
    _, shifted = path.parts(offset.noisy_latents, offset.target, plain.timesteps)
    shift = (shifted - noise).mean((2, 3), keepdim=True)
    torch.testing.assert_close(shifted - noise, shift.expand_as(noise), rtol=1e-3, atol=2e-4)
    assert (shift / 0.3).std().item() == pytest.approx(1, abs=0.15)
    expected = path.target(latents, noise + shift, plain.timesteps)
    torch.testing.assert_close(offset.target, expected, rtol=1e-3, atol=2e-4)


def test_noise_offset_and_input_perturbation_together_leave_the_stray_out_of_the_target():
    both = asked(changed(EPSILON, noise_offset=0.3, ip_noise_gamma=0.1))
    assert torch.equal(both.target, asked(changed(EPSILON, noise_offset=0.3)).target)
    assert not torch.equal(both.target, asked(EPSILON).target)


@pytest.mark.parametrize("delta", [0.05, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["mse", "huber", "smooth_l1"])
def test_losses_are_torchs_and_the_float64_formulas(kind, delta):
    prediction, target = random(5, 2, 6, 4, 5, 3) * 2
    losses = loss_of(prediction, target, kind, delta)
    theirs = {
        "mse": F.mse_loss,
        "huber": lambda p, t: F.huber_loss(p, t, delta=delta),
        "smooth_l1": lambda p, t: F.smooth_l1_loss(p, t, beta=delta),
    }[kind]
    expected = [theirs(p, t).item() for p, t in zip(prediction, target, strict=True)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-6)
    error = np.abs((prediction.double() - target.double()).numpy())
    huber = np.where(error <= delta, error**2 / 2, delta * (error - delta / 2))
    formula = {"mse": error**2, "huber": huber, "smooth_l1": huber / delta}[kind]
    np.testing.assert_allclose(losses, formula.mean((1, 2, 3)), rtol=1e-6)
    assert ((error < delta).any() and (error > delta).any()) or kind == "mse"


@pytest.mark.parametrize("kind", ["mse", "huber", "smooth_l1"])
def test_losses_are_computed_in_float32(kind):
    """An error of 1e-3 beside a target of 1 is lost where the difference is taken in half precision."""
    target = torch.ones(2, 4, 4, 4)
    prediction = torch.full_like(target, 1.0009765625)  # exact in half precision, and its square is not
    exact = loss_of(prediction, target, kind, 0.1)
    half = loss_of(prediction.half(), target, kind, 0.1)
    assert half.dtype == torch.float32 and torch.equal(half, exact) and exact.shape == (2,)


def test_a_question_weighs_each_samples_loss_and_passes_the_gradient():
    settings = changed(V_ZERO_TERMINAL, loss="mse", weight_floor=0.05)
    question = asked(settings)
    prediction = torch.zeros_like(question.target).requires_grad_()
    losses = question.losses(prediction)
    table = weights(settings)
    assert question.weights.tolist() == pytest.approx([table[t] for t in question.timesteps.tolist()], rel=1e-6)
    expected = [
        table[t] * float(question.target[i].double().pow(2).mean()) for i, t in enumerate(question.timesteps.tolist())
    ]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    losses.sum().backward()
    slope = -2 * question.target * question.weights.view(-1, 1, 1, 1) / question.target[0].numel()
    torch.testing.assert_close(prediction.grad, slope)


# What each setting is changed to, in settings where it counts.
STEEP = (Point(0, 0.5), Point(999, 4.0))
EFFECTS: dict[str, tuple[Settings, object]] = {
    "prediction_type": (V, "epsilon"),
    "zero_terminal_snr": (V, True),
    "loss": (V, "huber"),
    "huber_delta": (changed(V, loss="smooth_l1"), 0.5),
    "loss_weight": (V, "debiased"),
    "min_snr_gamma": (changed(V, timesteps="beta", beta_b=9.0), 1.0),
    "weight_floor": (V, 0.9),
    "weight_curve": (V, STEEP),
    "noise_offset": (V, 0.1),
    "ip_noise_gamma": (V, 0.1),
    "timesteps": (V, "noisier_half"),
    "logit_mean": (changed(V, timesteps="logit_normal"), 1.0),
    "logit_std": (changed(V, timesteps="logit_normal"), 0.3),
    "laplace_scale": (changed(V, timesteps="log_snr_laplace"), 0.3),
    "beta_a": (changed(V, timesteps="beta"), 3.0),
    "beta_b": (changed(V, timesteps="beta"), 3.0),
    "timestep_curve": (changed(V, timesteps="curve", timestep_curve=(Point(0, 1.0),)), STEEP),
    "stratified": (V, True),
}
CHOICES = ("loss", "loss_weight", "timesteps")
OF_THE_CAPTIONS = {"conditional_dropout", "null_condition"}  # they act in the data


def answered(question: Question) -> torch.Tensor:
    """The losses of a network that looks at its input."""
    return question.losses(torch.tanh(question.noisy_latents))


def test_every_setting_of_the_objective_is_accounted_for():
    assert {*EFFECTS, *OF_THE_CAPTIONS} == set(Settings.__struct_fields__)


@pytest.mark.parametrize("name", EFFECTS)
def test_every_setting_changes_a_number(name):
    settings, value = EFFECTS[name]
    before, after = asked(settings, count=8), asked(changed(settings, **{name: value}), count=8)
    assert not torch.equal(answered(before), answered(after))


def test_every_loss_every_weight_and_every_density_is_a_different_one():
    base = changed(V, timestep_curve=STEEP, beta_b=2.0)
    variants = [
        changed(base, **{name: kind}) for name in CHOICES for kind in form_fields()[f"objective.{name}"].choices
    ]
    losses = {tuple(answered(asked(variant, count=32)).tolist()) for variant in variants}
    assert len(variants) == 3 + 6 + 6 and len(losses) == 13  # each choice's first is what the others have as well


def test_settings_that_are_refused_make_no_objective():
    with pytest.raises(ValueError, match="no weight where there is no signal"):
        Objective(changed(EPSILON, zero_terminal_snr=True), 1, window=1)
    with pytest.raises(ValueError, match="has no points"):
        Objective(changed(V, timesteps="curve"), 1, window=1)


def test_a_question_does_not_depend_on_how_positions_are_batched():
    settings = changed(V_ZERO_TERMINAL, ip_noise_gamma=0.1, noise_offset=0.1, stratified=True)
    objective, latents = Objective(settings, 3, window=6), random(6, 6, 4, 4, 4)
    whole = objective.ask(latents, range(6, 12))
    for start, stop in ((0, 1), (1, 4), (4, 6)):
        part = Objective(settings, 3, window=6).ask(latents[start:stop], range(6 + start, 6 + stop))
        for name in ("noisy_latents", "timesteps", "network_time", "target", "weights"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[start:stop])


def test_drawing_leaves_the_global_generators_alone():
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()
    asked(changed(V_ZERO_TERMINAL, ip_noise_gamma=0.1, noise_offset=0.1, stratified=True))
    assert torch.equal(before, torch.get_rng_state()) and (numpys == np.random.get_state()[1]).all()
