"""Two text encoders of CLIP's kind, small enough for thousands of steps, and the tiny UNet that reads them."""

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from engine.model.components import TextEncoders, clip_config
from engine.model.conditioner import Conditioner
from tests.golden.tiny_unet import CONTEXT, POOLED, tiny_unet

VOCABULARY = 120
LENGTH = 12


def tiny_conditioner() -> Conditioner:
    torch.manual_seed(3)
    sizes = {"heads": 2, "layers": 2, "mlp": 16, "positions": LENGTH}
    first = clip_config(VOCABULARY, CONTEXT // 2, activation="quick_gelu", projection=CONTEXT // 2, **sizes)
    second = clip_config(VOCABULARY, CONTEXT // 2, activation="gelu", projection=POOLED, **sizes)
    encoders = TextEncoders(CLIPTextModel(first).eval(), CLIPTextModelWithProjection(second).eval())
    return Conditioner(encoders)


def networks() -> tuple[UNet2DConditionModel, Conditioner]:
    return tiny_unet(), tiny_conditioner()
