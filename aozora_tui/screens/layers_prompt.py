"""What is typed on the layers screen: names to find, patterns, factors. Pure: a text, and what it would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aozora_tui.screens.layers_lines import percent
from aozora_tui.screens.layers_model import Chosen, Node, Tally, Trees
from aozora_tui.screens.words import counted
from aozora_tui.text import factor, read_factor
from engine.contract.layers import human
from engine.contract.patterns import encoders_meant, mend
from engine.contract.spelling import Spelling, bits

Asked = Literal["search", "match", "factor"]
SIGNS = "+-="
MATCH_HINT = "attn2 or depth:0-1 trains, -attn2 freezes, =attn2 trains it alone"


@dataclass(frozen=True)
class Outcome:
    """`text` says what enter would do, or, if it is `wrong`, why it can do nothing. `found` are indices of nodes."""

    text: str
    wrong: bool = False
    chosen: Chosen | None = None
    found: tuple[int, ...] = ()


def found(trees: Trees, text: str) -> list[int]:
    """The layers whose label or path has the text; of those whose path says it, the outermost. A published file's own
    names (`input_blocks.4`, `conditioner.embedders.0`) are understood too."""
    wanted = text.strip().lower()
    if not wanted:
        return []
    published = bits(wanted in name for name in trees.published) if "_" in wanted or "." in wanted else 0
    return [node.index for node in trees.nodes if _is_meant(trees, node, wanted, published)]


def search(trees: Trees, text: str, *, keys: str) -> Outcome:
    """Nothing looked for is found nowhere, and marks nothing. `keys` go through what is found."""
    hits = found(trees, text)
    if hits:
        return Outcome(f"{counted(len(hits), 'layer')}: {keys} go through them", found=tuple(hits))
    return Outcome("no layer is called that", wrong=True) if text.strip() else Outcome("a part of a name")


def _is_meant(trees: Trees, node: Node, wanted: str, published: int) -> bool:
    if wanted in node.label.lower():
        return True
    parent = trees.nodes[node.parent] if node.parent >= 0 else None
    if wanted in node.layer.path.lower():
        return parent is None or wanted not in parent.layer.path.lower()
    within = not node.mask & ~published
    return within and (parent is None or bool(parent.mask & ~published))


def match(trees: Trees, chosen: Chosen, text: str) -> Outcome:
    """Patterns apart by blanks: each is trained too; with `-` before it frozen, with `=` trained alone. Names of a
    published file are taken for the layers that they mean."""
    words = text.split()
    if not words:
        return Outcome(MATCH_HINT)
    unet = 0 if any(word[0] == "=" for word in words) else chosen.unet
    train, freeze, meant = list(chosen.spelling.train), list(chosen.spelling.freeze), 0
    for word in words:
        sign, pattern = (word[0], word[1:]) if word[0] in SIGNS else ("+", word)
        matched = trees.speller.matched(pattern) if pattern else 0
        ours = bool(matched)
        matched = matched or (trees.matched_in_file(pattern) & trees.speller.every if pattern else 0)
        if not matched:
            return Outcome(_nothing(trees, pattern), wrong=True)
        meant |= matched
        unet = unet & ~matched if sign == "-" else unet | matched
        if ours:  # the engine does not know the others
            (freeze if sign == "-" else train).append(pattern)
    after = trees.choose(chosen, unet, Spelling(tuple(train), tuple(freeze)))
    size = human(_parameters(trees, meant))
    share = percent(_parameters(trees, unet), trees.unet.parameters)
    return Outcome(f"{counted(meant.bit_count(), 'tensor')}, {size}: {share} of the UNet then", chosen=after)


def set_factor(trees: Trees, chosen: Chosen, node: Node, text: str) -> Outcome:
    """Of the layer's own factor, beside others that match it."""
    try:
        number = read_factor(text)
    except ValueError as error:
        return Outcome(str(error), wrong=True)
    after = trees.with_factor(chosen, node, number)
    made = Tally(trees, after).factors(node)
    others = f", from x {factor(made[0])} to x {factor(made[-1])} with others" if len(made) > 1 else ""
    if len(made) == 1 and made[0] != number:
        others = f", x {factor(made[0])} with others that match it"
    return Outcome(f"x {factor(number)} on the learning rate{others}", chosen=after)


def no_factor(trees: Trees, chosen: Chosen, node: Node) -> str:
    """Why a layer cannot have a factor of its own; "" if it can."""
    if not node.encoder and node.parent < 0:
        return "All of the UNet: that is optimizer.learning_rate itself"
    if not node.mask & trees.able:
        return f"{node.label} never learns: a factor would do nothing"
    if node.encoder and node.parent >= 0 and node.encoder not in chosen.encoders:
        return f"{trees.network(node).label} does not learn: train it first, on its own line"
    return ""


def composed(trees: Trees, chosen: Chosen, node: Node) -> list[tuple[str, float]]:
    """The factors that meet all of a layer: pattern and number."""
    said = [(pattern, each) for pattern, each in chosen.rates.items() if not node.mask & ~trees.matched(pattern)]
    return [*said, *([("rate", chosen.text_rates[node.encoder])] if node.encoder else [])]


def _nothing(trees: Trees, pattern: str) -> str:
    if encoders_meant(pattern) or (pattern and trees.matched_in_file(pattern)):
        return "a text encoder learns as a whole: train it on its own line"
    words = sorted({part for name in trees.unet.tensors for part in name.split(".") if not part.isdecimal()})
    return f"matches nothing. {mend(pattern, words)}" if pattern else "a pattern follows the sign"


def _parameters(trees: Trees, mask: int) -> int:
    return sum(size for bit, size in enumerate(trees.unet.sizes) if mask >> bit & 1)
