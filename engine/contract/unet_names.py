"""The UNet's tensor names: as SDXL files publish them, and as diffusers calls them. Strings only.

SDXL's arrangement is fixed (3 levels, 2 resnets a block down, 3 up); which levels have attention and how many
transformer blocks are read from the names themselves, so that a small model of the same arrangement works too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

UNET_PREFIX = "model.diffusion_model."

LEVELS = 3
LAYERS_PER_BLOCK = 2

_WHOLE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}

_WHOLE_BACK = {value: key for key, value in _WHOLE.items()}
_RESNET_BACK = {value: key for key, value in _RESNET.items()}
_MIDDLE_BACK = {value: key for key, value in _MIDDLE.items()}


@dataclass(frozen=True)
class Topology:
    """Transformer blocks per attention, by level from the largest picture to the smallest (0 = no attention there), and
    in the middle. SDXL: (0, 2, 10) and 10."""

    depths: tuple[int, ...]
    middle_depth: int


def to_diffusers(name: str) -> str:
    """`input_blocks.4.0.in_layers.0.weight` -> `down_blocks.1.resnets.0.norm1.weight`; no prefix on either side.

    Raises ValueError if SDXL has no such tensor.
    """
    module, _, leaf = name.rpartition(".")
    if module in _WHOLE:
        return f"{_WHOLE[module]}.{leaf}"
    block, *parts = module.split(".")
    converted = None
    if block == "middle_block" and len(parts) > 1 and parts[0] in _MIDDLE:
        converted = _inside(f"mid_block.{_MIDDLE[parts[0]]}", parts[1:])
    elif block in ("input_blocks", "output_blocks") and len(parts) > 2 and parts[0].isdecimal():
        path = _path_of(block, int(parts[0]), parts[1], parts[2:])
        converted = _inside(path, parts[2:]) if path else None
    if converted is None:
        raise ValueError(f"the UNet tensor {name} has no place in SDXL")
    return f"{converted}.{leaf}"


def to_published(name: str) -> str:
    """The inverse of `to_diffusers`."""
    module, _, leaf = name.rpartition(".")
    if module in _WHOLE_BACK:
        return f"{_WHOLE_BACK[module]}.{leaf}"
    parts = module.split(".")
    if parts[0] == "mid_block" and ".".join(parts[1:3]) in _MIDDLE_BACK:
        place = f"middle_block.{_MIDDLE_BACK['.'.join(parts[1:3])]}"
        return f"{place}.{_inside_back(parts[1], parts[3:])}.{leaf}"
    if parts[0] in ("down_blocks", "up_blocks") and len(parts) > 4 and parts[1].isdecimal() and parts[3].isdecimal():
        place = _place_of(parts[0] == "down_blocks", int(parts[1]), parts[2], int(parts[3]))
        return f"{place}.{_inside_back(parts[2], parts[4:])}.{leaf}"
    raise ValueError(f"the UNet tensor {name} has no place in SDXL")


def unet_names(names: Iterable[str]) -> dict[str, str]:
    """{name in the file, with its prefix: diffusers name} for the UNet's tensors among a file's `names`, order kept."""
    return {name: to_diffusers(name.removeprefix(UNET_PREFIX)) for name in names if name.startswith(UNET_PREFIX)}


def read_topology(names: Collection[str]) -> Topology:
    """Reads the depths off a file's names (or bare UNet names). Raises ValueError if the arrangement is not SDXL's."""
    ours = {name.removeprefix(UNET_PREFIX) for name in names}
    for place in [f"input_blocks.{i}.0." for i in range(9)] + [f"output_blocks.{i}.0." for i in range(9)]:
        if not any(name.startswith(place) for name in ours):
            raise ValueError(f"{place[:-1]} is missing")
    for place in ("input_blocks.9.", "output_blocks.9."):
        if any(name.startswith(place) for name in ours):
            raise ValueError(f"{place[:-1]} is one block too many")
    depths: list[int] = []
    for level in range(LEVELS):
        down = [f"input_blocks.{3 * level + layer + 1}.1" for layer in range(LAYERS_PER_BLOCK)]
        up = [f"output_blocks.{3 * (LEVELS - 1 - level) + layer}.1" for layer in range(LAYERS_PER_BLOCK + 1)]
        found = {_depth(ours, place) for place in down + up}
        if len(found) != 1:
            raise ValueError(f"the attentions of level {level} differ in depth")
        depths.append(found.pop())
    middle = _depth(ours, "middle_block.1")
    if not middle:
        raise ValueError("the middle block has no attention")
    return Topology(tuple(depths), middle)


def _path_of(block: str, number: int, slot: str, rest: list[str]) -> str | None:
    down = block == "input_blocks"
    level, layer = divmod(number - 1 if down else number, LAYERS_PER_BLOCK + 1)
    if not 0 <= level < LEVELS:
        return None
    if down and layer == LAYERS_PER_BLOCK:
        return f"down_blocks.{level}.downsamplers.0" if slot == "0" and rest == ["op"] else None
    side = "down_blocks" if down else "up_blocks"
    if slot == "0":
        return f"{side}.{level}.resnets.{layer}"
    if slot == "1":
        return f"{side}.{level}.attentions.{layer}"
    if slot == "2" and not down and layer == LAYERS_PER_BLOCK and rest == ["conv"]:
        return f"up_blocks.{level}.upsamplers.0"
    return None


def _inside(path: str, rest: list[str]) -> str | None:
    kind = path.split(".")[-2]
    if kind == "resnets":
        inner = _RESNET.get(".".join(rest))
        return f"{path}.{inner}" if inner else None
    if kind in ("downsamplers", "upsamplers"):
        return f"{path}.conv"
    return ".".join([path, *rest])  # transformers are named alike on both sides


def _place_of(down: bool, level: int, kind: str, index: int) -> str:
    if down and kind == "downsamplers":
        return f"input_blocks.{3 * (level + 1)}.0"
    if not down and kind == "upsamplers":
        return f"output_blocks.{3 * level + LAYERS_PER_BLOCK}.2"
    block = f"input_blocks.{3 * level + index + 1}" if down else f"output_blocks.{3 * level + index}"
    return f"{block}.{0 if kind == 'resnets' else 1}"


def _inside_back(kind: str, rest: list[str]) -> str:
    inner = ".".join(rest)
    if kind == "resnets":
        if inner not in _RESNET_BACK:
            raise ValueError(f"a resnet has no part {inner}")
        return _RESNET_BACK[inner]
    return {"downsamplers": "op", "upsamplers": "conv"}.get(kind, inner)


def _depth(names: Collection[str], place: str) -> int:
    start = f"{place}.transformer_blocks."
    return len({name[len(start) :].split(".")[0] for name in names if name.startswith(start)})
