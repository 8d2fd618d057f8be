"""What a profile will cost: device memory, host memory and disk. Bytes; a forecast, not a measurement.

Activation figures are of SDXL's UNet, traced with its real shapes (1024 x 1024, batch 1, bf16): 0.675 GiB at the
backward peak with every block checkpointed, 6.43 GiB with none; both are linear in pixels and batch.
"""

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from engine.contract.budget_stages import UNIT_ACTIVATIONS, streamed
from engine.contract.layers import Layer
from engine.contract.patterns import trained_encoders
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile
from engine.contract.text_tensors import TOKEN_EMBEDDING, learning_text, text_tensors
from engine.contract.unet_names import unet_names

GIB = 1 << 30
CHECKPOINTED_ACTIVATIONS = 0.675 * GIB
KEPT_ACTIVATIONS = 6.43 * GIB
# CUDA context, library modules, allocator slack: 0.6 to 1.2 GiB on the cards that were looked at.
DEVICE_OVERHEAD = 1.0 * GIB
# An update works through a tensor in pieces of 32 MiB and holds about four at once; whole is only the fp32 master that
# is made of a bf16 weight, and beside it the half that a split one gives back.
PIECES_BYTES = 4 * (32 << 20)
WHOLE_BYTES = {"split": 6, "fp32": 0, "stochastic": 4, "nearest": 4}
# In host memory, for each trained parameter of a bf16 network. What rests there visits the card by way of two places,
# each as large as the widest tensor.
MASTER_BYTES = {"split": 2, "fp32": 4, "stochastic": 0, "nearest": 0}
MOMENTS_BYTES = {"fp32": 8, "bf16": 4}
MOMENTUM_BYTES = 2
AVERAGE_BYTES = 4
VISITORS = 2
COUNT_BYTES = 8  # a number of steps
# An imported optimizer has fp32 parameters and gradients of its own on the device, and state, of which 4 bytes is the
# least: one of Adam's kind keeps 8.
IMPORTED_BYTES = 12
IMPORTED_STATE_BYTES = 4
HOST_OVERHEAD = 2 * GIB
# The VAE in fp32 and one 512-pixel tile on its way through it.
PREVIEW_BYTES = 1.06 * GIB
SDXL_WIDTH = 320
_STORED = {"bf16": 2, "fp16": 2, "fp32": 4}


@dataclass(frozen=True)
class Forecast:
    """Device parts sum to `device`; `activations` is the most that comes and goes.
    `checkpoint` is one resumable checkpoint, `export` all that is finished."""

    trained: int
    total: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    overhead: int
    host: int
    checkpoint: int
    export: int
    disk: int

    @property
    def device(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.overhead


@dataclass(frozen=True)
class _Learning:
    """The shapes of the tensors that learn, and of those whose rows learn each by itself; parameters `held` on
    the device in all, and the `total` of the networks that learn."""

    shapes: tuple[tuple[int, ...], ...]
    by_row: tuple[tuple[int, ...], ...]
    held: int
    total: int

    @property
    def parameters(self) -> int:
        return sum(map(math.prod, (*self.shapes, *self.by_row)))

    @property
    def widest(self) -> int:
        return max(map(math.prod, (*self.shapes, *self.by_row)), default=0)


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


def forecast(profile: Profile, root: Layer, trained: AbstractSet[str], header: Header) -> Forecast:
    """`root` is the UNet of the base checkpoint that `header` lists, `trained` what of it learns; text encoders count
    where they learn, for only then they stay on the device."""
    learning = _learning(profile, root, trained, header)
    weight_bytes = 2 if profile.model.precision == "bf16" else 4
    # fp32 sums of the window, and the widest tensor's own gradient beside them while the backward pass runs.
    gradients = 4 * learning.parameters + weight_bytes * learning.widest
    # Three things never happen at once: the backward pass, the update of the widest tensor, a preview's decoding.
    beside = max(_update(profile, learning), PREVIEW_BYTES if profile.preview.prompts else 0)
    staged = profile.memory.plan == "stage-major"
    passing = max(_activations(profile, root, staged=staged), beside)
    checkpoint = _checkpoint(profile, learning)
    exported = export_bytes(profile, header, trained)
    kept = profile.save.keep + 1  # the new one is verified before the oldest goes
    cost = Forecast(
        trained=learning.parameters,
        total=learning.total,
        weights=weight_bytes * learning.held,
        gradients=gradients,
        optimizer=_on_device(profile, learning),
        activations=round(passing),
        overhead=round(DEVICE_OVERHEAD) if profile.memory.device != "cpu" else 0,
        host=_on_host(profile, learning),
        checkpoint=checkpoint,
        export=exported,
        disk=kept * checkpoint + exported,
    )
    if not staged:
        return cost
    more = streamed(profile, root, trained)
    return replace(
        cost, weights=cost.weights + more.weights, gradients=cost.gradients + more.gradients, host=cost.host + more.host
    )


def _learning(profile: Profile, root: Layer, trained: AbstractSet[str], header: Header) -> _Learning:
    chosen = trained_encoders(profile.text_encoders)
    text = text_tensors(header) if chosen else {}
    moving = learning_text(text, profile.text_encoders)
    unet = {diffusers: header.tensors[name].shape for name, diffusers in unet_names(header.tensors).items()}
    by_row = {name for name in moving if name.endswith(TOKEN_EMBEDDING)}
    sizes = {name: math.prod(tensor.shape) for name, tensor in text.items()}
    return _Learning(
        shapes=(*(unet[name] for name in trained), *(text[name].shape for name in moving - by_row)),
        by_row=tuple(text[name].shape for name in by_row),
        held=root.parameters + sum(sizes.values()),
        total=root.parameters + sum(size for name, size in sizes.items() if name.split(".")[0] in chosen),
    )


def _update(profile: Profile, learning: _Learning) -> int:
    whole = WHOLE_BYTES[profile.optimizer.master] if profile.model.precision == "bf16" else 0
    return whole * learning.widest + PIECES_BYTES


def _resting(profile: Profile) -> tuple[int, int]:
    """Bytes a parameter in host memory that visit the device in the sweep: the master's, the optimizer's."""
    optimizer = profile.optimizer
    master = MASTER_BYTES[optimizer.master] if profile.model.precision == "bf16" else 0
    if optimizer.kind == "adamw":
        return master, MOMENTS_BYTES[optimizer.moments]
    return master, MOMENTUM_BYTES if optimizer.kind == "adafactor" and optimizer.momentum else 0


def _on_device(profile: Profile, learning: _Learning) -> int:
    """Of the optimizer, and the places for what visits."""
    imported = profile.optimizer.kind == "imported"
    state = IMPORTED_BYTES * learning.parameters if imported else _small_state(profile, learning)[0]
    visiting = profile.memory.device != "cpu"
    return state + (VISITORS * sum(_resting(profile)) * learning.widest if visiting else 0)


def _on_host(profile: Profile, learning: _Learning) -> int:
    """While the average is shown, the weights that it displaces wait there too."""
    displaced = 2 if profile.model.precision == "bf16" else 4
    average = AVERAGE_BYTES + displaced if profile.ema.decay else 0
    counts = _small_state(profile, learning)[1]
    return (sum(_resting(profile)) + average) * learning.parameters + counts + HOST_OVERHEAD


def _checkpoint(profile: Profile, learning: _Learning) -> int:
    """fp32 masters, the optimizer's state, the average."""
    kind = profile.optimizer.kind
    state = IMPORTED_STATE_BYTES if kind == "imported" else _resting(profile)[1]
    average = AVERAGE_BYTES if profile.ema.decay else 0
    return (4 + state + average) * learning.parameters + sum(_small_state(profile, learning))


def _activations(profile: Profile, root: Layer, *, staged: bool) -> int:
    pixels = profile.data.resolution**2 * profile.train.batch_size / 1024**2
    per_picture = CHECKPOINTED_ACTIVATIONS if profile.memory.checkpointing else KEPT_ACTIVATIONS
    if staged:
        per_picture = UNIT_ACTIVATIONS * profile.memory.group
    precision = 1 if profile.model.precision == "bf16" else 2
    return round(per_picture * pixels * precision * _width(root) / SDXL_WIDTH)


def _width(root: Layer) -> int:
    """Channels at full resolution, from the input convolution's bias."""
    return next((n for name, n in zip(root.tensors, root.sizes, strict=True) if name == "conv_in.bias"), SDXL_WIDTH)


def _small_state(profile: Profile, learning: _Learning) -> tuple[int, int]:
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
