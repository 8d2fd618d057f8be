"""Loss curves of a tiny UNet by objective and optimizer: what `losses.json` holds and `test_golden.py` compares.

A change in numbers is deliberate: `python -m tests.golden.curves` writes the file anew, and the commit says why.
"""

import json
from functools import partial
from pathlib import Path

import torch

from engine.contract.sections import Objective, Optimizer
from engine.memory.plain import PlainPlan
from engine.memory.plan import Judged
from engine.objective.objective import Objective as Asked
from engine.optim.build import build
from tests.golden.tiny_unet import micro_batch, tiny_unet

FILE = Path(__file__).with_name("losses.json")
STEPS, ACCUMULATE, BATCH, SEED = 4, 2, 2, 7

OBJECTIVES = {
    "v_prediction": Objective(prediction_type="v_prediction", zero_terminal_snr=True, loss_weight="min_snr"),
    "epsilon": Objective(prediction_type="epsilon", zero_terminal_snr=False, loss_weight="debiased", loss="huber"),
    "flow": Objective(
        prediction_type="flow", zero_terminal_snr=False, loss_weight="none", timesteps="logit_normal", stratified=True
    ),
}
OPTIMIZERS = {
    "adafactor": Optimizer(learning_rate=2e-2),
    "adafactor_momentum": Optimizer(learning_rate=2e-2, momentum=0.9, weight_decay=0.01),
    "adamw": Optimizer(kind="adamw", learning_rate=1e-2, weight_decay=0.01),
    "adamw_bf16": Optimizer(kind="adamw", learning_rate=2e-2, moments="bf16", beta1=0.8, beta2=0.95),
    "imported": Optimizer(kind="imported", import_path="torch.optim.NAdam", learning_rate=1e-2),
}


def curve(objective: Objective, optimizer: Optimizer) -> list[float]:
    """Mean loss of each step."""
    unet = tiny_unet()
    names = frozenset(name for name, _ in unet.named_parameters())
    plan = PlainPlan(unet, names, partial(build, optimizer, cautions={}, factors={}, seed=SEED))
    asked = Asked(objective, SEED, window=ACCUMULATE * BATCH)
    latents = torch.randn(ACCUMULATE, BATCH, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def window(step: int) -> list[Judged]:
        judged = []
        for micro in range(ACCUMULATE):
            first = (step * ACCUMULATE + micro) * BATCH
            question = asked.ask(latents[micro], range(first, first + BATCH))
            shown = micro_batch(question.noisy_latents, question.network_time, seed=micro)
            judged.append(Judged(shown, question.losses))
        return judged

    losses = []
    for step in range(STEPS):
        gradient = plan.gradient(window(step), lambda *_: None)
        losses.append(sum(gradient.losses) / len(gradient.losses))
        plan.update(lambda _: optimizer.learning_rate, max_grad_norm=1.0)
    return losses


def every_curve() -> dict[str, list[float]]:
    return {
        f"{about}/{how}": curve(objective, optimizer)
        for about, objective in OBJECTIVES.items()
        for how, optimizer in OPTIMIZERS.items()
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    rounded = {name: [float(f"{loss:.7g}") for loss in losses] for name, losses in every_curve().items()}
    FILE.write_text(json.dumps(rounded, indent=1) + "\n")
