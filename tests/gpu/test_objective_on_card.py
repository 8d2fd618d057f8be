"""On a card: the questions are the CPU's, and asking them never waits for the card."""

from collections.abc import Iterator

import pytest
import torch

from engine.contract.sections import Objective as Settings
from engine.objective.objective import Objective

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """A host that waits for the card raises."""
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon", "flow"])
@pytest.mark.parametrize("loss", ["mse", "huber", "smooth_l1"])
def test_a_question_on_the_card_is_the_cpus_and_waits_for_nothing(no_waiting: None, prediction_type, loss):
    settings = Settings(
        prediction_type=prediction_type,
        zero_terminal_snr=prediction_type == "v_prediction",
        loss=loss,
        noise_offset=0.1,
        ip_noise_gamma=0.1,
        timesteps="beta",
        beta_a=2.0,
        stratified=True,
    )
    latents = torch.randn(3, 4, 128, 96, generator=torch.Generator().manual_seed(1))
    expected = Objective(settings, 5, window=6).ask(latents, [2, 3, 5])
    objective, on_card = Objective(settings, 5, window=6), latents.cuda()
    objective.ask(on_card, [0, 1, 4])  # the tables go over once
    torch.cuda.set_sync_debug_mode("error")
    question = objective.ask(on_card, [2, 3, 5])
    losses = question.losses(torch.tanh(question.noisy_latents))
    timesteps = question.timesteps.tolist()
    torch.cuda.set_sync_debug_mode("default")
    assert timesteps == expected.timesteps.tolist() and losses.is_cuda
    for name in ("noisy_latents", "target", "network_time", "weights"):
        torch.testing.assert_close(getattr(question, name).cpu(), getattr(expected, name), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(losses.cpu(), expected.losses(torch.tanh(expected.noisy_latents)), rtol=1e-5, atol=1e-6)
