"""How much of the UNet profiles train, from the headers of their base checkpoints. For a thread: headers take time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from aozora_tui.screens.home_profiles import Facts

if TYPE_CHECKING:
    from engine.contract.layers import Layer

Asked = tuple[Path, tuple[str, ...], tuple[str, ...]]


class Shares:
    """Each checkpoint is read once, each selection counted once; a checkpoint that is not there has no share."""

    def __init__(self) -> None:
        self._roots: dict[Path, tuple[int, Layer | None]] = {}  # with the file's time
        self._known: dict[Asked, float | None] = {}

    def get(self, facts: Facts | None) -> float | None:
        return self._known.get(_asked(facts)) if facts is not None and facts.checkpoint is not None else None

    def unknown(self, listed: Iterable[Facts | None]) -> list[Facts]:
        """Those of which it was never asked."""
        return [
            facts
            for facts in listed
            if facts is not None and facts.checkpoint is not None and _asked(facts) not in self._known
        ]

    def forget_missing(self) -> None:
        """Ask again for what could not be told: a checkpoint may have come meanwhile."""
        self._known = {asked: share for asked, share in list(self._known.items()) if share is not None}

    def find(self, facts: Facts) -> None:
        """In the thread."""
        from engine.contract.layers import select

        assert facts.checkpoint is not None
        root, share = self._root(facts.checkpoint), None
        if root is not None and root.parameters:
            trained = select(root.tensors, facts.train, facts.freeze).trained
            sizes = zip(root.tensors, root.sizes, strict=True)
            share = sum(size for name, size in sizes if name in trained) / root.parameters
        self._known[_asked(facts)] = share

    def _root(self, checkpoint: Path) -> Layer | None:
        from engine.contract.base_checkpoint import read_base
        from engine.contract.layers import read_layers

        try:
            stamp = checkpoint.stat().st_mtime_ns
            if self._roots.get(checkpoint, (None,))[0] != stamp:
                self._roots[checkpoint] = (stamp, read_layers(read_base(checkpoint)))
        except (OSError, ValueError):
            self._roots[checkpoint] = (-1, None)
        return self._roots[checkpoint][1]


def _asked(facts: Facts) -> Asked:
    assert facts.checkpoint is not None
    return facts.checkpoint, facts.train, facts.freeze
