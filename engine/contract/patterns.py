"""Patterns over tensor names: which tensors a line of the profile means."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from engine.contract.sections import TextEncoders
from engine.contract.unet_names import LEVELS

ENCODERS = ("text_encoder", "text_encoder_2")
_TRAINED = {"none": (), "first": ENCODERS[:1], "second": ENCODERS[1:], "both": ENCODERS}
_DEPTH = "depth:"


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a diffusers name is one that `pattern` means. `depth:N` and `depth:A-B` mean the blocks after so many
    halvings of the picture. A pattern with `*`, `?` or `[` is a shell pattern over the whole name, case-sensitive, `*`
    crossing dots (`down_blocks.1.*`, `*.bias`). Any other matches names that contain it as whole dotted parts: `attn1`,
    `mid_block`, `attentions.0`, `to_q.weight`; `attn` alone matches nothing.
    """
    if pattern.startswith(_DEPTH):
        depths = _depths(pattern.removeprefix(_DEPTH))
        return lambda name: depth(name) in depths
    if any(sign in pattern for sign in "*?["):
        expression = re.compile(fnmatch.translate(pattern))
        return lambda name: expression.match(name) is not None
    run = f".{pattern}."
    return lambda name: run in f".{name}."


def depth(name: str) -> int | None:
    """How many halvings of the picture lie before the block that a UNet tensor belongs to, its downsampler or upsampler
    being a part of the block; None for the embeddings of time and size, which see no picture, and other networks."""
    first, *rest = name.split(".")
    if first in ("down_blocks", "up_blocks") and rest and rest[0].isdecimal():
        return int(rest[0]) if first == "down_blocks" else LEVELS - 1 - int(rest[0])
    return {"mid_block": LEVELS - 1, "conv_in": 0, "conv_norm_out": 0, "conv_out": 0}.get(first)


def factors(names: Iterable[str], rates: Mapping[str, float]) -> dict[str, float]:
    """The factor on the learning rate of each name whose factor is not 1: the product of all whose pattern matches."""
    rules = [(matcher(pattern), factor) for pattern, factor in rates.items()]
    found: dict[str, float] = {}
    for name in names:
        factor = 1.0
        for matches, each in rules:
            factor *= each if matches(name) else 1.0
        if factor != 1:
            found[name] = factor
    return found


def encoders_meant(pattern: str) -> frozenset[str]:
    """The text encoders whose tensors a pattern names by its first part: `text_encoder_2.*`, `text_encoder*`."""
    first = pattern.split(".")[0]
    return frozenset(name for name in ENCODERS if fnmatch.fnmatchcase(name, first) and first.startswith(ENCODERS[0]))


def trained_encoders(settings: TextEncoders) -> tuple[str, ...]:
    """Which of `text_encoder` and `text_encoder_2` learn."""
    return _TRAINED[settings.train]


def to_train(meant: AbstractSet[str], learning: Collection[str]) -> str:
    """What text_encoders.train must be for one of `meant` to learn, beside those that do."""
    every = meant | set(learning)
    return "both" if len(every) > 1 else "second" if ENCODERS[1] in every else "first"


def mend(pattern: str, words: Sequence[str]) -> str:
    """What to write instead of a pattern that matches nothing; `words` are the parts that names have."""
    if pattern.lower().startswith(_DEPTH.rstrip(":")):
        return f"Depths go from 0, the whole picture, to {LEVELS - 1}: write `depth:{LEVELS - 1}` or `depth:0-1`."
    if (meant := encoders_meant(pattern)) and meant.isdisjoint(words):
        return "Text encoders are chosen in [text_encoders], not by layer."
    parts = [part for part in pattern.strip("*.").split(".") if part not in words and not part.isdecimal()]
    for part in (*parts, pattern.strip("*.")):
        if near := difflib.get_close_matches(part, words, 1, 0.6):
            return f"Did you mean `{near[0]}`?"
    return "Patterns look like `*`, `mid_block.*` or `attn2`."


def _depths(text: str) -> range:
    """Of `2` or `0-1`; empty for anything else."""
    match = re.fullmatch(r"([0-9]{1,3})(?:-([0-9]{1,3}))?", text)
    if match is None:
        return range(0)
    return range(int(match[1]), int(match[2] or match[1]) + 1)
