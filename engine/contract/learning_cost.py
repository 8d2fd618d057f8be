"""What learns, and what each of its parameters costs wherever the network itself is."""

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

from engine.contract.layers import Layer
from engine.contract.patterns import trained_encoders
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile
from engine.contract.text_tensors import TOKEN_EMBEDDING, learning_text, text_tensors
from engine.contract.unet_names import unet_names

# An update works through a tensor in pieces of 32 MiB and holds about four at once; whole is only the fp32 master that
# is made of a bf16 weight, and beside it the half that a split one gives back.
PIECES_BYTES = 4 * (32 << 20)
WHOLE_BYTES = {"split": 6, "fp32": 0, "stochastic": 4, "nearest": 4}
# In host memory, for each trained parameter of a bf16 network. What rests there visits the card by way of
# the two ends of memory that has room for any two that follow each other.
MASTER_BYTES = {"split": 2, "fp32": 4, "stochastic": 0, "nearest": 0}
MOMENTS_BYTES = {"fp32": 8, "bf16": 4}
MOMENTUM_BYTES = 2
AVERAGE_BYTES = 4
HOST_OVERHEAD, HOST_OVERHEAD_ON_CPU = 2 << 30, 1 << 30
COUNT_BYTES = 8  # a number of steps
# An imported optimizer has fp32 parameters and gradients of its own on the device, and state, of which 4 bytes is the
# least: one of Adam's kind keeps 8.
IMPORTED_BYTES = 12
IMPORTED_STATE_BYTES = 4
_STORED = {"bf16": 2, "fp16": 2, "fp32": 4}


@dataclass(frozen=True)
class Learning:
    """The shapes of the tensors that learn, and of those whose rows learn each by itself; parameters `held` on
    the device in all, and the `total` of the networks that learn."""

    shapes: tuple[tuple[int, ...], ...]
    by_row: tuple[tuple[int, ...], ...]
    held: int
    total: int

    @cached_property
    def sizes(self) -> list[int]:
        return list(map(math.prod, (*self.shapes, *self.by_row)))

    @cached_property
    def parameters(self) -> int:
        return sum(self.sizes)

    @cached_property
    def widest(self) -> int:
        return max(self.sizes, default=0)


def learning_of(profile: Profile, root: Layer, trained: AbstractSet[str], header: Header) -> Learning:
    chosen = trained_encoders(profile.text_encoders)
    text = text_tensors(header) if chosen else {}
    moving = learning_text(text, profile.text_encoders)
    unet = {diffusers: header.tensors[name].shape for name, diffusers in unet_names(header.tensors).items()}
    by_row = {name for name in moving if name.endswith(TOKEN_EMBEDDING)}
    sizes = {name: math.prod(tensor.shape) for name, tensor in text.items()}
    return Learning(
        shapes=(*(unet[name] for name in trained), *(text[name].shape for name in moving - by_row)),
        by_row=tuple(text[name].shape for name in by_row),
        held=root.parameters + sum(sizes.values()),
        total=root.parameters + sum(size for name, size in sizes.items() if name.split(".")[0] in chosen),
    )


def update_bytes(profile: Profile, learning: Learning) -> int:
    whole = WHOLE_BYTES[profile.optimizer.master] if profile.model.precision == "bf16" else 0
    return whole * learning.widest + PIECES_BYTES


def resting_bytes(profile: Profile) -> tuple[int, int]:
    """Bytes a parameter in host memory that visit the device in the sweep: the master's, the optimizer's."""
    optimizer = profile.optimizer
    master = MASTER_BYTES[optimizer.master] if profile.model.precision == "bf16" else 0
    if optimizer.kind == "adamw":
        return master, MOMENTS_BYTES[optimizer.moments]
    return master, MOMENTUM_BYTES if optimizer.kind == "adafactor" and optimizer.momentum else 0


def small_state(profile: Profile, learning: Learning) -> tuple[int, int]:
    """What an optimizer of ours keeps beside a value for each parameter, on the device and in host memory: adafactor's
    fp32 second moments, by rows and columns; for a table that learns by row one a row, and each row's count of steps;
    adamw's counts of each tensor's."""
    rows = sum(shape[0] for shape in learning.by_row)
    match profile.optimizer.kind:
        case "adafactor":
            return 4 * sum(map(_moments, learning.shapes)) + (4 + COUNT_BYTES) * rows, 0
        case "adamw":
            return COUNT_BYTES * rows, COUNT_BYTES * len(learning.shapes)
        case _:
            return 0, 0


def _moments(shape: tuple[int, ...]) -> int:
    """A convolution is taken as a matrix of its outputs and all the rest."""
    return math.prod(shape) if len(shape) < 2 else shape[0] + math.prod(shape[1:])


def state_bytes(profile: Profile, learning: Learning) -> int:
    """Of the optimizer's, all the time on the device."""
    if profile.optimizer.kind == "imported":
        return IMPORTED_BYTES * learning.parameters
    return small_state(profile, learning)[0]


def host_bytes(profile: Profile, learning: Learning) -> int:
    """While the average is shown, the weights that it displaces wait there too."""
    average = AVERAGE_BYTES + weight_bytes(profile) if profile.ema.decay else 0
    counts = small_state(profile, learning)[1]
    overhead = HOST_OVERHEAD_ON_CPU if profile.memory.device == "cpu" else HOST_OVERHEAD
    return (sum(resting_bytes(profile)) + average) * learning.parameters + counts + overhead


def checkpoint_bytes(profile: Profile, learning: Learning) -> int:
    """fp32 masters, the optimizer's state, the average."""
    kind = profile.optimizer.kind
    state = IMPORTED_STATE_BYTES if kind == "imported" else resting_bytes(profile)[1]
    average = AVERAGE_BYTES if profile.ema.decay else 0
    return (4 + state + average) * learning.parameters + sum(small_state(profile, learning))


def export_bytes(profile: Profile, header: Header, trained: AbstractSet[str]) -> int:
    """Of all that is written for others at the end, 0 if nothing is. `trained` are the UNet's, as diffusers names."""
    save = profile.save
    if not save.export:
        return 0
    names = unet_names(header.tensors)
    kept = names if save.export_format == "unet" else header.tensors
    total = sum(header.tensors[name].bytes for name in kept)
    if save.export_precision != "same":
        unet = [name for name, diffusers in names.items() if diffusers in trained]
        text = text_tensors(header)
        published = {text[name].published for name in learning_text(text, profile.text_encoders)}
        changed = [header.tensors[name] for name in (*unet, *published) if name in kept]
        total += sum(info.elements * _STORED[save.export_precision] - info.bytes for info in changed)
    return total * (2 if profile.ema.decay and profile.ema.export == "both" else 1)


def weight_bytes(profile: Profile) -> int:
    """Bytes of a weight, and of an activation."""
    return 2 if profile.model.precision == "bf16" else 4
