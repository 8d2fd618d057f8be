"""What the command line hands to a command."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from aozora_tui.settings import Settings


class Context(NamedTuple):
    """What every command gets. `engine` is None for `python -m engine`."""

    args: argparse.Namespace
    engine: Sequence[str] | None
    settings: "Settings"
