"""What activations cost, by the UNet's own blocks: the last `keep` transformer blocks keep theirs, others are computed
twice."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.contract.calibration import KEPT_INPUTS
from engine.contract.layers import Layer

_BLOCK = re.compile(r"^((down|mid|up)_block(?:s\.(\d+))?\..*\.transformer_blocks\.\d+)\.norm1\.weight$")
SDXL_WIDTH = 320


@dataclass(frozen=True)
class Block:
    """A transformer block: `channels` wide, where the picture's latents were halved `depth` times."""

    name: str
    channels: int
    depth: int

    @property
    def input(self) -> int:
        """Elements of what it reads for a picture of 1024 x 1024."""
        return self.channels * (128 >> self.depth) ** 2


def blocks(root: Layer) -> list[Block]:
    """In the order of execution, in which `root` lists its tensors."""
    sized = list(zip(root.tensors, root.sizes, strict=True))
    levels = 1 + max((int(name.split(".")[1]) for name, _ in sized if name.startswith("down_blocks.")), default=0)
    found = []
    for name, size in sized:
        if part := _BLOCK.match(name):
            where, index = part[2], int(part[3] or 0)
            depth = {"down": index, "mid": levels - 1, "up": levels - 1 - index}[where]
            found.append(Block(part[1], size, depth))
    return found


def kept(every: Sequence[Block], keep: int) -> float:
    """Elements that the last `keep` of them keep for a picture of 1024 x 1024, over their inputs."""
    return KEPT_INPUTS * sum(block.input for block in every[max(0, len(every) - keep) :])


def as_many(every: Sequence[Block], keep: int, share: float) -> int:
    """How many may keep theirs for a picture of `share` of the pixels, where `keep` may for a whole one: what it takes
    together is no more. At least `keep`."""
    most = kept(every, keep)
    return max((count for count in range(keep, len(every) + 1) if kept(every, count) * share <= most), default=keep)


def share_kept(every: Sequence[Block], keep: int) -> float:
    """Of the transformer blocks' work, the part that is done once: a block's is linear in its tokens, and for these
    widths nearly in its inputs' square root."""
    work = [math.sqrt(block.input) for block in every]
    return sum(work[max(0, len(every) - keep) :]) / sum(work) if work else 0.0


def width(root: Layer) -> int:
    """Channels at full resolution, from the input convolution's bias."""
    return next((n for name, n in zip(root.tensors, root.sizes, strict=True) if name == "conv_in.bias"), SDXL_WIDTH)
