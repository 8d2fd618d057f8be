"""Everything that can fail at step 64 fails before step 1."""

from dataclasses import replace

import torch

from engine.contract.atomic import NoSpaceError, require_free
from engine.data.batches import Batches, Order
from engine.memory.plan import Plan
from engine.objective.objective import Objective
from engine.run import checkpoint
from engine.run.dataset import Dataset
from engine.run.errors import LESS_MEMORY, RunError
from engine.run.session import Session
from engine.run.train import judge


def rehearse(session: Session, plan: Plan, dataset: Dataset, objective: Objective, *, batch_size: int) -> None:
    """One micro-batch of the largest bucket with the longest caption, forward and backward, and what an update
    allocates. Nothing is written.

    Raises RunError when the device's memory does not suffice or the model answers with something that is not finite.
    """
    largest = max(dataset.items, key=lambda item: item.bucket.width * item.bucket.height)
    longest, _ = max(zip(dataset.items, dataset.chunks, strict=True), key=lambda pair: pair[1])
    worst = replace(largest, text_key=longest.text_key)
    null = dataset.cache.load_text(worst)
    order = Order([worst.bucket], [batch_size], seed=0, batch_size=batch_size)
    batch = Batches(dataset.cache, [worst], order, seed=0, conditional_dropout=0.0, null=null).load(0)
    _, judged = judge(objective, batch, plan.device)
    try:
        gradient = plan.gradient([judged], lambda *_: session.check())
        plan.rehearse()
    except torch.OutOfMemoryError as error:
        width, height = largest.bucket
        text = f"the device has too little memory for {batch_size} picture(s) of {width}x{height}"
        raise RunError("out-of-memory", text, LESS_MEMORY) from error
    if not gradient.finite:
        text = f"the base checkpoint answers {largest.name} with values that are not finite"
        raise RunError("not-finite", text, "Inspect the checkpoint, or train in fp32.")


def check_disk(session: Session, plan: Plan, export_bytes: int) -> None:
    """Room for the next checkpoint, for a second beside it if there is none yet, and for the export. Raises RunError
    with both numbers."""
    trained = sum(shape.numel() for shape in plan.shapes.values())
    moments = sum(tensor.numel() for tensor in plan.optimizer_state().values())
    coming = 1 if checkpoint.present(session.run.checkpoints) else 2
    try:
        require_free(session.run.path / "checkpoints and export", coming * 4 * (trained + moments) + export_bytes)
    except NoSpaceError as error:
        raise RunError("disk-full", str(error.strerror), "Or train fewer layers, or set AOZORA_RUNS.") from error
