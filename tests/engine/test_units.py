"""A UNet in units computes what it computes whole."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from engine.memory.groups import grouped
from engine.memory.micro_step import predict
from engine.memory.plan import Embedded, MicroBatch
from engine.memory.units import Cut, cut
from tests.engine.sdxl import UNET
from tests.engine.tiny_sdxl import micro, names, sdxl_like, window
from tests.golden.tiny_unet import tiny_unet

SHAPES = [(1, 8, 8), (3, 8, 8), (1, 16, 8), (1, 7, 10), (3, 9, 13), (1, 10, 6), (1, 5, 12)]


def composed(made: Cut, asked: MicroBatch, dtype: torch.dtype) -> Tensor:
    """A stack of skips, as diffusers has it: units whose numbers did not fit it would take the wrong ones."""
    condition = asked.condition
    assert isinstance(condition, Embedded)
    context, pooled = (each.to(dtype) for each in (condition.prompt_embeds, condition.pooled_prompt_embeds))
    embedding = made.embeddings.run(asked.network_time, pooled, asked.time_ids)
    hidden, skips, outputs = asked.noisy_latents.to(dtype), [], []
    for number, unit in enumerate(made.units):
        skip = None
        if unit.part is not None and unit.skip is not None:
            skip = outputs[unit.skip]
        elif unit.skip is not None:
            of, skip = skips.pop()
            assert of == unit.skip
        size = None
        if unit.size is not None and made.needs_sizes(asked.noisy_latents.shape):
            assert skips[-1][0] == unit.size
            size = skips[-1][1].shape[-2:]
        hidden = unit.run(
            hidden,
            skip=skip,
            embedding=embedding if unit.reads_embedding else None,
            context=context if unit.reads_context else None,
            size=size,
        )
        outputs.append(hidden)
        if unit.pushes:
            skips.append((number, hidden))
    assert not skips
    return hidden


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("levels", "deepest"), [(2, 0), (3, 0), (3, 1)])
@torch.no_grad()
def test_units_one_after_another_are_bitwise_the_unet(levels: int, deepest: int, dtype: torch.dtype):
    unet = sdxl_like(levels, dtype)
    made = cut(unet, deepest=deepest)
    for seed, shape in enumerate(SHAPES):
        asked = micro(*shape, seed=seed)
        assert torch.equal(composed(made, asked, dtype), predict(unet, asked)), shape


@torch.no_grad()
def test_bf16_units_are_bitwise_the_unet_because_sinusoids_stay_fp32():
    unet = sdxl_like(3, torch.bfloat16)
    asked = micro(2, 8, 12, seed=5)
    assert torch.equal(composed(cut(unet), asked, torch.bfloat16), predict(unet, asked))


@pytest.mark.parametrize(("levels", "deepest"), [(2, 0), (3, 0), (3, 1)])
def test_every_parameter_belongs_to_one_unit(levels: int, deepest: int):
    unet = sdxl_like(levels)
    held = [name for parameters in cut(unet, deepest=deepest).parameters().values() for name, _ in parameters]
    assert len(held) == len(set(held)) and set(held) == names(unet)


def test_sdxl_itself_is_cut_as_the_table_says():
    """34 units beside the embeddings, without a number in them: memory.md's table, by names, skips and parameters."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET)
    made = cut(unet)
    kinds = "".join({"plain": "p", "resnet": "r", "attention": "a", "upsample": "u"}[u.kind] for u in made.units)
    assert kinds == "p" + "rrp" + "rarap" + "rara" + "rar" + "rarara" + "u" + "rarara" + "u" + "rrr" + "p"
    pushers = [number for number, unit in enumerate(made.units) if unit.pushes]
    assert len(pushers) == 9
    assert [unit.skip for unit in made.units if unit.skip is not None] == pushers[::-1]
    sizes = {name: sum(p.numel() for _, p in parameters) for name, parameters in made.parameters().items()}
    assert sum(sizes.values()) == 2_567_463_684
    deep = [name for name, size in sizes.items() if round(size / 1e6, 2) == 350.84]
    shallow = [name for name, size in sizes.items() if round(size / 1e6, 2) == 20.83]
    assert (len(deep), len(shallow)) == (6, 5)
    halves = cut(unet, deepest=5)
    # What the second half adds to its own is what the first half read.
    assert [(unit.name, unit.skip) for unit in halves.units if unit.part and unit.skip is not None] == [
        (unit.name, number - 2) for number, unit in enumerate(halves.units) if unit.name.endswith("2/2")
    ]
    assert len(halves.units) == 34 + 6 and len({unit.structure for unit in halves.units if unit.part}) == 3


def test_a_unet_of_another_make_is_refused_by_name():
    with pytest.raises(ValueError, match="AttnDownBlock2D"):
        cut(UNet2DConditionModel(block_out_channels=(8, 8), down_block_types=("AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D"), norm_num_groups=4, addition_embed_type="text_time",
            addition_time_embed_dim=4, projection_class_embeddings_input_dim=32, cross_attention_dim=16,
            attention_head_dim=4))  # fmt: skip
    changed = tiny_unet()
    changed.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"extra\.bias"):
        cut(changed)
    changed = tiny_unet()
    changed.up_blocks[0].s1 = changed.up_blocks[0].s2 = changed.up_blocks[0].b1 = changed.up_blocks[0].b2 = 1.1
    with pytest.raises(ValueError, match="FreeU"):
        cut(changed)


def test_groups_are_of_one_shape_and_caption_length_in_the_order_of_the_window():
    micros = [asked.micro for asked in window()]
    assert [group.members for group in grouped(micros, 1)] == [(0,), (1,), (2,), (3,), (4,), (5,)]
    assert [group.members for group in grouped(micros, 2)] == [(0,), (1, 3), (2,), (4,), (5,)]
    three = grouped(micros, 3)
    assert [group.members for group in three] == [(0,), (1, 3, 5), (2,), (4,)]  # 4 has 0's shape, not its length
    assert three[1].sizes == (1, 1, 1) and three[2].sizes == (2,)
    assert torch.equal(three[1].micro.noisy_latents[1:2], micros[3].noisy_latents)
    assert torch.equal(three[1].micro.network_time[2:], micros[5].network_time)


def test_what_groups_leave_over_comes_in_powers_of_two():
    micros = [asked.micro for asked in window([(1, 8, 8)] * 4 + [(1, 8, 16)] + [(1, 8, 8)] * 7)]
    alike = [micro for micro in micros if micro.condition.prompt_embeds.shape[1] == 7]
    for most, sizes in ((4, [4, 4, 2, 1]), (5, [5, 5, 1]), (8, [8, 2, 1]), (16, [8, 2, 1]), (1, [1] * 11)):
        groups = [group.members for group in grouped(alike, most)]
        assert [len(members) for members in groups] == sizes, most
        assert [number for members in groups for number in members] == list(range(11))
