"""Everything that can fail at step 64 fails before step 1."""

import contextlib

import torch

from engine.contract.atomic import NoSpaceError, require_free
from engine.data.batches import Batch
from engine.memory.plan import Plan, WindowGradient
from engine.objective.objective import Objective
from engine.run import checkpoint
from engine.run.dataset import Dataset, rehearsal_batch
from engine.run.errors import LESS_MEMORY, RunError
from engine.run.making_room import make_room
from engine.run.session import Session
from engine.run.windows import judge


def rehearse_update(plan: Plan) -> None:
    """What an update allocates. Nothing is written. Raises RunError when the device's memory does not suffice."""
    try:
        plan.rehearse()
    except torch.OutOfMemoryError as error:
        raise RunError("out-of-memory", "the device has too little memory for an update", LESS_MEMORY) from error


def rehearse(
    session: Session,
    plan: Plan,
    dataset: Dataset,
    objective: Objective,
    *,
    batch_size: int,
    step: int,
    together: int = 1,
) -> None:
    """One micro-batch of the largest bucket with the longest caption, forward and backward, with the weights of `step`;
    then, where the plan computes some `together`, so many. Nothing is written.

    Raises RunError when the device's memory does not suffice or the model answers with something that is not finite.
    """
    batch = rehearsal_batch(dataset, batch_size)
    if _try(session, plan, objective, batch, times=1).sound:
        _reserve(session, plan)
        if together > 1:
            _try(session, plan, objective, batch, times=together)
        return
    if step:
        text = f"with the weights of step {step} the model answers {batch.names[0]} with values that are not finite"
        remedy = f"Remove checkpoints/step-{step:06d} to go on from the one before, with a lower learning rate."
        raise RunError("not-finite", text, remedy)
    text = f"the base checkpoint answers {batch.names[0]} with values that are not finite"
    raise RunError("not-finite", text, "Inspect the checkpoint, or train in fp32.")


def _reserve(session: Session, plan: Plan) -> None:
    while True:
        with contextlib.suppress(torch.OutOfMemoryError):
            return plan.reserve()
        if not make_room(session, plan):
            raise RunError("out-of-memory", "the device has too little memory for a step's pictures", LESS_MEMORY)


def _try(session: Session, plan: Plan, objective: Objective, batch: Batch, *, times: int) -> WindowGradient:
    while True:
        _, judged = judge(objective, batch, plan.device)
        with contextlib.suppress(torch.OutOfMemoryError):
            return plan.gradient([judged] * times, lambda *_: session.check())
        if not make_room(session, plan):
            height, width = (8 * side for side in batch.latents.shape[-2:])
            text = f"the device has too little memory for {len(batch.names)} picture(s) of {width}x{height}"
            raise RunError("out-of-memory", text, LESS_MEMORY)


def check_disk(session: Session, plan: Plan, export_bytes: int) -> None:
    """Room for the next checkpoint, for a second beside it if there is none yet, and for the export. Raises RunError
    with both numbers."""
    coming = 1 if checkpoint.present(session.run.checkpoints) else 2
    try:
        require_free(
            session.run.path / "checkpoints and export", coming * checkpoint.tensor_bytes_of(plan) + export_bytes
        )
    except NoSpaceError as error:
        raise RunError("disk-full", str(error.strerror), "Or train fewer layers, or set AOZORA_RUNS.") from error
