"""What the command line hands to a command."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import argparse
    from types import SimpleNamespace

    from aozora_tui.settings import Settings

Arguments: TypeAlias = "argparse.Namespace | SimpleNamespace"


class RefusedError(ValueError):
    """What was asked for was understood, and cannot be done now: exit code 1, where a wrong argument is 2."""


class Context(NamedTuple):
    """What every command gets. `engine` is None for `python -m engine`."""

    args: Arguments
    engine: Sequence[str] | None
    settings: "Settings"
