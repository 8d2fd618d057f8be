"""What the units of the stage-major plan weigh: parts of the UNet that visit the card one after another, two neighbours
at a time."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import pairwise

# Transformer blocks in a unit, without groups and with them; an attention of more is cut into as few parts as there can
# be.
DEEPEST, DEEPEST_GROUPED = 5, 2
ALIGNED = 256  # elements
_OUT = ("conv_norm_out", "conv_out")
_EMBEDDINGS = "embeddings"


def unit_sizes(
    sizes: Iterable[tuple[str, int]], counted: AbstractSet[str] | None = None, *, deepest: int = DEEPEST
) -> dict[str, int]:
    """Elements by unit, the embeddings first, the others in the order of execution, in which `sizes`, by diffusers
    name, has all tensors; each aligned as it lies there. Only those `counted`, where given."""
    listed = list(sizes)
    parts = _parts(listed, deepest)
    found = {_EMBEDDINGS: 0}
    for name, size in listed:
        unit = _unit(name, parts)
        held = counted is None or name in counted
        found[unit] = found.get(unit, 0) + (-(-size // ALIGNED) * ALIGNED if held else 0)
    return found


def widest_pair(sizes: Mapping[str, int]) -> int:
    """Elements of the largest two neighbours."""
    alone = list(sizes.values())
    return max([*alone, *(first + second for first, second in pairwise(alone))], default=0)


def together(sizes: Iterable[int], most: int) -> list[int]:
    """Elements of what visits the card in one go: as many tensors as `most` has room for, a larger one alone."""
    groups: list[int] = []
    for size in sizes:
        begin = -(-groups[-1] // ALIGNED) * ALIGNED if groups else most
        if begin + size > most:
            groups.append(size)
        else:
            groups[-1] = begin + size
    return groups


def _parts(sizes: Iterable[tuple[str, int]], deepest: int) -> dict[str, list[int]]:
    """By attention, where each of its parts ends: cut evenly, as the plan does it."""
    lengths: dict[str, int] = {}
    for name, _ in sizes:
        attention, inner, rest = name.partition(".transformer_blocks.")
        if inner:
            lengths[attention] = max(lengths.get(attention, 0), 1 + int(rest.split(".")[0]))
    ends: dict[str, list[int]] = {}
    for attention, length in lengths.items():
        count, at = -(-length // deepest), 0
        ends[attention] = []
        for number in range(count):
            at += (length - at) // (count - number)
            ends[attention].append(at)
    return ends


def _unit(name: str, parts: Mapping[str, list[int]]) -> str:
    path = name.split(".")
    if path[0] in ("time_embedding", "add_embedding"):
        return _EMBEDDINGS
    if path[0] in _OUT:
        return "out"
    if path[0] == "conv_in":
        return "conv_in"
    unit = ".".join(path[:4] if path[0] in ("down_blocks", "up_blocks") else path[:3])
    ends = parts.get(unit, [])
    if len(ends) < 2:
        return unit
    _, inner, rest = name.partition(".transformer_blocks.")
    if inner:
        block = int(rest.split(".")[0])
        number = next(number for number, end in enumerate(ends) if block < end)
    else:
        number = len(ends) - 1 if "proj_out" in path else 0
    return f"{unit} {number + 1}/{len(ends)}"
