"""A UNet of SDXL's kind, smaller than the demo's: weights from a fixed generator, a step in about ten milliseconds."""

import torch
from diffusers import UNet2DConditionModel

from engine.memory.plan import Embedded, MicroBatch

CONTEXT, POOLED = 16, 8


def tiny_unet(dtype: torch.dtype = torch.float32) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1),
        attention_head_dim=(1, 2),
        norm_num_groups=4,
        cross_attention_dim=CONTEXT,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=POOLED + 6 * 4,
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if parameter.dim() > 1:
                fan = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan**-0.5)
            else:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return unet.to(dtype).train()


def micro_batch(noisy_latents: torch.Tensor, timesteps: torch.Tensor, seed: int) -> MicroBatch:
    """Conditions are drawn for `seed`."""
    draw = torch.Generator().manual_seed(seed)
    size = noisy_latents.shape[0]
    return MicroBatch(
        noisy_latents=noisy_latents,
        network_time=timesteps,
        condition=Embedded(torch.randn(size, 7, CONTEXT, generator=draw), torch.randn(size, POOLED, generator=draw)),
        time_ids=torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(size, -1),
    )
