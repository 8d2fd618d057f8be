"""The optimizer that a profile asks for."""

from collections.abc import Mapping

import torch
from torch import Size

from engine.contract.sections import Optimizer as Settings
from engine.optim.adafactor import Adafactor, AdafactorSettings
from engine.optim.adamw import AdamW, AdamWSettings
from engine.optim.imported import Imported
from engine.optim.optimizer import Caution, Optimizer


def build(
    settings: Settings,
    shapes: Mapping[str, Size],
    device: torch.device,
    *,
    cautions: Mapping[str, Caution],
    factors: Mapping[str, float],
    seed: int,
) -> Optimizer:
    """For tensors of these shapes, which visit `device`; `factors` are theirs on the learning rate, where not 1.
    Raises ImportedOptimizerError for a class that cannot be had."""
    if settings.kind == "imported":
        return Imported(
            settings.import_path,
            settings.arguments,
            shapes,
            device,
            rates=factors,
            learning_rate=settings.learning_rate,
        )
    if settings.kind == "adamw":
        chosen = AdamWSettings(
            beta1=settings.beta1,
            beta2=settings.beta2,
            epsilon=settings.epsilon,
            weight_decay=settings.weight_decay,
            moments=settings.moments,
        )
        return AdamW(shapes, chosen, device, cautions=cautions, seed=seed)
    factored = AdafactorSettings(
        decay_exponent=settings.decay_exponent,
        clip_threshold=settings.clip_threshold,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
    )
    return Adafactor(shapes, factored, device, cautions=cautions, seed=seed)
