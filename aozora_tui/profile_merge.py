"""Two people's changes to one profile, put together field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aozora_tui.profile_file import REST, ProfileFile
from aozora_tui.toml_edit import same
from engine.contract.fields import form_fields
from engine.contract.profile_values import written_values

Side = Literal["mine", "theirs"]


@dataclass(frozen=True)
class Merge:
    """What became of a profile's text `base` here and elsewhere. `mine` and `theirs` hold the fields that each changed,
    with the values they have now, None for one that was taken out; `clashes` those that both changed, and not alike.
    REST among them stands for comments and whatever else no field shows."""

    path: Path
    base: str
    text: str
    their_text: str
    mine: Mapping[str, Any]
    theirs: Mapping[str, Any]
    clashes: tuple[str, ...]

    def text_with(self, side: Side) -> str:
        """Both sides' changes; where they clash, those of `side`. The comments are theirs unless only ours changed."""
        if REST in self.clashes:
            onto, changes = (self.text, self.theirs) if side == "mine" else (self.their_text, self.mine)
            return _changed(self.path, onto, _without(changes, self.clashes))
        kept = self.mine if side == "mine" else _without(self.mine, self.clashes)
        if _changed(self.path, self.base, self.mine) == self.text:
            return _changed(self.path, self.their_text, kept)
        taken = self.theirs if side == "theirs" else _without(self.theirs, self.clashes)
        return _changed(self.path, self.text, taken)


def merge(path: Path, base: str, text: str, their_text: str) -> Merge:
    """Of two texts that were both made from `base`; all are TOML."""
    mine, theirs = changes(base, text), changes(base, their_text)
    clashes = [name for name in mine if name in theirs and not same(mine[name], theirs[name])]
    if _changed(path, base, mine) != text and _changed(path, base, theirs) != their_text:
        clashes.append(REST)
    return Merge(path, base, text, their_text, mine, theirs, tuple(clashes))


def changes(before: str, after: str) -> dict[str, Any]:
    """The fields that are written otherwise in `after`, with what stands there; None where nothing does any more."""
    old, new = written_values(before), written_values(after)
    return {name: new[name] for name in form_fields() if not same(old[name], new[name])}


def _without(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    dropped = set(names)
    return {name: value for name, value in values.items() if name not in dropped}


def _changed(path: Path, text: str, values: Mapping[str, Any]) -> str:
    file = ProfileFile(path, text, None)
    file.update(values)
    return file.text


def labels(names: Sequence[str]) -> str:
    """The fields' paths for a sentence."""
    return ", ".join("comments or unknown keys" if name == REST else name for name in names)
