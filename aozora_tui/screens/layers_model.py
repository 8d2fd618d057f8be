"""What the layers screen knows and does, without a screen: the trees as lines, what is chosen, what will be written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import msgspec

from engine.contract.layers import Layer
from engine.contract.patterns import ENCODERS, matcher, trained_encoders
from engine.contract.sections import Layers, Optimizer, Profile, TextEncoders
from engine.contract.spelling import Speller, Spelling, bits
from engine.contract.text_tensors import learning_text, published_name
from engine.contract.unet_names import UNET_PREFIX, to_published

RATES = dict(zip(ENCODERS, ("rate", "rate_2"), strict=True))
_TRAIN = {(): "none", ENCODERS[:1]: "first", ENCODERS[1:]: "second", ENCODERS: "both"}


@dataclass(frozen=True, slots=True)
class Node:
    """A line of the unfolded trees. Its tensors are those from `start` to `stop` of all, its parts the nodes from
    `index + 1` to `end`; `parent` is -1 for a network, `encoder` the text encoder that it belongs to, or ""."""

    layer: Layer
    index: int
    parent: int
    depth: int
    start: int
    stop: int
    end: int
    encoder: str

    @property
    def label(self) -> str:
        return self.layer.label

    @property
    def mask(self) -> int:
        return ((1 << self.stop - self.start) - 1) << self.start

    @property
    def pattern(self) -> str:
        return f"{self.layer.path}.*" if self.layer.path else "*"


@dataclass(frozen=True)
class Chosen:
    """One state, to which undo may come back. `unet` is a set of the UNet's tensors as the speller has them, `spelling`
    the patterns that say it; `rates` are `optimizer.rates`, `text_rates` the factors of the encoders, by encoder."""

    unet: int
    spelling: Spelling
    encoders: frozenset[str]
    rates: Mapping[str, float]
    text_rates: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Counted:
    """Of one node: how many of its tensors may learn and do; how many of its parameters do."""

    able: int
    learning: int
    parameters: int

    @property
    def box(self) -> str:
        if not self.able:
            return "   "
        return "[x]" if self.learning == self.able else "[-]" if self.learning else "[ ]"


class Trees:
    """The UNet and the text encoders that the base has. Sets of all their tensors are whole numbers, bit by bit, the
    UNet's first."""

    def __init__(self, unet: Layer, encoders: Sequence[Layer], profile: Profile) -> None:
        self.unet, self.profile = unet, profile
        self.speller = Speller(unet)
        self.names = (*unet.tensors, *(name for tree in encoders for name in tree.tensors))
        self.sizes = (*unet.sizes, *(size for tree in encoders for size in tree.sizes))
        self.nodes = tuple(_lines((unet, *encoders)))
        self.roots = tuple(node for node in self.nodes if node.parent < 0)
        both = msgspec.structs.replace(profile.text_encoders, train="both")
        text = learning_text(self.names[len(unet.tensors) :], both)
        self.able = self.speller.every | bits(name in text for name in self.names)
        self._matched: dict[str, int] = {}

    @property
    def encoders(self) -> tuple[str, ...]:
        return tuple(node.encoder for node in self.roots if node.encoder)

    @cached_property
    def start(self) -> Chosen:
        """What the profile says."""
        return self._said(self.profile.layers, self.profile.optimizer, self.profile.text_encoders)

    def matched(self, pattern: str) -> int:
        """The tensors of all networks that a pattern means."""
        if pattern not in self._matched:
            self._matched[pattern] = bits(map(matcher(pattern), self.names))
        return self._matched[pattern]

    @cached_property
    def published(self) -> tuple[str, ...]:
        """What a single file calls each of `names`, with its prefix."""
        count = len(self.unet.tensors)
        unet = (UNET_PREFIX + to_published(name) for name in self.names[:count])
        return (*unet, *map(published_name, self.names[count:]))

    def matched_in_file(self, pattern: str) -> int:
        """The tensors that a pattern means by their names in a single file, with or without the prefix."""
        meant = matcher(pattern)
        return bits(meant(name) or meant(name.removeprefix(UNET_PREFIX)) for name in self.published)

    def network(self, node: Node) -> Node:
        """The whole that it is a part of."""
        return next(root for root in self.roots if root.index <= node.index < root.end)

    # -- changes -------------------------------------------------------------------------------------------------------

    def choose(self, chosen: Chosen, unet: int, known: Spelling | None = None) -> Chosen:
        """Train exactly these of the UNet, written with patterns of `known` where that is possible."""
        if unet == chosen.unet:
            return chosen
        back = unet == self.start.unet  # then nothing is written, and the person's own words stay
        spelling = self.start.spelling if back else self.speller.spell(unet, known or chosen.spelling)
        return replace(chosen, unet=unet, spelling=spelling)

    def take(self, chosen: Chosen, spelling: Spelling) -> Chosen:
        """Train what these patterns say, in their words; those that match nothing here are left out."""
        train, freeze = (tuple(filter(self.speller.matched, side)) for side in (spelling.train, spelling.freeze))
        unet = self.speller.selected(spelling)
        return chosen if unet == chosen.unet else replace(chosen, unet=unet, spelling=Spelling(train, freeze))

    def toggle(self, chosen: Chosen, node: Node) -> Chosen:
        """All of a layer of the UNet or nothing; a text encoder as a whole."""
        if node.encoder:
            return replace(chosen, encoders=chosen.encoders ^ {node.encoder})
        whole = not node.mask & ~chosen.unet
        return self.choose(chosen, chosen.unet & ~node.mask if whole else chosen.unet | node.mask)

    def toggle_all(self, chosen: Chosen, patterns: Sequence[str]) -> Chosen:
        """The same of all that the patterns match."""
        meant = self.speller.selected(Spelling(tuple(patterns)))
        before, wanted = chosen.spelling, chosen.unet | meant
        if not meant & ~chosen.unet:
            wanted = chosen.unet & ~meant
            return self.choose(chosen, wanted, replace(before, freeze=(*before.freeze, *patterns)))
        return self.choose(chosen, wanted, replace(before, train=(*before.train, *patterns)))

    def with_factor(self, chosen: Chosen, node: Node, factor: float) -> Chosen:
        """`factor` is the node's own, beside those of other patterns. Entries of optimizer.rates that do not mean just
        this node stay as they are."""
        if node.encoder and node.parent < 0:
            return replace(chosen, text_rates={**chosen.text_rates, node.encoder: factor})
        own, rates = self.own_rates(chosen, node), dict(chosen.rates)
        for pattern in own if factor == 1 else own[1:]:
            del rates[pattern]
        if factor != 1:
            rates[own[0] if own else node.pattern] = factor
        return replace(chosen, rates=rates)

    def own_rates(self, chosen: Chosen, node: Node) -> list[str]:
        """The patterns of optimizer.rates that mean this node and nothing else."""
        return [pattern for pattern in chosen.rates if self.matched(pattern) == node.mask]

    def own_factor(self, chosen: Chosen, node: Node) -> float:
        if node.encoder and node.parent < 0:
            return chosen.text_rates[node.encoder]
        factor = 1.0
        for pattern in self.own_rates(chosen, node):
            factor *= chosen.rates[pattern]
        return factor

    # -- what is written -----------------------------------------------------------------------------------------------

    def written(self, chosen: Chosen) -> dict[str, Any]:
        """Every setting of this screen as it is now: dotted path and plain TOML value."""
        return {
            "layers.train": list(chosen.spelling.train),
            "layers.freeze": list(chosen.spelling.freeze),
            "text_encoders.train": _TRAIN[tuple(name for name in ENCODERS if name in chosen.encoders)],
            "optimizer.rates": dict(chosen.rates),
            **{f"text_encoders.{RATES[encoder]}": chosen.text_rates[encoder] for encoder in ENCODERS},
        }

    def changes(self, chosen: Chosen) -> dict[str, Any]:
        """Those that are not as in the profile, None for the default."""
        before, now = self.written(self.start), self.written(chosen)
        default = self.written(self._said(Layers(), Optimizer(), TextEncoders()))
        return {path: None if now[path] == default[path] else now[path] for path in now if now[path] != before[path]}

    def _said(self, layers: Layers, optimizer: Optimizer, text: TextEncoders) -> Chosen:
        spelling = Spelling(layers.train, layers.freeze)
        return Chosen(
            unet=self.speller.selected(spelling),
            spelling=spelling,
            encoders=frozenset(trained_encoders(text)),
            rates=dict(optimizer.rates),
            text_rates={encoder: getattr(text, name) for encoder, name in RATES.items()},
        )


class Tally:
    """The counts of one state, for every node."""

    def __init__(self, trees: Trees, chosen: Chosen) -> None:
        self._trees = trees
        text = sum(root.mask for root in trees.roots if root.encoder in chosen.encoders)
        self.learning = chosen.unet | text & trees.able
        flags = [self.learning >> bit & 1 for bit in range(len(trees.names))]
        self._parameters = [0, *accumulate(size * flag for size, flag in zip(trees.sizes, flags, strict=True))]
        self._factors = [1.0] * len(flags)
        for pattern, factor in chosen.rates.items():
            self._multiply(trees.matched(pattern), factor)
        for root in trees.roots:
            if root.encoder:
                self._multiply(root.mask, chosen.text_rates[root.encoder])

    def of(self, node: Node) -> Counted:
        able, learning = (node.mask & mask for mask in (self._trees.able, self.learning))
        parameters = self._parameters[node.stop] - self._parameters[node.start]
        return Counted(able.bit_count(), learning.bit_count(), parameters)

    def factors(self, node: Node) -> tuple[float, ...]:
        """The different factors on the learning rate of its tensors that learn, or would if it were trained;
        ascending."""
        learning, span = self.learning & node.mask, range(node.start, node.stop)
        return tuple(sorted({self._factors[bit] for bit in span if not learning or learning >> bit & 1}))

    def _multiply(self, mask: int, factor: float) -> None:
        for bit in range(len(self._factors)):
            if mask >> bit & 1:
                self._factors[bit] *= factor


def _lines(trees: Iterable[Layer]) -> list[Node]:
    nodes: list[Node] = []

    def add(layer: Layer, parent: int, depth: int, start: int, encoder: str) -> None:
        index = len(nodes)
        nodes.append(Node(layer, index, parent, depth, start, start + len(layer.tensors), index + 1, encoder))
        at = start
        for child in layer.children:
            add(child, index, depth + 1, at, encoder)
            at += len(child.tensors)
        nodes[index] = replace(nodes[index], end=len(nodes))

    start = 0
    for tree in trees:
        add(tree, -1, 0, start, tree.path)
        start += len(tree.tensors)
    return nodes
