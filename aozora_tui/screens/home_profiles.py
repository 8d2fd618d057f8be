"""What a profile's file says of it, for a list: read from the TOML alone, and again only when the file has changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aozora_tui import drafts
from aozora_tui.screens.words import counted
from engine.contract import places
from engine.contract.problems import ProfileError

if TYPE_CHECKING:
    from engine.contract.sections import Profile

_LONGEST = 20  # characters of patterns in a column; more of them are counted
_BLOCKS = {"down_blocks.*": "input", "mid_block.*": "middle", "up_blocks.*": "output"}
_ENCODERS = {"none": "", "first": "text 1", "second": "text 2", "both": "text"}
GONE = "gone, draft kept"
Stamp = tuple[int, int]


@dataclass(frozen=True)
class Facts:
    """`base` without folder and ending, `learns` in words; `vague`: those only count patterns. `trouble` is what keeps
    the file from being a profile: then nothing else is known. `checkpoint` is the base as an absolute path."""

    base: str = ""
    learns: str = ""
    vague: bool = False
    plan: str = ""
    steps: int = 0
    trouble: str = ""
    checkpoint: Path | None = None
    train: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A file in one of the two folders."""

    path: Path
    recipe: bool

    @property
    def key(self) -> str:
        return str(self.path)


class Shelf:
    """The profiles of both folders by path, one's own first. What is not `read` yet is only known by name."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._facts: dict[str, tuple[Stamp, Facts]] = {}

    @property
    def own(self) -> int:
        """How many are the person's own."""
        return sum(not entry.recipe for entry in self.entries.values())

    def list_again(self, own: Path, recipes: Path) -> None:
        found = [Entry(path, False) for path in sorted(own.glob("*.toml"))]
        found += [Entry(path, False) for path in sorted(drafts.of_deleted())]
        found += [Entry(path, True) for path in sorted(recipes.glob("*.toml"))]
        self.entries = {entry.key: entry for entry in found}
        self._facts = {key: known for key, known in self._facts.items() if known[0] == stamp(Path(key))}

    def get(self, key: str) -> Facts | None:
        known = self._facts.get(key)
        return known[1] if known else None

    def unread(self, keys: Iterable[str] | None = None) -> list[str]:
        return [key for key in (self.entries if keys is None else keys) if key not in self._facts]

    def take(self, key: str, seen: Stamp, facts: Facts) -> None:
        if key in self.entries:
            self._facts[key] = (seen, facts)

    def read(self, keys: Iterable[str]) -> bool:
        """Those of `keys` that are not yet; False if there was none."""
        wanted = self.unread(keys)
        for key in wanted:
            self.take(key, stamp(Path(key)), facts_of(Path(key)))
        return bool(wanted)


def stamp(path: Path) -> Stamp:
    """Changes whenever the file does."""
    try:
        found = path.stat()
    except OSError:
        return (-1, -1)
    return found.st_mtime_ns, found.st_size


def facts_of(path: Path) -> Facts:
    """Read one file: 2 ms. The first time all that checks a profile is imported, which takes 30."""
    from engine.contract.profile import parse, read_text

    try:
        if not path.exists():
            return Facts(trouble=GONE)
        if not path.is_file():  # a pipe would hang whoever opens it
            return Facts(trouble="unreadable")
        profile, problems = parse(read_text(path), path.name)
    except ProfileError:
        return Facts(trouble="unreadable")
    if profile is None:
        no_toml = problems and problems[0].path == path.name
        return Facts(trouble="no TOML" if no_toml else counted(len(problems), "problem"))
    words, vague = covers(profile)
    return Facts(
        base=Path(profile.model.base).name.removesuffix(".safetensors"),
        learns=words,
        vague=vague,
        plan=profile.memory.plan,
        steps=profile.train.steps,
        checkpoint=places.expand(profile.model.base, path.parent),
        train=profile.layers.train,
        freeze=profile.layers.freeze,
    )


def covers(profile: Profile) -> tuple[str, bool]:
    """What a profile trains, in few words: `all`, `input+middle`, `attn2+text`, `all but norm1`; True if they only
    count patterns."""
    train, freeze = profile.layers.train, profile.layers.freeze
    words, vague = _patterns(train)
    if "*" in train:
        words, vague = "all", False
    elif set(train) <= set(_BLOCKS):
        words, vague = "+".join(name for pattern, name in _BLOCKS.items() if pattern in train), False
    if freeze:
        frozen, unsaid = _patterns(freeze)
        words, vague = f"{words} but {frozen}", vague or unsaid
    text = _ENCODERS[profile.text_encoders.train]
    return (f"{words}+{text}" if text else words), vague


def _patterns(patterns: Sequence[str]) -> tuple[str, bool]:
    short = [re.sub(r"^(down|up)_blocks\.(\d)\.\*$", r"\1 \2", pattern).removesuffix(".*") for pattern in patterns]
    joined = "+".join(short)
    return (joined, False) if len(joined) <= _LONGEST else (counted(len(patterns), "pattern"), True)


def purpose(text: str) -> tuple[str, str]:
    """What a recipe is for, as it says in the comment it begins with: in a sentence, and whole. Both "" without one."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("#:") or (not line.strip() and not lines):  # a word to editors
            continue
        if not line.startswith("#") or not line.strip("# "):
            break
        lines.append(line.lstrip("# ").strip())
    whole = " ".join(lines)
    found = re.match(r".*?[.!?](?=\s|$)", whole)
    return (found[0] if found else whole), whole
