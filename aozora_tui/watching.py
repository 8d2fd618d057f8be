"""`aozora-tui watch`: in the app, in five lines, in plain lines or as JSON; here or, by `--host`, from elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from aozora_tui import commands
from aozora_tui.context import Context
from aozora_tui.terminal import complain, on_terminal, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from aozora_tui.follow import Ending
    from engine.contract.rundir import RunDir

CLOSING_SECONDS = 25.0  # for a webhook's two tries


class Sending(Protocol):
    """What notifications look like to those who follow a run."""

    def watch(self, run: "RunDir") -> None: ...

    def look(self) -> None: ...


class _Nothing:
    def watch(self, run: "RunDir") -> None:
        pass

    def look(self) -> None:
        pass


def watch(context: Context) -> int:
    args = context.args
    if args.host is None:
        from engine.contract import places, rundir

        if args.list:
            raise ValueError("--list belongs to --host: `aozora-tui runs` lists those of this machine")
        if args.remote_runs or args.remote_command != "aozora-tui":
            raise ValueError("--remote-runs and --remote-command belong to --host: name the machine too")
        return _watch(rundir.find(places.runs_folder(), args.run), context)
    from aozora_tui.remote.watching import connected, listed

    if args.list:
        for name in listed(args.host, args.remote_runs):
            say(name)
        return 0
    with connected(
        args.host,
        args.run,
        folder=args.remote_runs,
        remote_command=args.remote_command,
        tick=context.settings.tick,
    ) as run:
        return _watch(run, context)


def _watch(run: "RunDir", context: Context) -> int:
    args = context.args
    if on_terminal() and not (args.plain or args.json or args.inline):
        return commands.open_app(run, context)
    from aozora_tui import follow
    from aozora_tui.remote import links
    from aozora_tui.remote.watching import Told

    following = _in_five_lines if args.inline and on_terminal() and not (args.plain or args.json) else _in_lines
    news = Told(run)
    try:
        with follow.Interrupts() as asked, told_of(context) as notices:
            notices.watch(run)

            def each_round() -> None:
                asked.leave()
                notices.look()
                if following is _in_lines:
                    news.look()

            ending = following(run, context, each_round)
        return commands.end(run, ending)
    except KeyboardInterrupt:
        complain(f"no longer watching; {run.name} goes on: `{links.typed(run, 'stop')}` stops it")
        return 0


def _in_lines(run: "RunDir", context: Context, each_round: "Callable[[], None]") -> "Ending":
    from aozora_tui import follow

    return follow.follow(run, say, json=context.args.json, each_round=each_round)


def _in_five_lines(run: "RunDir", context: Context, each_round: "Callable[[], None]") -> "Ending":
    from aozora_tui import inline

    return inline.follow(run, each_round, tick=context.settings.tick)


@contextmanager
def told_of(context: Context) -> Iterator[Sending]:
    """Notifications while a run is followed in lines, if the person wants any; for other programs (`--json`) none."""
    if not context.settings.wants_notices or context.args.json:
        yield _Nothing()
        return
    from aozora_tui.notify import Notices

    notices = Notices(context.settings.notify, write=_ring if sys.stderr.isatty() else None, complain=complain)
    try:
        yield notices
    finally:
        notices.close(CLOSING_SECONDS)


def _ring(sequence: str) -> None:
    sys.stderr.write(sequence)
    sys.stderr.flush()
