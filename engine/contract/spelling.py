"""Which patterns to write for a selection of layers: few, and where possible those that the person wrote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from engine.contract.layers import Layer
from engine.contract.patterns import depth, matcher
from engine.contract.unet_names import LEVELS

_LAST = 99  # where a depth stands among a name's parts: a word that says the same is better


@dataclass(frozen=True)
class Spelling:
    """`layers.train` and `layers.freeze`."""

    train: tuple[str, ...]
    freeze: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        return len(self.train) + len(self.freeze)


@dataclass(frozen=True)
class _Node:
    pattern: str
    mask: int
    children: tuple[_Node, ...]


class Speller:
    """Of one tree. A set of its tensors is a whole number here: bit i stands for `root.tensors[i]`."""

    def __init__(self, root: Layer) -> None:
        self.names = root.tensors
        self.every = (1 << len(root.tensors)) - 1
        self._root = _node(root, 0)
        self._words = _words(root.tensors)
        self._matched: dict[str, int] = {}

    def mask(self, names: AbstractSet[str]) -> int:
        """Names outside the tree are ignored."""
        return bits(name in names for name in self.names)

    def chosen(self, mask: int) -> frozenset[str]:
        """The names of a set."""
        return frozenset(name for bit, name in enumerate(self.names) if mask >> bit & 1)

    def matched(self, pattern: str) -> int:
        """What one pattern means."""
        if pattern not in self._matched:
            self._matched[pattern] = bits(map(matcher(pattern), self.names))
        return self._matched[pattern]

    def selected(self, spelling: Spelling) -> int:
        """As `layers.select` has it."""
        return self._union(spelling.train) & ~self._union(spelling.freeze)

    def spell(self, wanted: int, known: Spelling) -> Spelling:
        """As few patterns as are found that select exactly `wanted`, by preference those of `known`; where that is
        shorter, by leaving something frozen."""
        known = Spelling(tuple(dict.fromkeys(known.train)), tuple(dict.fromkeys(known.freeze)))
        outside = self.every & ~wanted
        base = self._union(known.train)
        train = (*known.train, *self._cover(wanted, wanted & ~base))
        surplus = self._union(train) & outside
        forms = (
            *([known] if self.selected(known) == wanted else []),
            Spelling(self._cover(wanted, wanted, known.train)),
            Spelling(train, self._cover(outside, surplus, known.freeze)),
            Spelling(self._cover(wanted, wanted)),
            Spelling(("*",), self._cover(outside, outside, known.freeze)),
        )
        return min(forms, key=lambda form: form.length) if wanted else Spelling(())

    def patterns(self, wanted: int) -> tuple[str, ...]:
        """A short list for `train` alone: words that cover many blocks at once (`attn1`) where that is shorter than
        naming the nodes (`mid_block.*`)."""
        return self._cover(wanted, wanted)

    def _union(self, patterns: Iterable[str]) -> int:
        found = 0
        for pattern in patterns:
            found |= self.matched(pattern)
        return found

    def _cover(self, allowed: int, rest: int, known: Sequence[str] = ()) -> tuple[str, ...]:
        """Patterns inside `allowed` that cover `rest`."""
        kept = []
        for pattern in known:
            matched = self.matched(pattern)
            if matched & rest and not matched & ~allowed:
                kept.append(pattern)
                rest &= ~matched
        by_node = _by_node(self._root, allowed, rest)
        words: list[str] = []
        while rest and len(by_node) > 1:
            word, covered = self._best_word(allowed, rest)
            if len(_by_node(self._root, allowed, covered)) < 2:  # a word for one node says less than the node
                break
            words.append(word)
            rest &= ~covered
        by_word = [*words, *_by_node(self._root, allowed, rest)]
        return (*kept, *(by_word if len(by_word) < len(by_node) else by_node))

    def _best_word(self, allowed: int, rest: int) -> tuple[str, int]:
        """The word inside `allowed` that covers most of `rest`, and what of it; ("", 0) if there is none. Of words that
        cover the same, the outermost says it best: `ff`, not the `net` inside it."""
        usable = [
            ((mask & rest).bit_count(), -place, word)
            for word, (mask, place) in self._words.items()
            if mask & rest and not mask & ~allowed
        ]
        if not usable:
            return "", 0
        word = max(usable)[-1]
        return word, self._words[word][0] & rest


def bits(flags: Iterable[bool]) -> int:
    """A set as a number: bit i is flag i."""
    return sum(1 << place for place, flag in enumerate(flags) if flag)


def patterns_for(root: Layer, trained: AbstractSet[str]) -> list[str]:
    """A short list of `train` patterns that selects exactly `trained` (names outside the tree are ignored)."""
    speller = Speller(root)
    return list(speller.patterns(speller.mask(trained)))


def _node(layer: Layer, start: int) -> _Node:
    """`start`: the bit of its first tensor. A leaf's single tensors are nodes too: some of them may be chosen."""
    children, at = [], start
    for child in layer.children:
        children.append(_node(child, at))
        at += len(child.tensors)
    if not layer.children and len(layer.tensors) > 1:
        children = [_Node(name, 1 << start + place, ()) for place, name in enumerate(layer.tensors)]
    pattern = f"{layer.path}.*" if layer.path else "*"
    return _Node(pattern, ((1 << len(layer.tensors)) - 1) << start, tuple(children))


def _by_node(node: _Node, allowed: int, rest: int) -> list[str]:
    """Patterns of whole nodes inside `allowed` that cover `rest`."""
    if not node.mask & rest:
        return []
    if not node.mask & ~allowed:
        return [node.pattern]
    return [pattern for child in node.children for pattern in _by_node(child, allowed, rest)]


def _words(names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Every part that is no number, and every depth: what it matches, and how far out it stands in a name."""
    places: dict[str, int] = {}
    masks: dict[str, int] = {}
    for bit, name in enumerate(names):
        for place, part in enumerate(name.split(".")):
            if not part.isdecimal():
                masks[part] = masks.get(part, 0) | 1 << bit
                places[part] = min(place, places.get(part, place))
    words = {part: (mask, places[part]) for part, mask in masks.items()}
    for level in range(LEVELS):
        words[f"depth:{level}"] = (bits(depth(name) == level for name in names), _LAST)
    return words
