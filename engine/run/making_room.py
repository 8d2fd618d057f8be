"""What a run does when the card's memory does not suffice in the middle of it."""

import gc

import torch

from engine.memory.plan import Plan
from engine.run.session import Session


def make_room(session: Session, plan: Plan) -> bool:
    """Have the plan need less, and tell; False if it cannot. To be called when the exception is gone: it holds what was
    computed so far."""
    like = plan.cheaper()
    if like is None:
        return False
    gc.collect()
    if plan.device.type == "cuda":
        torch.cuda.empty_cache()
    text = f"the card's memory did not suffice: the run goes on as with memory.{like}, which takes more time"
    session.warn("out-of-memory", text, "End other programs on the card, or write that into the profile.")
    return True
