"""What a run does when the card's memory does not suffice in the middle of it."""

import gc

import torch

from engine.memory.plan import Plan
from engine.memory.stage_major import ON_THE_HOST
from engine.run.session import Session

NO_GROUPS = "group = 1"


def make_room(session: Session, plan: Plan) -> bool:
    """Have the plan need less, and tell; False if it cannot. To be called when the exception is gone: it holds what was
    computed so far."""
    like = plan.cheaper()
    if like is None:
        return False
    gc.collect()
    if plan.device.type == "cuda":
        torch.cuda.empty_cache()
    written = like if like.startswith("plan") else f'plan = "{plan.name}", {like}'
    text = f"the card's memory did not suffice: the run goes on as with {written}, which takes more time"
    remedy = "End other programs on the card, or write that into the profile's [memory]."
    if like == NO_GROUPS:  # from the start, parts of the UNet would be larger
        remedy = "End other programs on the card, train fewer layers, or lower data.resolution or train.batch_size."
    if like == ON_THE_HOST:
        remedy = "End other programs on the card, or set memory.limit to what they leave free."
    session.warn("out-of-memory", text, remedy)
    return True
