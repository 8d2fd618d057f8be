"""What the command line hands to a command."""

import argparse
from collections.abc import Sequence
from typing import NamedTuple


class Context(NamedTuple):
    """What every command gets. `engine` is None for `python -m engine`."""

    args: argparse.Namespace
    engine: Sequence[str] | None

    @property
    def mouse(self) -> bool:
        return not hasattr(self.args, "no_mouse")
