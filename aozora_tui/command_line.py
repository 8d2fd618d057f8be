"""The words of the command line: which commands there are, and what may stand behind each."""

import argparse
from collections.abc import Callable
from pathlib import Path

from aozora_tui import (
    commands,
    compare_command,
    gpu_command,
    look,
    runs_command,
    steering,
    trash_command,
    watching,
)
from aozora_tui.context import Context
from engine import __version__

_TO_A_RUN = (
    ("stop", "save a checkpoint and stop a run"),
    ("save", "save a checkpoint of a run now"),
    ("sample", "draw a run's previews now"),
    ("pause", "hold a run after its present step"),
)
_ENDINGS = """exit codes: 0 done; 1 failed, or refused; 2 wrong profile or arguments;
130 Ctrl-C (the first saves and stops the run, the second leaves at once)"""

_PATTERNS = """patterns:
  attn2, mid_block, to_q.weight  names that contain it as whole dotted parts
  down_blocks.1.*, *.bias        the whole name, * standing for anything
  depth:2, depth:0-1             the blocks after so many halvings of the picture, 0 to 2"""


class CommandLine:
    """`parser` fills a namespace with `run_command`, which takes a `Context`, and `command_name` if one was named."""

    def __init__(self) -> None:
        self._display = _switches(
            ("--slow-link", "send less to the terminal"),
            ("--ascii", "draw with ASCII characters only"),
            ("--no-mouse", "leave the mouse alone"),
            default=argparse.SUPPRESS,  # or the command's own default would overwrite what stands before the command
        )
        self._lines = _switches(
            ("--plain", "plain lines, also on a terminal"), ("--json", "the engine's events, one JSON object a line")
        )
        self._document = _switches(("--json", "one JSON document"))
        self._detach = _switches(("--detach", "print the run's name and return"))
        self.parser = argparse.ArgumentParser(
            prog="aozora-tui",
            description="Fine-tune SDXL from a terminal. Without a command: open the app.",
            epilog=_ENDINGS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[self._display],
        )
        self.parser.add_argument("--version", action="version", version=f"aozora-tui {__version__}")
        self.parser.set_defaults(run_command=commands.app)
        self._subparsers = self.parser.add_subparsers(metavar="COMMAND", title="commands")
        self._add_starting()
        self._add_runs()
        self._add_steering()
        self._add_machine()
        self._add_files()

    def _add(
        self, name: str, command: Callable[[Context], int], text: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        sub = self._subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=parents)
        sub.set_defaults(run_command=command, command_name=name)
        return sub

    def _add_starting(self) -> None:
        following = (self._display, self._lines)
        text = "train the demo, after building its files if absent"
        demo = self._add("demo", commands.train, text, *following, self._detach)
        demo.set_defaults(profile=None)
        _profile(self._add("train", commands.train, "start a run and follow it", *following, self._detach))
        watch = self._add("watch", watching.watch, "follow a run: live, ended or crashed", *following)
        _run(watch, "by default the newest")
        _elsewhere(watch)

    def _add_runs(self) -> None:
        runs_command.add_commands(self._add, self._document)
        text = "lay runs over each other, and say what differs"
        compared = self._add("compare", compare_command.compare, text, self._display, self._document)
        compared.add_argument("--plain", action="store_true", help="print the table, also on a terminal")
        compared.add_argument("runs", metavar="RUN", nargs="+", help="its name, a beginning of it, or its folder")
        text = "list what was deleted, or delete it for good"
        deleted = self._add("trash", trash_command.trash, text, self._document)
        deleted.add_argument("--empty", action="store_true", help="delete all of it for good; asks first")
        deleted.add_argument("--yes", action="store_true", help="with --empty: do not ask")

    def _add_steering(self) -> None:
        for name, text in _TO_A_RUN:
            _run(self._add(name, steering.send, text), "by default the one that is live")
        text = "scale the learning rate of a run from now on; 1 takes that back"
        rate = self._add("lr", steering.steer_rate, text)
        rate.add_argument(
            "factor", metavar="FACTOR", help="what the schedule's rate is multiplied with, as 0.5; 0: nothing is learnt"
        )
        _run(rate, "by default the one that is live; it may stand first")
        text = "let a paused run go on, or restart one that stopped, failed or crashed and follow it"
        again = self._add("resume", commands.resume, text, self._display, self._lines, self._detach)
        _run(again, "by default the paused one; if no run is live, the newest")

    def _add_machine(self) -> None:
        """What can be asked of this machine."""
        text = "list every problem of a profile, then what it will cost"
        _profile(self._add("check", look.check, text, self._document))
        self._add("doctor", look.doctor, "look at the driver, torch, the disk and the terminal", self._document)
        gpu = self._add("gpu", gpu_command.gpu, "say what the cards do and who uses them", self._document)
        gpu.add_argument(
            "--watch",
            metavar="SECONDS",
            type=gpu_command.seconds,
            nargs="?",
            const=gpu_command.USUAL,
            help="a line a card again and again, until Ctrl-C",
        )
        text = "say what is set, where it comes from, and what is wrong"
        own = self._add("settings", look.settings, text, self._display, self._document)
        one = own.add_mutually_exclusive_group()
        one.add_argument("--edit", action="store_true", help="open the file in $EDITOR; it is made if there is none")
        one.add_argument("--example", action="store_true", help="print a file with everything in it, explained")

    def _add_files(self) -> None:
        """What can be asked of files."""
        text = "print the profile's JSON Schema, with which editors complete TOML"
        schema = self._add("schema", look.schema, text, self._document)
        schema.add_argument("--output", metavar="FILE", type=Path, help="write it there instead")
        inspect = self._add("inspect", look.inspect, "say what a checkpoint file is", self._document)
        inspect.add_argument("file", metavar="FILE", type=Path)
        text = "say how two checkpoints differ, and whether an adapter was merged"
        diff = self._add("diff", look.diff, text, self._document)
        diff.add_argument(
            "--all", action="store_true", help="examine the rank of every changed matrix, not of a sample: minutes"
        )
        for name, what in (("a", "the model before"), ("b", "the model after")):
            diff.add_argument(
                name, metavar=name.upper(), type=Path, help=f"{what}: a .safetensors file or diffusers folder"
            )
        _layers(self._add("layers", look.layers, "say what a selection of layers trains", self._document))


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
        raise argparse.ArgumentTypeError(f"{written!r} is not a number of levels, as 3")
    return int(written)


def _switches(*switches: tuple[str, str], default: object = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    for name, text in switches:
        parser.add_argument(name, action="store_true", default=default, help=text)
    return parser


def _profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE", help="a .toml file, or the name of a profile")


def _run(parser: argparse.ArgumentParser, default: str) -> None:
    text = f"its name, a beginning of it, or its folder; {default}"
    parser.add_argument("run", metavar="RUN", nargs="?", help=text)
