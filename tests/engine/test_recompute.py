"""Which blocks are computed twice, and that nothing else changes."""

from collections import Counter

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from engine.memory.micro_step import predict
from engine.memory.recompute import blocks, recompute
from tests.engine.sdxl import UNET
from tests.engine.tiny_sdxl import sdxl_like, window

# In the order of execution; as their UNet's list of modules has them, the middle block's come last.
BLOCKS = [
    "down_blocks.1.attentions.0.transformer_blocks.0",
    "down_blocks.1.attentions.1.transformer_blocks.0",
    *(f"down_blocks.2.attentions.{at}.transformer_blocks.{block}" for at in (0, 1) for block in (0, 1)),
    *(f"mid_block.attentions.0.transformer_blocks.{block}" for block in (0, 1)),
    *(f"up_blocks.0.attentions.{at}.transformer_blocks.{block}" for at in (0, 1, 2) for block in (0, 1)),
    *(f"up_blocks.1.attentions.{at}.transformer_blocks.0" for at in (0, 1, 2)),
]


def entered(unet: UNet2DConditionModel) -> Counter[str]:
    """How often each transformer block and resnet is begun."""
    counts: Counter[str] = Counter()
    for name, module in unet.named_modules():
        if isinstance(module, BasicTransformerBlock | ResnetBlock2D):
            module.register_forward_pre_hook(lambda _, __, name=name: counts.update([name]))
    return counts


def gradients(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    (asked,) = window([(2, 7, 10)])
    asked.losses(predict(unet, asked.micro)).sum().backward()
    return {name: parameter.grad for name, parameter in unet.named_parameters()}


@pytest.mark.parametrize("keep", [0, 1, 4, 11, 17])
def test_the_last_blocks_are_computed_once_all_others_twice_and_the_gradient_is_the_same(keep: int):
    expected = gradients(sdxl_like(3))
    unet = sdxl_like(3)
    recompute(unet, keep=keep)
    counts = entered(unet)
    ours = gradients(unet)
    assert [name for name in expected if not torch.equal(ours[name], expected[name])] == []
    transformers = {name: count for name, count in counts.items() if "transformer_blocks" in name}
    assert transformers == {name: 1 if at >= len(BLOCKS) - keep else 2 for at, name in enumerate(BLOCKS)}
    once = [name for name, count in counts.items() if name not in transformers and count == 1]
    assert once == ["mid_block.resnets.0"] and len(counts) == len(BLOCKS) + 17


def test_another_number_takes_the_place_of_the_first():
    unet = sdxl_like(3)
    for keep in (17, 3):
        recompute(unet, keep=keep)
    counts = entered(unet)
    gradients(unet)
    assert [name for name in BLOCKS if counts[name] == 1] == BLOCKS[-3:]


def test_without_a_graph_everything_is_computed_once():
    unet = sdxl_like(3)
    recompute(unet, keep=2)
    counts = entered(unet)
    with torch.no_grad():
        predict(unet, window([(1, 8, 8)])[0].micro)
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("keep", [-1, 18])
def test_a_number_of_blocks_that_there_are_not_is_refused(keep: int):
    with pytest.raises(ValueError, match=f"17 transformer blocks, {keep}"):
        recompute(sdxl_like(3), keep=keep)


def test_sdxl_has_seventy():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET)
    assert blocks(unet) == 70


def test_activations_that_are_kept_take_memory_until_the_way_back():
    """Bytes that autograd keeps for the way back, each storage once."""
    kept = []
    for keep in (0, 5, 11, 17):
        unet = sdxl_like(3)
        recompute(unet, keep=keep)
        (asked,) = window([(1, 8, 8)])
        held: dict[int, int] = {}

        def note(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            answer = predict(unet, asked.micro)
        del answer
        kept.append(sum(held.values()))
    assert kept == sorted(kept) and len(set(kept)) == 4
