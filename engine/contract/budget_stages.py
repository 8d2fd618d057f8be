"""What the stage-major plan costs beside the plain one: parts of the UNet visit the device one after another.

Activation figures are of SDXL's UNet, traced with its real shapes (1024 x 1024, batch 1, bf16): 738 MiB at the backward
peak of a deep attention, 0.22 GB a micro-batch between the parts. Computed, not measured on a card.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from engine.contract.layers import Layer
from engine.contract.sections import Profile

UNIT_ACTIVATIONS = 738 << 20
WAITING = 220_000_000
PLACES = 2  # that parts visit, each as large as the largest of them


@dataclass(frozen=True)
class Streamed:
    """Bytes that the plan adds to the plain one's, mostly less than none."""

    weights: int
    gradients: int
    host: int


def streamed(profile: Profile, root: Layer, trained: AbstractSet[str]) -> Streamed:
    weight_bytes = 2 if profile.model.precision == "bf16" else 4
    sizes = list(zip(root.tensors, root.sizes, strict=True))
    learning = unit_sizes((name, size) for name, size in sizes if name in trained)
    unet, sums = weight_bytes * root.parameters, 4 * sum(learning.values())
    pictures = profile.data.resolution**2 / 1024**2 * profile.train.batch_size * profile.train.accumulate
    if profile.memory.device == "cpu":  # where nothing moves
        return Streamed(0, 0, 0)
    return Streamed(
        weights=PLACES * weight_bytes * max(unit_sizes(sizes).values()) - unet,
        gradients=4 * max(learning.values(), default=0) - sums,
        host=unet + sums + round(WAITING * pictures * weight_bytes / 2),
    )


def unit_sizes(sizes: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Elements by part of the UNet: a resnet, an attention, a sampler; `sizes` by diffusers name."""
    found: dict[str, int] = {}
    for name, size in sizes:
        parts = name.split(".")
        unit = ".".join(parts[:4] if parts[0] in ("down_blocks", "up_blocks") else parts[:3])
        if parts[0] in ("time_embedding", "add_embedding"):
            unit = "embeddings"
        found[unit] = found.get(unit, 0) + size
    return found
