"""`aozora-tui compare`: in the app, as a table, or as JSON. Heavy imports are inside it."""

from typing import TYPE_CHECKING

from aozora_tui import commands
from aozora_tui.context import Context
from aozora_tui.terminal import complain, on_terminal, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aozora_tui.compared_runs import ComparedRun


def compare(context: Context) -> int:
    """1 if one of the runs cannot be read."""
    from aozora_tui.compared_runs import ComparedRun, distinct, labels
    from aozora_tui.find_run import find
    from aozora_tui.widgets.run_marks import MOST_RUNS

    args = context.args
    found = distinct([find(name) for name in args.runs])
    if len(found) > MOST_RUNS:
        raise ValueError(f"{len(found)} runs are too many to be told apart: name {MOST_RUNS} at most")
    if not (args.plain or args.json) and on_terminal():
        return commands.open_compared(found, context)
    compared = [ComparedRun(run, place) for place, run in enumerate(found)]
    for each in compared:
        each.load()
    names = labels(found)
    if args.json:
        from aozora_tui.compared_finals import as_json

        say(commands.to_json(as_json(compared, names)))
    else:
        for line in _lines(compared, names):
            say(line)
    unreadable = [(name, each.trouble) for name, each in zip(names, compared, strict=True) if each.word == "unreadable"]
    for name, trouble in unreadable:
        complain(f"{name}: {trouble}")
    return 1 if unreadable else 0


def _lines(compared: "Sequence[ComparedRun]", names: "Sequence[str]") -> list[str]:
    """The finals, then what the profiles differ in; `*` is the best of its row."""
    from aozora_tui import text
    from aozora_tui.compared_finals import (
        differing,
        final,
        name_of,
        no_setting_differs,
        other_losses,
        rows,
        shared,
        values_of,
    )

    upto = shared(compared)
    finals = [final(each, name, upto) for each, name in zip(compared, names, strict=True)]
    table = [["RUN", *names]]
    for row in rows(finals, upto):
        cells = [f"{cell} *" if at in row.best else cell for at, cell in enumerate(row.cells)]
        table.append([row.label, *cells])
    settings = differing(compared)
    table.append(["SETTING", *("" for _ in names)])
    table.extend([name_of(setting, settings), *values_of(setting, compared)] for setting in settings)
    if not settings:
        table.pop()
    lines = text.table([[text.printable(cell) for cell in row] for row in table])
    said = ["" if settings else no_setting_differs(compared), other_losses(settings)]
    return [*lines, *(line for line in said if line)]
