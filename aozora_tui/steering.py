"""The commands that tell a live run something. Everything heavy is imported by the command that needs it."""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aozora_tui.context import Context, RefusedError
from aozora_tui.terminal import say

ANSWER_SECONDS = 3.0  # the engine looks for commands five times a second

if TYPE_CHECKING:
    from engine.contract.rundir import CommandName, RunDir, State


def send(context: Context) -> int:
    from engine.contract import rundir

    name: CommandName = context.args.command_name
    run = addressed(context.args.run, rundir.LIVE_STATES)
    offset = told(run, name)
    said = {"stop": "save and stop", "save": "save a checkpoint", "sample": "draw its previews", "pause": "pause"}
    say(f"asked {run.name} to {said[name]}")
    _require_obeyed(run, name, offset)
    return 0


def told(run: "RunDir", name: "CommandName", value: float | None = None) -> int:
    """Leave a command for the engine; returns how long the run's events were then. Raises RefusedError if nobody is
    there to obey it."""
    from engine.contract import rundir

    offset = run.events.stat().st_size if run.events.exists() else 0
    try:
        rundir.send(run, name, value)
    except ValueError as error:
        raise RefusedError(str(error)) from None
    return offset


def _require_obeyed(run: "RunDir", name: "CommandName", offset: int) -> None:
    """Wait a moment for what the engine says to it. What it does after its step, minutes later, it has not refused.
    Raises RefusedError."""
    import time

    from aozora_tui import runs
    from engine.contract import events, rundir

    tail, until = events.Tail(run.events), time.monotonic() + ANSWER_SECONDS
    tail.offset = offset
    while name != "stop" and time.monotonic() < until and runs.standing(run) in rundir.LIVE_STATES:
        for event in tail.read():
            if isinstance(event, events.Refused) and event.command == name:
                raise RefusedError(f"{run.name} refused to {name}: {event.text}")
            if isinstance(event, events.Saved | events.Sampled | events.Paused | events.Steered):
                return
        time.sleep(0.05)


def steer_rate(context: Context) -> int:
    from aozora_tui import runs
    from engine.contract import rundir

    factor, name = _factor_and_run([word for word in (context.args.factor, context.args.run) if word is not None])
    run = addressed(name, rundir.LIVE_STATES)
    if (state := runs.state_now(run)) not in rundir.LIVE_STATES:
        raise RefusedError(_no_rate(run, state))
    offset = told(run, "lr", factor)
    if factor == 0:
        say(f"asked {run.name} to learn nothing until its rate is raised: `aozora-tui lr 1 {run.name}`")
    else:
        say(f"asked {run.name} to {_scaled(factor)}")
    _require_obeyed(run, "lr", offset)
    return 0


def _scaled(factor: float) -> str:
    from aozora_tui import text

    return f"scale its learning rate by {text.factor(factor)}" if factor != 1 else "learn at its scheduled rate again"


def _factor_and_run(words: Sequence[str]) -> tuple[float, str | None]:
    """In either order. Raises ValueError, about the one that is most like a number, if none is a factor."""
    from aozora_tui.text import read_factor

    for word in words:
        with contextlib.suppress(ValueError):
            return read_factor(word), next((other for other in words if other is not word), None)
    meant = next((word for word in words if word[:1].isdecimal() or word.startswith((".", ",", "-"))), words[0])
    return read_factor(meant), None


def _no_rate(run: "RunDir", state: "State") -> str:
    """Why the rate of a run that is not live cannot be scaled, and what can be done."""
    if state == "finished":
        return f"{run.name} has finished: it has no learning rate any more"
    if state == "elsewhere":
        return f"{run.name} was started on another machine: scale its rate there"
    return (
        f"{run.name} is not running ({state}): resume it and give the command again, or lower optimizer.learning_rate "
        f"in {run.profile} and resume it then"
    )


def addressed(name: str | None, states: frozenset[str]) -> "RunDir":
    """The run called `name`, or without one the only run in one of `states`. Raises ValueError otherwise."""
    from aozora_tui import runs
    from engine.contract import places, rundir

    if name is not None:
        return rundir.find(places.runs_folder(), name)
    fitting = [run for run in rundir.all_runs(places.runs_folder()) if runs.standing(run) in states]
    what = "live" if len(states) > 1 else next(iter(states))
    if not fitting:
        raise RefusedError(f"no run is {what}: `aozora-tui runs` lists them all")
    if len(fitting) > 1:
        raise ValueError(f"{len(fitting)} runs are {what} ({', '.join(run.name for run in fitting)}): name the one")
    return fitting[0]
