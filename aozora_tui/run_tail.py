"""The end and the beginning of a run's event file: enough to say how the run stands. No Textual."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.contract import events

# The first mostly holds a step; between two slow ones there are many lines of micro-batches.
_WINDOWS = (1 << 12, 1 << 16)


def recent(path: Path) -> list[events.AnyEvent]:
    """The readable events at the end of the file: back to a step, or the last 64 KiB."""
    found: list[events.AnyEvent] = []
    for window in _WINDOWS:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - window))
                block = file.read(window)
        except FileNotFoundError:
            return []
        found = list(_decoded(block))
        if size <= window or any(isinstance(event, events.Step) for event in found):
            break
    return found


def where(told: Sequence[events.AnyEvent]) -> tuple[int, float | None]:
    """The newest step and its loss. A resume goes back to its own step and voids what came after."""
    step, loss = 0, None
    for event in told:
        if isinstance(event, events.Started):
            loss = loss if event.step == step else None
            step = event.step
        elif isinstance(event, events.Step):
            step, loss = event.step, event.loss
        elif isinstance(event, events.Finished):
            step = event.step
    return step, loss


def steps(path: Path, told: Sequence[events.AnyEvent]) -> int:
    """Of the whole run, as its last start among `told` said, else as its first; 0 if neither is found."""
    for event in reversed(told):
        if isinstance(event, events.Started):
            return event.steps
    try:
        with path.open("rb") as file:
            for window in _WINDOWS:
                file.seek(0)
                found = (event for event in _decoded(file.read(window)) if isinstance(event, events.Started))
                if (started := next(found, None)) is not None:
                    return started.steps
    except FileNotFoundError:
        pass
    return 0


def _decoded(block: bytes) -> Iterator[events.AnyEvent]:
    return (event for line in block.splitlines() if (event := events.decode(line)) is not None)
