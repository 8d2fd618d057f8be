"""Which parts of a UNet are computed a second time on the way back instead of having their activations kept."""

from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(unet: Any, *, keep: int) -> None:
    """Of `unet` (a UNet2DConditionModel of SDXL's kinds of blocks), the last `keep` transformer blocks in the order of
    execution keep their activations, since theirs are gone again when the way back is at its widest. All other
    transformer blocks and the resnets are computed twice, but for the middle block's first resnet, of which diffusers
    always keeps them (12 MiB a sample of 1024x1024). May be called again. Raises ValueError if there are fewer blocks.
    """
    every = transformer_blocks(unet)
    if not 0 <= keep <= len(every):
        raise ValueError(f"the UNet has {len(every)} transformer blocks, {keep} of them cannot keep their activations")
    # What chance decides would be decided anew: the generator's state is not kept, since graphs cannot record it.
    assert not any(isinstance(module, nn.Dropout) and module.p > 0 for module in unet.modules())
    kept = set(every[len(every) - keep :])

    def checkpointed(module: nn.Module, *inputs: object) -> Tensor:
        if module in kept:
            answer: Tensor = module(*inputs)
            return answer
        again: Tensor = checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False)
        return again

    # diffusers asks it for each resnet and each transformer block, if there is a graph.
    unet.enable_gradient_checkpointing(checkpointed)


def blocks(unet: Any) -> int:
    """How many transformer blocks it has: 70 in SDXL."""
    return len(transformer_blocks(unet))


def transformer_blocks(unet: Any) -> list[nn.Module]:
    """In the order of execution, which is not that of `named_modules`."""
    parts = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    attentions = chain.from_iterable(getattr(part, "attentions", None) or () for part in parts)
    return list(chain.from_iterable(attention.transformer_blocks for attention in attentions))
