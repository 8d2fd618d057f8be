"""The UNet and the text encoders as trees of layers, read from a checkpoint's header, and which patterns select."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from engine.contract.patterns import ENCODERS, matcher
from engine.contract.safetensors_header import Header
from engine.contract.text_tensors import text_tensors
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
_WITHIN = ("to_q", "to_k", "to_v", "to_out", "net")
_IN_ORDER = {name: place for place, name in enumerate((*_INNER, *_OUTER, *_WITHIN))}
# The same in a text encoder.
_TEXT = ("embeddings", "layers", "layer_norm1", "self_attn", "q_proj", "k_proj", "v_proj", "out_proj", "layer_norm2")
_TEXT_IN_ORDER = {name: place for place, name in enumerate((*_TEXT, "mlp", "final_layer_norm", "text_projection"))}
# Levels of transformers' modules that hold one thing each: no line of their own.
_SKIPPED = ("text_model", "encoder")
_LABELS = {
    "": "UNet",
    "text_encoder": "Text encoder 1, CLIP-L",
    "text_encoder_2": "Text encoder 2, bigG",
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
    "to_q": "Query",
    "to_k": "Key",
    "to_v": "Value",
    "to_out.0": "Output",
    "net.0": "Projection in",
    "net.2": "Projection out",
    "embeddings": "Embeddings",
    "token_embedding": "Token embedding",
    "position_embedding": "Position embedding",
    "layers": "Layer",
    "layer_norm1": "Norm 1",
    "layer_norm2": "Norm 2",
    "self_attn": "Self-attention",
    "q_proj": "Query",
    "k_proj": "Key",
    "v_proj": "Value",
    "out_proj": "Output",
    "mlp": "Feed-forward",
    "fc1": "Projection in",
    "fc2": "Projection out",
    "final_layer_norm": "Final norm",
    "text_projection": "Projection of the pooled vector",
}


@dataclass(frozen=True)
class Layer:
    """A node: `name` is its own part of `path` ("resnets.0" of "down_blocks.1.resnets.0"; both empty for the UNet).

    `tensors` are the diffusers names of every tensor at or below it, `sizes` their element counts in the same order,
    `parameters` the sum. `children` come in the order of the forward pass; where there are any, their tensors one after
    the other are the node's.
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


def text_trees(header: Header) -> tuple[Layer, ...]:
    """Of the text encoders that the file has, CLIP-L's first; tensors by the names that training gives them."""
    found = text_tensors(header)
    trees = []
    for encoder in ENCODERS:
        sizes = [(name, math.prod(info.shape)) for name, info in found.items() if name.startswith(f"{encoder}.")]
        if sizes:
            trees.append(_node(encoder, encoder, sorted(sizes, key=lambda pair: _text_order(pair[0]))))
    return tuple(trees)


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
    start = len(path) + 1 if path else 0
    for pair in tensors:
        child = _child_name(pair[0][start:].split("."))
        if child:
            groups.setdefault(child, []).append(pair)
    if len(groups) == 1 and path:  # a lone part is the whole: one line says both
        groups = {}
    children = tuple(_node(f"{path}.{child}" if path else child, child, group) for child, group in groups.items())
    sizes = tuple(size for _, size in tensors)
    return Layer(name, _label(name), path, sum(sizes), tuple(full for full, _ in tensors), sizes, children)


def _child_name(parts: list[str]) -> str:
    skipped = [part for part in parts[:2] if part in _SKIPPED]
    rest = parts[len(skipped) :]
    if len(rest) < 2:
        return ""  # "weight", "bias": the tensor itself
    return ".".join([*skipped, *rest[: 2 if rest[1].isdecimal() else 1]])


def _label(name: str) -> str:
    parts = [part for part in name.split(".") if part not in _SKIPPED]
    own = ".".join(parts)
    if own in _LABELS:
        return _LABELS[own]
    label = _LABELS.get(parts[0], parts[0])
    return f"{label} {parts[1]}" if len(parts) > 1 else label


def _text_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Token before position, layers by number, weight before bias as the names have it."""
    parts = [part for part in name.split(".")[1:] if part not in _SKIPPED]
    return tuple(
        (int(part), 0, "") if part.isdecimal() else (_TEXT_IN_ORDER.get(part, len(_TEXT_IN_ORDER)), 0, part)
        for part in parts
    )


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
