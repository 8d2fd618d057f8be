"""The UNet as a tree of layers, read from a checkpoint's header, and the patterns that say which are trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from engine.contract.patterns import matcher
from engine.contract.safetensors_header import Header
from engine.contract.unet_names import unet_names

_TOP = (
    "conv_in",
    "time_embedding",
    "add_embedding",
    "down_blocks",
    "mid_block",
    "up_blocks",
    "conv_norm_out",
    "conv_out",
)
# In a resnet, in an attention, in a transformer block: the order in which the forward pass meets them.
_INNER = ("norm", "proj_in", "norm1", "conv1", "time_emb_proj", "attn1", "norm2", "conv2", "attn2", "norm3", "ff")
_OUTER = ("conv_shortcut", "transformer_blocks", "proj_out", "linear_1", "linear_2")
_IN_ORDER = {name: place for place, name in enumerate((*_INNER, *_OUTER))}
_LABELS = {
    "conv_in": "Input convolution",
    "conv_out": "Output convolution",
    "conv_norm_out": "Output norm",
    "time_embedding": "Time embedding",
    "add_embedding": "Size and pooled text embedding",
    "mid_block": "Middle block",
    "down_blocks": "Down block",
    "up_blocks": "Up block",
    "resnets": "Resnet",
    "attentions": "Attention",
    "downsamplers": "Downsampler",
    "upsamplers": "Upsampler",
    "transformer_blocks": "Transformer block",
    "attn1": "Self-attention",
    "attn2": "Cross-attention",
    "ff": "Feed-forward",
    "proj_in": "Projection in",
    "proj_out": "Projection out",
    "time_emb_proj": "Time projection",
    "conv_shortcut": "Shortcut convolution",
    "conv": "Convolution",
    "norm": "Norm",
    "norm1": "Norm 1",
    "norm2": "Norm 2",
    "norm3": "Norm 3",
    "conv1": "Convolution 1",
    "conv2": "Convolution 2",
    "linear_1": "Linear 1",
    "linear_2": "Linear 2",
}
# What is below these is one thing to choose, not several.
_LEAVES = ("attn1", "attn2", "ff")


@dataclass(frozen=True)
class Layer:
    """A node: `name` is its own part of `path` ("resnets.0" of "down_blocks.1.resnets.0"; both empty at the root).

    `tensors` are the diffusers names of every tensor at or below it, `sizes` their element counts in the same order,
    `parameters` the sum. `children` come in the order of the forward pass.
    """

    name: str
    label: str
    path: str
    parameters: int
    tensors: tuple[str, ...]
    sizes: tuple[int, ...]
    children: tuple[Layer, ...]


@dataclass(frozen=True)
class Selection:
    """`unmatched`: the patterns, train's then freeze's, that match no tensor at all."""

    trained: frozenset[str]
    unmatched: tuple[str, ...]


def read_layers(header: Header) -> Layer:
    """The UNet's tree. Raises ValueError if a UNet tensor has no place in SDXL."""
    sizes = {diffusers: header.tensors[name].elements for name, diffusers in unet_names(header.tensors).items()}
    return tree(sizes.items())


def tree(sizes: Iterable[tuple[str, int]]) -> Layer:
    """The same from (diffusers tensor name, elements) pairs, in any order."""
    return _node("", "", sorted(sizes, key=lambda pair: _forward_order(pair[0])))


def select(names: Iterable[str], train: Sequence[str], freeze: Sequence[str] = ()) -> Selection:
    """Which of `names` (diffusers tensor names) are trained: those that any `train` pattern matches and no `freeze`
    pattern does; `patterns.matcher` says what a pattern means."""
    listed = list(names)
    unmatched: list[str] = []

    def matched(patterns: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for pattern in patterns:
            matches = matcher(pattern)
            hits = [name for name in listed if matches(name)]
            found.update(hits)
            if not hits:
                unmatched.append(pattern)
        return found

    trained = matched(train)
    return Selection(frozenset(trained - matched(freeze)), tuple(unmatched))


def patterns_for(root: Layer, trained: AbstractSet[str]) -> list[str]:
    """A short list of `train` patterns that selects exactly `trained` (names outside the tree are ignored): words that
    cover many blocks at once (`attn1`) where that is shorter than naming the nodes (`mid_block.*`)."""
    wanted = trained & frozenset(root.tensors)
    by_node = _node_patterns(root, wanted, wanted)
    if len(by_node) <= 1:
        return by_node
    words: list[str] = []
    rest = set(wanted)
    while rest:
        word, covered = _best_word(root, wanted, rest)
        if len(_node_patterns(root, wanted, covered)) < 2:  # a word that names one node says less than the node
            break
        words.append(word)
        rest -= covered
    by_word = words + _node_patterns(root, wanted, rest)
    return by_word if len(by_word) < len(by_node) else by_node


def count(root: Layer, trained: AbstractSet[str]) -> int:
    """Elements of the tensors of `root` that are in `trained`."""
    return sum(size for name, size in zip(root.tensors, root.sizes, strict=True) if name in trained)


def human(number: int) -> str:
    """2567463684 -> "2.57 B", 20800000 -> "20.8 M", 999 -> "999"."""
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        # 999,999 rounds to 1000 of its own unit: it belongs to the next one.
        if number >= limit * 0.9995:
            value = number / limit
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return str(number)


def _node(path: str, name: str, tensors: list[tuple[str, int]]) -> Layer:
    groups: dict[str, list[tuple[str, int]]] = {}
    if name not in _LEAVES:
        start = len(path) + 1 if path else 0
        for pair in tensors:
            child = _child_name(pair[0][start:].split("."))
            if child:
                groups.setdefault(child, []).append(pair)
    children = tuple(_node(f"{path}.{child}" if path else child, child, group) for child, group in groups.items())
    sizes = tuple(size for _, size in tensors)
    return Layer(name, _label(name), path, sum(sizes), tuple(full for full, _ in tensors), sizes, children)


def _child_name(parts: list[str]) -> str:
    if len(parts) < 2:
        return ""  # "weight", "bias": the tensor itself
    return f"{parts[0]}.{parts[1]}" if parts[1].isdecimal() else parts[0]


def _label(name: str) -> str:
    if not name:
        return "UNet"
    word, _, index = name.partition(".")
    label = _LABELS.get(word, word)
    return f"{label} {index}" if index else label


def _forward_order(name: str) -> tuple[tuple[int, int, str], ...]:
    parts = name.split(".")
    key: list[tuple[int, int, str]] = [(_TOP.index(parts[0]) if parts[0] in _TOP else len(_TOP), 0, parts[0])]
    for part in parts[1:]:
        if part.isdecimal():
            key.append((int(part), 0, ""))
        elif part in ("resnets", "attentions"):
            index = int(parts[parts.index(part) + 1])  # they alternate: resnets.0, attentions.0, resnets.1 ...
            key.append((index, 0 if part == "resnets" else 1, part))
        elif part in ("downsamplers", "upsamplers"):
            key.append((1 << 20, 0, part))
        else:
            key.append((_IN_ORDER.get(part, len(_IN_ORDER)), 0, part))
    return tuple(key)


def _node_patterns(node: Layer, wanted: AbstractSet[str], rest: AbstractSet[str]) -> list[str]:
    """Patterns of whole nodes inside `wanted` that cover `rest`."""
    here = [name for name in node.tensors if name in rest]
    if not here:
        return []
    if all(name in wanted for name in node.tensors):
        return [f"{node.path}.*" if node.path else "*"]
    below = [pattern for child in node.children for pattern in _node_patterns(child, wanted, rest)]
    inside = {name for child in node.children for name in child.tensors}
    return below + [name for name in here if name not in inside]


def _best_word(root: Layer, wanted: AbstractSet[str], rest: AbstractSet[str]) -> tuple[str, set[str]]:
    """The dotted part all of whose tensors are wanted that covers most of `rest`; ("", empty set) if there is none."""
    covered: dict[str, set[str]] = {}
    spoilt: set[str] = set()
    depth: dict[str, int] = {}
    for name in root.tensors:
        for place, part in enumerate(name.split(".")):
            depth[part] = min(place, depth.get(part, place))
            if name not in wanted:
                spoilt.add(part)
            elif not part.isdecimal() and name in rest:
                covered.setdefault(part, set()).add(name)
    # Of words that cover the same, the outermost says it best: `ff`, not the `net` inside it.
    usable = [(len(names), -depth[part], part) for part, names in covered.items() if part not in spoilt]
    if not usable:
        return "", set()
    _, _, best = max(usable)
    return best, covered[best]
