"""What a profile will cost: device memory, host memory and disk. Bytes; a forecast, not a measurement.

Activation figures are of SDXL's UNet, traced with its real shapes (1024 x 1024, batch 1, bf16): 0.675 GiB at the
backward peak with every block checkpointed, 6.43 GiB with none; both are linear in pixels and batch.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from engine.contract.layers import Layer, count
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile
from engine.contract.unet_names import unet_names

GIB = 1 << 30
CHECKPOINTED_ACTIVATIONS = 0.675 * GIB
KEPT_ACTIVATIONS = 6.43 * GIB
# CUDA context, library modules, allocator slack: 0.6 to 1.2 GiB on the cards that were looked at.
DEVICE_OVERHEAD = 1.0 * GIB
# Adafactor's temporaries for each element of the tensor it updates.
UPDATE_BYTES = 22
# The VAE in fp32 and one 512-pixel tile on its way through it.
PREVIEW_BYTES = 1.06 * GIB
SDXL_WIDTH = 320
_STORED = {"bf16": 2, "fp16": 2, "fp32": 4}


@dataclass(frozen=True)
class Forecast:
    """Device parts sum to `device`; `activations` is the most that comes and goes.
    `checkpoint` is one resumable checkpoint, `export` the finished file."""

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


def export_bytes(profile: Profile, header: Header, trained: AbstractSet[str]) -> int:
    """Of the finished file or folder, 0 if there is to be none. `trained` are diffusers names."""
    save = profile.save
    if not save.export:
        return 0
    names = unet_names(header.tensors)
    kept = names if save.export_format == "unet" else header.tensors
    total = sum(header.tensors[name].bytes for name in kept)
    if save.export_precision != "same":
        changed = [header.tensors[name] for name, diffusers in names.items() if diffusers in trained]
        total += sum(info.elements * _STORED[save.export_precision] - info.bytes for info in changed)
    return total


def forecast(profile: Profile, root: Layer, trained: AbstractSet[str], header: Header) -> Forecast:
    """For the `plain` plan. `root` is the UNet of the base checkpoint that `header` lists."""
    learning = count(root, trained)
    half = profile.model.precision == "bf16"
    weight_bytes = 2 if half else 4
    # fp32 sums of the window, and the widest tensor's own gradient beside them while the backward pass runs.
    widest = max((size for name, size in zip(root.tensors, root.sizes, strict=True) if name in trained), default=0)
    gradients = 4 * learning + weight_bytes * widest
    # These three never happen at once: the backward pass, the update of the widest tensor, a preview's decoding.
    passing = max(_activations(profile, root), UPDATE_BYTES * widest, PREVIEW_BYTES if profile.preview.prompts else 0)
    checkpoint = 4 * learning + _factored(root, trained)
    exported = export_bytes(profile, header, trained)
    kept = profile.save.keep + 1  # the new one is verified before the oldest goes
    return Forecast(
        trained=learning,
        total=root.parameters,
        weights=weight_bytes * root.parameters,
        gradients=gradients,
        optimizer=_factored(root, trained),
        activations=round(passing),
        overhead=round(DEVICE_OVERHEAD) if profile.memory.device != "cpu" else 0,
        host=(2 * learning if half else 0) + 2 * GIB,
        checkpoint=checkpoint,
        export=exported,
        disk=kept * checkpoint + exported,
    )


def _activations(profile: Profile, root: Layer) -> int:
    pixels = profile.data.resolution**2 * profile.train.batch_size / 1024**2
    per_picture = CHECKPOINTED_ACTIVATIONS if profile.memory.checkpointing else KEPT_ACTIVATIONS
    precision = 1 if profile.model.precision == "bf16" else 2
    return round(per_picture * pixels * precision * _width(root) / SDXL_WIDTH)


def _width(root: Layer) -> int:
    """Channels at full resolution, from the input convolution's bias."""
    return next((n for name, n in zip(root.tensors, root.sizes, strict=True) if name == "conv_in.bias"), SDXL_WIDTH)


def _factored(root: Layer, trained: AbstractSet[str]) -> int:
    """Adafactor's second moments: about 18 MiB of 2.57 B parameters (rows and columns), so 0.0073 bytes each."""
    return round(count(root, trained) * 0.0073)
