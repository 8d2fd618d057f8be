"""What the command line hands to a command."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import argparse
    from types import SimpleNamespace

    from aozora_tui.settings import Settings

Arguments: TypeAlias = "argparse.Namespace | SimpleNamespace"


class Context(NamedTuple):
    """What every command gets. `engine` is None for `python -m engine`."""

    args: Arguments
    engine: Sequence[str] | None
    settings: "Settings"
