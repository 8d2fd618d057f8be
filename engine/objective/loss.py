"""How an error becomes a loss."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

LossKind = Literal["mse", "huber", "smooth_l1"]


def loss_of(prediction: Tensor, target: Tensor, kind: LossKind, delta: float) -> Tensor:
    """Mean loss of each sample over its own latent, (B,) float32, in torch's definitions.

    With e the error: mse e^2; huber e^2 / 2 up to |e| = delta, then delta (|e| - delta / 2); smooth_l1 is huber divided
    by delta.
    """
    prediction, target = prediction.float(), target.float()
    match kind:
        case "mse":
            losses = F.mse_loss(prediction, target, reduction="none")
        case "huber":
            losses = F.huber_loss(prediction, target, reduction="none", delta=delta)
        case "smooth_l1":
            losses = F.smooth_l1_loss(prediction, target, reduction="none", beta=delta)
    return losses.flatten(1).mean(1)
