"""The commands. Heavy imports are inside the command that needs them: a headless one starts in a tenth of a second."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aozora_tui import commands, terminal
from aozora_tui.context import Context, RefusedError

if TYPE_CHECKING:
    import argparse

    from aozora_tui.context import Arguments
    from aozora_tui.settings import Settings

_TO_A_RUN = (
    ("stop", "save a checkpoint and stop a run"),
    ("save", "save a checkpoint of a run now"),
    ("sample", "draw a run's previews now"),
    ("pause", "hold a run after its present step"),
)
# These show what is wrong with the settings themselves; None is the app.
_SHOW_SETTINGS = (None, "settings", "doctor")
_ENDINGS = """exit codes: 0 done; 1 failed, or refused; 2 wrong profile or arguments;
130 Ctrl-C (the first saves and stops the run, the second leaves at once)"""

_PATTERNS = """patterns:
  attn2, mid_block, to_q.weight  names that contain it as whole dotted parts
  down_blocks.1.*, *.bias        the whole name, * standing for anything
  depth:2, depth:0-1             the blocks after so many halvings of the picture, 0 to 2"""


def main(argv: Sequence[str] | None = None, *, engine: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `engine` replaces `python -m engine`."""
    terminal.tolerate_any_letter()
    try:
        args = _parsed(sys.argv[1:] if argv is None else argv)
    except SystemExit as done:  # --help, --version, or a mistake that argparse has told already
        code = done.code if isinstance(done.code, int) else 2
        if code and "--json" in (sys.argv[1:] if argv is None else argv):
            terminal.say(commands.to_json({"error": "wrong arguments: what is wrong with them is on stderr"}))
        return code
    settings = _settings(args)
    run_command: Callable[[Context], int] = args.run_command
    try:
        return run_command(Context(args, engine, settings))
    except ValueError as error:
        return _failed(args, str(error), 1 if isinstance(error, RefusedError) else 2)
    except OSError as error:
        return _failed(args, f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except KeyboardInterrupt:
        return commands.EXIT_INTERRUPTED


def _failed(args: Arguments, text: str, code: int) -> int:
    """For a person on stderr, and for a program that asked for JSON as an object."""
    terminal.complain(text)
    if getattr(args, "json", False):
        terminal.say(commands.to_json({"error": text}))
    return code


def _parsed(words: Sequence[str]) -> Arguments:
    """Without a word there is nothing to parse: the app opens sooner."""
    return _parser().parse_args(words) if words else SimpleNamespace(run_command=commands.app)


def _settings(args: Arguments) -> Settings:
    """What the person set, before anything imports Textual. Mistakes are told, unless the command does that itself."""
    from aozora_tui import settings
    from aozora_tui.text import printable
    from engine.contract.problems import errors

    said = {"slow_link": ("look.slow_link", True), "ascii": ("look.glyphs", "ascii"), "no_mouse": ("look.mouse", False)}
    switches: dict[str, Any] = dict(value for name, value in said.items() if hasattr(args, name))
    found = settings.read(os.environ, switches)
    settings.apply(found, os.environ)
    wrong = errors(found.problems)
    if wrong and getattr(args, "command_name", None) not in _SHOW_SETTINGS:
        many = f"{len(wrong)} settings are wrong and left out: `aozora-tui settings` shows them"
        terminal.complain(printable(str(wrong[0]) if len(wrong) == 1 else many))
    return found


# -- the command line --------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    import argparse

    from aozora_tui import compare_command, gpu_command, look, runs_command, steering, trash_command, watching
    from engine import __version__

    display = _switches(
        ("--slow-link", "send less to the terminal"),
        ("--ascii", "draw with ASCII characters only"),
        ("--no-mouse", "leave the mouse alone"),
        default=argparse.SUPPRESS,  # or the command's own default would overwrite what stands before the command
    )
    lines = _switches(
        ("--plain", "plain lines, also on a terminal"), ("--json", "the engine's events, one JSON object a line")
    )
    document = _switches(("--json", "one JSON document"))
    detach = _switches(("--detach", "print the run's name and return"))
    parser = argparse.ArgumentParser(
        prog="aozora-tui",
        description="Fine-tune SDXL from a terminal. Without a command: open the app.",
        epilog=_ENDINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[display],
    )
    parser.add_argument("--version", action="version", version=f"aozora-tui {__version__}")
    parser.set_defaults(run_command=commands.app)
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands")

    def add(
        name: str, command: Callable[[Context], int], text: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=parents)
        sub.set_defaults(run_command=command, command_name=name)
        return sub

    demo = add("demo", commands.train, "train the demo, after building its files if absent", display, lines, detach)
    demo.set_defaults(profile=None)
    _profile(add("train", commands.train, "start a run and follow it", display, lines, detach))
    watch = add("watch", watching.watch, "follow a run: live, ended or crashed", display, lines)
    _run(watch, "by default the newest")
    _elsewhere(watch)
    runs_command.add_commands(add, document)
    compared = add(
        "compare", compare_command.compare, "lay runs over each other, and say what differs", display, document
    )
    compared.add_argument("--plain", action="store_true", help="print the table, also on a terminal")
    compared.add_argument("runs", metavar="RUN", nargs="+", help="its name, a beginning of it, or its folder")
    deleted = add("trash", trash_command.trash, "list what was deleted, or delete it for good", document)
    deleted.add_argument("--empty", action="store_true", help="delete all of it for good; asks first")
    deleted.add_argument("--yes", action="store_true", help="with --empty: do not ask")
    for name, text in _TO_A_RUN:
        _run(add(name, steering.send, text), "by default the one that is live")
    rate = add("lr", steering.steer_rate, "scale the learning rate of a run from now on; 1 takes that back")
    rate.add_argument(
        "factor", metavar="FACTOR", help="what the schedule's rate is multiplied with, as 0.5; 0: nothing is learnt"
    )
    _run(rate, "by default the one that is live; it may stand first")
    again = "let a paused run go on, or restart one that stopped, failed or crashed and follow it"
    _run(
        add("resume", commands.resume, again, display, lines, detach),
        "by default the paused one; if no run is live, the newest",
    )
    _profile(add("check", look.check, "list every problem of a profile, then what it will cost", document))
    add("doctor", look.doctor, "look at the driver, torch, the disk and the terminal", document)
    gpu = add("gpu", gpu_command.gpu, "say what the cards do and who uses them", document)
    gpu.add_argument(
        "--watch",
        metavar="SECONDS",
        type=gpu_command.seconds,
        nargs="?",
        const=gpu_command.USUAL,
        help="a line a card again and again, until Ctrl-C",
    )
    own = add("settings", look.settings, "say what is set, where it comes from, and what is wrong", display, document)
    one = own.add_mutually_exclusive_group()
    one.add_argument("--edit", action="store_true", help="open the file in $EDITOR; it is made if there is none")
    one.add_argument("--example", action="store_true", help="print a file with everything in it, explained")
    schema = add("schema", look.schema, "print the profile's JSON Schema, with which editors complete TOML", document)
    schema.add_argument("--output", metavar="FILE", type=Path, help="write it there instead")
    inspect = add("inspect", look.inspect, "say what a checkpoint file is", document)
    inspect.add_argument("file", metavar="FILE", type=Path)
    diff = add("diff", look.diff, "say how two checkpoints differ, and whether an adapter was merged", document)
    diff.add_argument(
        "--all", action="store_true", help="examine the rank of every changed matrix, not of a sample: minutes"
    )
    for name, what in (("a", "the model before"), ("b", "the model after")):
        diff.add_argument(
            name, metavar=name.upper(), type=Path, help=f"{what}: a .safetensors file or diffusers folder"
        )
    _layers(add("layers", look.layers, "say what a selection of layers trains", document))
    return parser


def _elsewhere(watch: argparse.ArgumentParser) -> None:
    watch.add_argument("--inline", action="store_true", help="five lines that leave the scrollback alone")
    watch.add_argument(
        "--host",
        metavar="USER@BOX",
        help="a run on another machine, over ssh: as ssh takes it, or a name of its config",
    )
    watch.add_argument("--list", action="store_true", help="with --host: only print the names of its runs")
    watch.add_argument(
        "--remote-runs",
        metavar="FOLDER",
        default="",
        help="with --host: where runs are there, if not in its usual place",
    )
    watch.add_argument(
        "--remote-command",
        metavar="COMMAND",
        default="aozora-tui",
        help="with --host: this program there, as ~/aozora-tui/.venv/bin/aozora-tui; needed to restart a run alone",
    )


def _layers(layers: argparse.ArgumentParser) -> None:
    import argparse

    layers.add_argument("source", metavar="CHECKPOINT_OR_PROFILE", help="a profile stands for its base and selection")
    for name, text in (("--train", "select this instead"), ("--freeze", "but not this")):
        layers.add_argument(
            name, metavar="PATTERN", action="append", default=[], help=f"{text}, as in layers.train; may be repeated"
        )
    layers.add_argument(
        "--depth",
        metavar="N",
        type=_depth,
        default=2,
        help="how deep the tree is shown: 0 the sum, 1 the blocks, 2 what is in them (default), and so on",
    )
    layers.epilog = _PATTERNS
    layers.formatter_class = argparse.RawDescriptionHelpFormatter


def _depth(written: str) -> int:
    if not (written.isascii() and written.isdecimal()):
        import argparse

        raise argparse.ArgumentTypeError(f"{written!r} is not a number of levels, as 3")
    return int(written)


def _switches(*switches: tuple[str, str], default: object = False) -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(add_help=False)
    for name, text in switches:
        parser.add_argument(name, action="store_true", default=default, help=text)
    return parser


def _profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="a .toml file, or the name of a profile")


def _run(parser: argparse.ArgumentParser, default: str) -> None:
    text = f"its name, a beginning of it, or its folder; {default}"
    parser.add_argument("run", metavar="RUN", nargs="?", help=text)
