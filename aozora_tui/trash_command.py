"""`aozora-tui trash`: what was deleted, and deleting it for good."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aozora_tui.commands import to_json
from aozora_tui.context import Context, RefusedError
from aozora_tui.terminal import complain, say

if TYPE_CHECKING:
    from aozora_tui.trash import Thrown


def trash(context: Context) -> int:
    """Lists the trash; with `--empty` deletes what is in it, once that is confirmed."""
    from aozora_tui import trash

    args = context.args
    if args.yes and not args.empty:
        raise ValueError("--yes belongs to --empty: alone it would do nothing")
    found = trash.entries()
    weights = [trash.size_of(thrown.kept) for thrown in found]
    if args.empty:
        return _empty(found, weights, yes=args.yes, as_json=args.json)
    if args.json:
        say(to_json({"folder": str(trash.folder()), "bytes": sum(weights), "entries": _documents(found, weights)}))
        return 0
    for line in _lines(found, weights):
        say(line)
    return 0


def _lines(found: "Sequence[Thrown]", weights: Sequence[int]) -> list[str]:
    import time

    from aozora_tui import text, trash

    if not found:
        return [f"nothing is in the trash ({text.printable(str(trash.folder()))})"]
    rows = [("WHAT", "KIND", "DELETED", "SIZE", "WAS", "IS")]
    for thrown, weight in zip(found, weights, strict=True):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(thrown.time)) if thrown.time else "-"
        places = (str(thrown.original), str(thrown.kept))
        rows.append((thrown.name, _kind(thrown), when, text.size(weight), *places))
    table = text.table([[text.printable(cell) for cell in row] for row in rows])
    return [*table, f"{text.size(sum(weights))} in all; `aozora-tui trash --empty` deletes it for good"]


def _documents(found: "Sequence[Thrown]", weights: Sequence[int]) -> list[dict[str, Any]]:
    from aozora_tui.text import printable

    return [
        {
            "name": printable(thrown.name),
            "kind": _kind(thrown),
            "time": thrown.time or None,
            "bytes": weight,
            "original": printable(str(thrown.original)),
            "kept": printable(str(thrown.kept)),
        }
        for thrown, weight in zip(found, weights, strict=True)
    ]


def _kind(thrown: "Thrown") -> str:
    return "run" if thrown.is_run else "profile"


def _empty(found: "Sequence[Thrown]", weights: Sequence[int], *, yes: bool, as_json: bool) -> int:
    from aozora_tui import text, trash

    if found and not yes and not _confirmed(f"{_counted(found)} ({text.size(sum(weights))})"):
        raise RefusedError("nothing was deleted")
    left, freed = [], 0
    for thrown, weight in zip(found, weights, strict=True):
        try:
            trash.remove(thrown)
        except (OSError, ValueError) as error:
            complain(text.printable(f"{thrown.kept} was not deleted: {error}"))
            left.append(thrown)
        else:
            freed += weight
    gone = len(found) - len(left)
    if as_json:
        still = _documents(left, [trash.size_of(thrown.kept) for thrown in left])
        say(to_json({"deleted": gone, "bytes": freed, "left": still}))
    else:
        say(f"deleted {gone} of {_counted(found)}: {text.size(freed)}" if found else "nothing was in the trash")
    return 1 if left else 0


def _counted(found: "Sequence[Thrown]") -> str:
    return "1 thing" if len(found) == 1 else f"{len(found)} things"


def _confirmed(what: str) -> bool:
    """Asks on a terminal. Raises ValueError where nobody can be asked."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        raise ValueError(f"this would delete {what} for good: say --yes where nobody can be asked")
    sys.stderr.write(f"Delete {what} for good? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
