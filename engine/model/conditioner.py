"""Both text encoders as one module beside the UNet, for training them: captions are encoded in every micro-batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from engine.contract.sections import TextEncoders as Settings
from engine.contract.text_tensors import FIRST, SECOND, learning_text
from engine.model.components import TextEncoders
from engine.model.single_file import Checkpoint
from engine.model.text import states_2_of, states_of


class Conditioner(nn.Module):
    """Holds the encoders and computes in their dtype. With `checkpointing`, layers are computed again on the way back
    instead of being remembered; CLIP has no dropout, so the train mode that takes changes no number."""

    def __init__(self, encoders: TextEncoders, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.text_encoder = encoders.text_encoder
        self.text_encoder_2 = encoders.text_encoder_2
        self.train(checkpointing)
        if checkpointing:
            for encoder in (self.text_encoder, self.text_encoder_2):
                # transformers' new name for it, and its old one. In both torch's non-reentrant form is the default.
                old = encoder.gradient_checkpointing_enable
                getattr(encoder, "activation_checkpointing_enable", old)()

    def forward(self, ids: Tensor, ids_2: Tensor, zeroed: Tensor) -> tuple[Tensor, Tensor]:
        """prompt_embeds (B, 77n, C1 + C2) and pooled_prompt_embeds (B, P) of `ids` and `ids_2` (B, n, 77), zeros where
        `zeroed` (B,). Every trained tensor gets a gradient whatever is zeroed, if only one of zeros."""
        with _tracking(self.text_encoder):
            states = states_of(self.text_encoder, ids)
        with _tracking(self.text_encoder_2):
            states_2, pooled = states_2_of(self.text_encoder_2, ids_2)
        context = torch.cat([states, states_2], dim=-1)
        return context.masked_fill(zeroed[:, None, None], 0), pooled.masked_fill(zeroed[:, None], 0)


def trainable(conditioner: Conditioner, settings: Settings) -> frozenset[str]:
    """Its parameters that learn, as its own `named_parameters` calls them."""
    return learning_text((name for name, _ in conditioner.named_parameters()), settings)


def stored(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """What `checkpoint` holds for a conditioner: its parameters by name, one at a time, as they are stored."""
    yield from ((FIRST + name, tensor) for name, tensor in checkpoint.text_encoder().items())
    yield from ((SECOND + name, tensor) for name, tensor in checkpoint.text_encoder_2().items())


def _tracking(encoder: nn.Module) -> torch.set_grad_enabled:
    """Off for an encoder that does not learn, or no longer: checkpointing would compute even that twice."""
    learns = any(parameter.requires_grad for parameter in encoder.parameters())
    return torch.set_grad_enabled(torch.is_grad_enabled() and learns)
