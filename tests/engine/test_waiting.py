"""What a picture takes of host memory between the units of stage-major, counted on the whole UNet's shapes."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from engine.contract import calibration
from engine.contract.budget_stages import DEEPEST, DEEPEST_GROUPED
from engine.memory.units import cut
from engine.model.components import unet_config
from tests.engine.sdxl import published

SIDE = 128  # of the latents of 1024 x 1024


@pytest.mark.parametrize(
    ("deepest", "foreseen"),
    [(DEEPEST, calibration.WAITING_ROOM), (DEEPEST_GROUPED, calibration.WAITING_ROOM_GROUPED)],
)
def test_each_unit_s_input_and_what_residuals_owe_wait_on_the_host(deepest: int, foreseen: int):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(published())).to(torch.bfloat16)
        hidden = [torch.empty(1, 4, SIDE, SIDE, dtype=torch.bfloat16)]
        embedding = torch.empty(1, 1280, dtype=torch.bfloat16)
        context = torch.empty(1, 77, 2048, dtype=torch.bfloat16)
    units = cut(unet, deepest=deepest).units
    owed = 0
    for unit in units:
        given: dict[str, Tensor] = {}
        if unit.skip is not None:
            given["skip"] = hidden[unit.skip + 1]
            owed += hidden[unit.skip + 1].nbytes  # its gradient, until the way back comes by
        if unit.reads_embedding:
            given["embedding"] = embedding
        if unit.reads_context:
            given["context"] = context
        hidden.append(unit.run(hidden[-1], **given))
    # The answer's place takes its gradient.
    taken = context.nbytes + sum(each.nbytes for each in hidden) + owed
    assert foreseen == pytest.approx(taken, rel=0.005)
