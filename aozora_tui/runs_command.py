"""The commands about runs that are there: listing them, what a person says of one, its profile as a new one. Heavy
imports are inside them."""

from typing import TYPE_CHECKING, Any

from aozora_tui.commands import to_json
from aozora_tui.context import Context
from aozora_tui.terminal import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from aozora_tui.run_notes import Notes
    from aozora_tui.run_order import Order
    from aozora_tui.runs import RunSummary
    from engine.contract.rundir import RunDir

    Add = Callable[..., argparse.ArgumentParser]


def add_commands(add: "Add", document: "argparse.ArgumentParser") -> None:
    """`add` makes a command of this program."""
    from aozora_tui.run_order import ORDERS

    listed = add("runs", list_runs, "list every run", document)
    listed.add_argument("--sort", metavar="ORDER", choices=ORDERS, default="newest", help=", ".join(ORDERS))
    listed.add_argument("--tag", action="append", default=[], help="only runs that have the tag; may be repeated")
    listed.add_argument("--size", action="store_true", help="say what each takes on the disk")
    tagged = add("tag", tag, "tag a run, or say its tags", document)
    _run(tagged)
    tagged.add_argument("tags", metavar="TAG", nargs="*", help="a word, as best or v2")
    tagged.add_argument("--remove", metavar="TAG", nargs="+", default=[], help="take these away")
    noted = add("note", note, "write a note on a run, or say the one it has", document)
    _run(noted)
    noted.add_argument("text", metavar="TEXT", nargs="*", help="one line")
    noted.add_argument("--clear", action="store_true", help="take the note away")
    cloned = add("clone", clone, "write a run's profile as a new profile of your own", document)
    _run(cloned)
    cloned.add_argument("name", metavar="NAME", nargs="?", help="of the new one; by default after the old")


def _run(parser: "argparse.ArgumentParser") -> None:
    parser.add_argument("run", metavar="RUN", help="its name, a beginning of it, or its folder")


# -- listing -----------------------------------------------------------------------------------------------------------


def list_runs(context: Context) -> int:
    import msgspec

    from aozora_tui import runs
    from engine.contract import places

    args = context.args
    found = _sorted(_chosen(runs.list_summaries(places.runs_folder()), args.tag, weigh=args.size), args.sort)
    if args.json:
        say(to_json(msgspec.to_builtins(found)))
        return 0
    if not found:
        none = f"there are no runs in {places.runs_folder()}: `aozora-tui demo` starts the first"
        say(f"no run has {_all_of(args.tag)}: `aozora-tui runs` lists every run" if args.tag else none)
        return 0
    for line in [*_table(found), *_remarks(found)]:
        say(line)
    return 0


def _chosen(found: "Sequence[RunSummary]", tags: "Sequence[str]", *, weigh: bool) -> "list[RunSummary]":
    """Those that have all the tags, with what they take if they are to be weighed."""
    from aozora_tui import run_notes

    wanted = {run_notes.tag(each) for each in tags}
    kept = [run for run in found if wanted <= set(run.tags)]
    return [_weighed(run) for run in kept] if weigh else kept


def _weighed(run: "RunSummary") -> "RunSummary":
    from pathlib import Path

    import msgspec

    from aozora_tui import disk_use

    return msgspec.structs.replace(run, bytes=disk_use.of(Path(run.folder)).bytes)


def _sorted(found: "list[RunSummary]", order: "Order") -> "list[RunSummary]":
    from aozora_tui.run_order import ordered

    if order == "size":
        found = [run if isinstance(run.bytes, int) else _weighed(run) for run in found]
    return ordered(
        found,
        order,
        name=lambda run: run.name,
        summary=lambda run: run,
        weight=lambda run: run.bytes if isinstance(run.bytes, int) else None,
    )


def _table(found: "Sequence[RunSummary]") -> list[str]:
    """Sizes and tags have a column where there are any."""
    from aozora_tui import text

    rows = [("RUN", "STATE", "STEP", "LOSS", "LAST SIGN", "SIZE", "TAGS", "FOLDER")]
    for run in found:
        loss = "-" if run.loss is None else f"{run.loss:.4f}"
        step = f"{run.step}/{run.steps}" if run.steps else "-"
        seen = text.age(run.age)
        sign = "-" if run.state == "unreadable" else seen if seen == "now" else f"{seen} ago"
        state = run.state if run.factor == 1 else f"{run.state} x{text.factor(run.factor)}"
        weight = text.size(run.bytes) if isinstance(run.bytes, int) else ""
        tags = " ".join(run.tags) or "-"
        rows.append((run.name, state, step, loss, sign, weight, tags, run.folder))
    left_out = {at for at, none in ((5, ""), (6, "-")) if all(row[at] == none for row in rows[1:])}
    kept = [[text.printable(cell) for at, cell in enumerate(row) if at not in left_out] for row in rows]
    return text.table(kept)


def _remarks(found: "Sequence[RunSummary]") -> list[str]:
    """What no column has room for."""
    from aozora_tui.text import printable

    lines = [f"{run.name} crashed: {run.remedy}" for run in found if run.state == "crashed"]
    lines += [f"{run.name}: {run.failure}. {run.remedy}" for run in found if run.state == "unreadable"]
    lines += [run.notes_trouble for run in found if run.notes_trouble]
    lines += [f"{run.name}: {run.note}" for run in found if run.note]
    return [printable(line) for line in lines]


def _all_of(tags: "Sequence[str]") -> str:
    from aozora_tui.text import printable

    named = " and ".join(f'"{printable(tag)}"' for tag in tags)
    return f"the tag {named}" if len(tags) == 1 else f"the tags {named}"


# -- one run -----------------------------------------------------------------------------------------------------------


def tag(context: Context) -> int:
    """Adds tags and takes tags away; without any it says which there are."""
    from aozora_tui import run_notes
    from aozora_tui.find_run import find
    from aozora_tui.text import printable

    args = context.args
    run = find(args.run)
    add = [each for text in args.tags for each in run_notes.tags_of(text)]
    remove = [each for text in args.remove for each in run_notes.tags_of(text)]
    if both := [each for each in add if each in remove]:
        raise ValueError(f'"{both[0]}" is to be added and to be taken away: say one of the two')
    notes = run_notes.change(run, add=add, remove=remove) if add or remove else _readable(run)
    if args.json:
        say(to_json(_as_json(run, notes)))
    else:
        say(" ".join(notes.tags) or f"{printable(run.name)} has no tags")
    return 0


def note(context: Context) -> int:
    """Writes the note; without a text it says the one that there is."""
    from aozora_tui import run_notes
    from aozora_tui.find_run import find
    from aozora_tui.text import printable

    args = context.args
    run, text = find(args.run), run_notes.note_of(" ".join(args.text))
    if args.text and args.clear:
        raise ValueError("--clear takes the note away: say that, or a note")
    if args.text and not text:
        raise ValueError("the note is empty: --clear takes it away")
    notes = run_notes.change(run, note=text) if text or args.clear else _readable(run)
    if args.json:
        say(to_json(_as_json(run, notes)))
    else:
        say(printable(notes.note or f"{run.name} has no note"))
    return 0


def clone(context: Context) -> int:
    from aozora_tui.clone_profile import clone
    from aozora_tui.find_run import find

    args = context.args
    run = find(args.run)
    made = clone(run, args.name)
    if args.json:
        say(to_json({"run": run.name, "profile": str(made)}))
    else:
        import shlex

        say(f"{made}: `aozora-tui train {shlex.quote(made.stem)}` starts it")
    return 0


def _readable(run: "RunDir") -> "Notes":
    """Raises ValueError if they cannot be read."""
    from aozora_tui import run_notes

    notes = run_notes.read(run)
    if notes.trouble:
        raise ValueError(f"{notes.trouble}. {run_notes.mend(run)}")
    return notes


def _as_json(run: "RunDir", notes: "Notes") -> dict[str, Any]:
    return {"run": run.name, "folder": str(run.path), "tags": notes.tags, "note": notes.note}
