"""What of a run's whole event file still counts. No Textual."""

from collections.abc import Iterator
from pathlib import Path

from aozora_tui.run_state import RunState
from engine.contract import events
from engine.contract.rundir import RunDir


def rate_factor(run: RunDir) -> float:
    """What the schedule's rate is multiplied with by command: it may have been given long ago. 1 if it cannot be
    read."""
    state = RunState()
    state.apply(_told(run, b'"steered"', b'"started"'))
    return state.factor


def exports(run: RunDir) -> list[Path]:
    """What the run's last start has finished for others, in order."""
    state = RunState()
    state.apply(_told(run, b'"export"', b'"started"'))
    return [run.path / path for path in state.exports]


def _told(run: RunDir, *words: bytes) -> Iterator[events.AnyEvent]:
    """The events of the lines that hold one of `words`: most are steps, and decoding them takes long."""
    try:
        if not run.events.is_file():  # a pipe would hang whoever opens it
            return
        with run.events.open("rb") as file:
            for line in file:
                if any(word in line for word in words) and (event := events.decode(line)) is not None:
                    yield event
    except OSError:
        return
