"""Starting a run and commands to one, the same from its own screen and from the command palette of any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.app import SystemCommand
from textual.worker import get_current_worker

from aozora_tui import runs
from aozora_tui.remote import links
from aozora_tui.screens.words import cut_path
from aozora_tui.text import factor
from engine.contract import places
from engine.contract.problems import Problem
from engine.contract.rundir import CommandName, RunDir

if TYPE_CHECKING:
    from aozora_tui.screens.base import AozoraScreen
    from engine.contract.check import Checked

# `{pause}` is the key for that.
SAID: dict[CommandName, str] = {
    "stop": "Stopping: the last finished step is saved first.",
    "save": "A checkpoint is saved after the present step.",
    "sample": "Previews are drawn after the present step.",
    "pause": "The run pauses after the present step; {pause} again lets it go on.",
    "resume": "The run goes on.",
    "lr": "The learning rate is scaled from the next step on.",
}


def check_for_start(screen: AozoraScreen[Any], path: Path) -> Checked | None:
    """For a worker's thread: the whole check, torch's part too where that is needed. None if the worker has been
    replaced, or the app is about to end."""
    from aozora_tui.verify import check_for_start

    worker = get_current_worker()

    def asking(text: str) -> None:
        screen.app.call_from_thread(screen.say, f"{text[0].upper()}{text[1:]}")

    checked = check_for_start(
        path,
        engine_command=screen.aozora.engine_command,
        asking=asking,
        should_stop=lambda: worker.is_cancelled,
    )
    return None if worker.is_cancelled else checked


def launch(
    screen: AozoraScreen[Any],
    path: Path,
    then: Callable[[], object] = lambda: None,
    *,
    in_doubt: Problem | None = None,
) -> None:
    """Start a run and show it; `then` first takes away what is in front. What could not be checked is said over it."""
    try:
        run = runs.launch(path, engine_command=screen.aozora.engine_command)
    except (OSError, ValueError) as error:
        screen.say(str(error), "error")
        return
    screen.say(f"Started {run.name}", "good")
    then()
    screen.aozora.watch_run(run)
    if in_doubt is not None:
        from aozora_tui.screens.ask import Ask, problem_lines

        screen.app.push_screen(Ask(f"{run.name} is started all the same", problem_lines([in_doubt]), []))


def send(
    screen: AozoraScreen[Any], run: RunDir, command: CommandName, said: str = "", *, value: float | None = None
) -> None:
    """Leave a command for the engine and say what it will do, or why it will not."""
    try:
        links.send(run, command, value)
    except (OSError, ValueError) as error:
        screen.say(str(error), "warning")
    else:
        screen.say(said or SAID[command].format(pause=screen.key_name("run.pause")))


def ask_to_stop(screen: AozoraScreen[Any], run: RunDir, *, begun: bool) -> None:
    """Ask, then stop; `begun`: a step is complete, so there is something to save."""
    from aozora_tui.screens.ask import Answer, Ask

    resume = screen.key_name("run.resume")
    if begun:
        text = (
            "The engine saves the last finished step and stops. The step it is in is given up: resuming "
            f"({resume}) draws it again."
        )
    else:
        text = f"No step is complete yet, so there is nothing to save. What is encoded stays; {resume} starts again."

    def answered(answer: str | None) -> None:
        if answer == "stop":
            send(screen, run, "stop")

    body = [text, cut_path(links.folder(run) / "checkpoints", 68)]
    screen.app.push_screen(Ask(f"Stop {run.name}?", body, [Answer("y", "save and stop", "stop")]), answered)


def ask_for_rate(screen: AozoraScreen[Any], run: RunDir, *, now: float, planned: float) -> None:
    """Ask for a factor on the learning rate, `now` being the present one, and send it."""
    from aozora_tui.screens.ask_rate import AskRate

    key = screen.key_name("run.rate")

    def answered(chosen: float | None) -> None:
        if chosen is not None:
            scaled = f"The schedule's learning rate x {factor(chosen)}, from the next step on."
            special = {
                1.0: "The scheduled learning rate again, from the next step on.",
                0.0: f"Nothing is learnt from the next step on, until the rate is raised ({key}).",
            }
            send(screen, run, "lr", special.get(chosen, scaled), value=chosen)

    screen.app.push_screen(AskRate(run.name, now=now, planned=planned), answered)


def restart(screen: AozoraScreen[Any], run: RunDir, look: Callable[[], object] = lambda: None) -> None:
    """Start an ended run again, `look` at it, and say where it begins, or why it cannot."""
    try:
        runs.resume(run, engine_command=screen.aozora.engine_command)
    except (OSError, ValueError) as error:
        screen.say(str(error), "warning")
        return
    look()
    step = runs.newest_checkpoint(run)
    screen.say("Starting again " + (f"from step {step:,}" if step else "from the beginning: nothing was saved"))


def why_not(word: runs.Standing, resume: str = "r") -> str:
    """Why a run in this state takes no commands; `resume` is the key that starts it again."""
    if word == "elsewhere":
        return "This run was started on another machine: steer it from there."
    then = "it has no engine to tell" if word == "finished" else f"{resume} starts it again"
    return f"The run is {word}: {then}."


def commands(screen: AozoraScreen[Any], shown: RunDir | None) -> Iterable[SystemCommand]:
    """What the command palette offers for every live run but the one that is shown."""
    for run in runs.live(places.runs_folder()):
        if run == shown:
            continue
        yield SystemCommand(f"Open {run.name}", "Show this run.", partial(screen.aozora.watch_run, run))
        yield SystemCommand(f"Stop {run.name}", "Save and stop (asks first).", partial(_ask, screen, run))
        if runs.standing(run) == "paused":
            yield _command("Resume", "Let the paused run go on.", screen, run, "resume")
        else:
            yield _command("Pause", "Pause after the present step.", screen, run, "pause")
        yield _command("Save", "Save a checkpoint after the present step.", screen, run, "save")
        yield _command("Sample", "Draw the previews after the present step.", screen, run, "sample")


def _command(word: str, help: str, screen: AozoraScreen[Any], run: RunDir, name: CommandName) -> SystemCommand:
    said = f"{run.name}: {SAID[name].partition(';')[0].rstrip('.').lower()}."
    return SystemCommand(f"{word} {run.name}", help, partial(send, screen, run, name, said))


def _ask(screen: AozoraScreen[Any], run: RunDir) -> None:
    summary = runs.look_at(run)
    ask_to_stop(screen, run, begun=summary is not None and summary.step > 0)
