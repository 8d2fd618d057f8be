"""What each command about runs does. Everything heavy is imported by the command that needs it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aozora_tui.context import Context, RefusedError
from aozora_tui.terminal import complain, fitted, on_terminal, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from aozora_tui.follow import Ending
    from engine.contract.check import Checked
    from engine.contract.problems import Problem
    from engine.contract.rundir import RunDir

EXIT_INTERRUPTED = 130
START_SECONDS = 60.0  # a cold disk may take that long to bring up the interpreter


# -- running and watching ----------------------------------------------------------------------------------------------


def app(context: Context) -> int:
    if not on_terminal():
        complain("the app needs a terminal: run it in one, or see `aozora-tui --help` for the commands that do not")
        return 2
    return _show(None, context)


def train(context: Context) -> int:
    import msgspec

    from aozora_tui import runs
    from aozora_tui.find_profile import find_profile, shipped

    args = context.args
    path = find_profile(args.profile) if args.profile else shipped("demo")
    checked = check(path, context)
    complain_of(path, checked.problems)
    if not checked.ok:
        if args.json:
            wrong = {"error": f"{path} cannot be trained", "problems": msgspec.to_builtins(checked.problems)}
            say(to_json(wrong))
        return 2
    if args.detach:
        return _detached(runs.launch(path, engine_command=context.engine), as_json=args.json)
    if not (args.plain or args.json) and on_terminal():
        return open_app(runs.launch(path, engine_command=context.engine), context)
    return _attend(lambda: runs.launch(path, engine_command=context.engine), context)


def check(path: Path, context: Context) -> "Checked":
    """All that is known to be wrong with a profile before a run of it is started."""
    from aozora_tui.diff_process import StatusLine
    from aozora_tui.verify import check_for_start

    with StatusLine() as status:
        return check_for_start(path, engine_command=context.engine, asking=status.say)


def _attend(start: "Callable[[], RunDir]", context: Context, *, offset: int = 0) -> int:
    """Start a run and follow it in lines, its events from `offset` on. Ctrl-C or SIGTERM stops it; a second Ctrl-C only
    ends the following."""
    import signal

    from aozora_tui import follow
    from aozora_tui.watching import told_of

    asked = False
    with follow.Interrupts() as interrupts, told_of(context) as notices:
        run = start()
        notices.watch(run)

        def each_round() -> None:
            nonlocal asked
            notices.look()
            if interrupts.received is not None and not asked:
                follow.ask_to_stop(run)
                asked = True
                complain(f"stopping {run.name}: it saves first; Ctrl-C again leaves without waiting for it")

        try:
            ending = follow.follow(run, say, json=context.args.json, offset=offset, each_round=each_round)
        except KeyboardInterrupt:
            if not asked:  # both came within one round
                follow.ask_to_stop(run)
            complain(f"no longer waiting; {run.name} saves and stops by itself")
            return EXIT_INTERRUPTED
    interrupted = EXIT_INTERRUPTED if interrupts.received == signal.SIGINT else 0
    if asked and ending.code == -signal.SIGTERM:  # it could not listen yet
        complain(f"{run.name} was stopped before it had begun: nothing is lost")
        return interrupted
    return end(run, ending) or interrupted


def _detached(run: "RunDir", *, as_json: bool) -> int:
    from aozora_tui import follow, runs

    if not runs.wait_until_started(run, START_SECONDS):
        return end(run, follow.follow(run, lambda _: True))
    say(to_json({"run": run.name, "folder": str(run.path)}) if as_json else run.name)
    return 0


def open_app(run: "RunDir", context: Context) -> int:
    """The app on a run; afterwards, on the bare terminal again, what became of it."""
    if code := _show(run, context):
        return code
    from aozora_tui import follow, run_history, runs
    from aozora_tui.remote import links
    from engine.contract import events, rundir

    ending = follow.ending_of(run)
    runs.reap()
    if ending.state in rundir.LIVE_STATES:
        say(f"{links.title(run)} goes on without the app: `{links.typed(run, 'watch')}` shows it again")
    elif isinstance(ending.final, events.Finished) and ending.final.export:
        for path in run_history.exports(run):
            say(f"export: {links.place(run, path)}")
    return end(run, ending)


def open_compared(runs: "Sequence[RunDir]", context: Context) -> int:
    """The app on several runs side by side."""
    return _show(None, context, comparing=runs)


def _show(run: "RunDir | None", context: Context, *, comparing: "Sequence[RunDir]" = ()) -> int:
    """The app. What it begins with is there to stay: looking for garbage in it would take a tenth of the time until
    the first frame, with which that begins."""
    import gc

    gc.disable()
    try:
        from aozora_tui.app import run_app

        return run_app(run, comparing=comparing, settings=context.settings)
    finally:
        gc.enable()


def end(run: "RunDir", ending: "Ending") -> int:
    """Say what the person must know about how a run ended, or that the following did; the exit code."""
    from aozora_tui import follow
    from aozora_tui.remote import links

    if ending.state == "unread":
        complain(f"nobody reads the output any more; {run.name} goes on: `{links.typed(run, 'watch')}`")
    for line in follow.report(run, ending):
        complain(line)
    return ending.exit_code


# -- again and which ---------------------------------------------------------------------------------------------------


def resume(context: Context) -> int:
    from aozora_tui import follow, runs
    from aozora_tui.steering import addressed, told
    from engine.contract import places, rundir

    args = context.args
    if args.run is None and not runs.live(places.runs_folder()):
        run = rundir.find(places.runs_folder(), None)
    else:
        run = addressed(args.run, frozenset({"paused"}))
    if runs.state_now(run) == "paused":
        told(run, "resume")
        say(f"asked {run.name} to go on")
        return 0
    offset = run.events.stat().st_size if run.events.exists() else 0

    def restart() -> "RunDir":
        if reason := runs.why_not_resume(run):
            raise RefusedError(reason)
        runs.resume(run, engine_command=context.engine)
        return run

    if args.detach:
        restart()
        if not runs.wait_until_started(run, START_SECONDS):
            return end(run, follow.follow(run, lambda _: True, offset=offset))
        where = follow.starting_point(run)
        said = f"{run.name} goes on from {where}: `aozora-tui watch {run.name}` shows it"
        say(to_json({"run": run.name, "folder": str(run.path)}) if args.json else said)
        return 0
    if not (args.plain or args.json) and on_terminal():
        return open_app(restart(), context)
    return _attend(restart, context, offset=offset)


# -- shared ------------------------------------------------------------------------------------------------------------


def complain_of(path: Path, problems: "Sequence[Problem]") -> None:
    """Every problem of a profile, on stderr."""
    if problems:
        complain(f"{path}:")
    for problem in problems:
        for line in fitted(f"  {problem.severity}: {problem}", sys.stderr, indent="    "):
            complain(line)


def to_json(value: object) -> str:
    """One JSON document of structs and plain values."""
    import msgspec

    return msgspec.json.encode(value).decode()
