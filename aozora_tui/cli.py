"""The commands. Heavy imports are inside the command that needs them: a headless one starts in a tenth of a second."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aozora_tui import commands, terminal
from aozora_tui.context import Context, RefusedError

if TYPE_CHECKING:
    from aozora_tui.context import Arguments
    from aozora_tui.settings import Settings

# These show what is wrong with the settings themselves; None is the app.
_SHOW_SETTINGS = (None, "settings", "doctor")


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
    if not words:
        return SimpleNamespace(run_command=commands.app)
    from aozora_tui.command_line import CommandLine

    return CommandLine().parser.parse_args(words)


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
