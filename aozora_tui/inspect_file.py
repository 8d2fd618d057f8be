"""What a checkpoint file is, from its header alone: no tensor is loaded, nothing is unpickled."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from aozora_tui.text import printable, size
from engine.contract.base_checkpoint import read_base
from engine.contract.checkpoint_kind import identify
from engine.contract.layers import human
from engine.contract.safetensors_header import (
    TEXT_2_PREFIX,
    TEXT_PREFIX,
    VAE_PREFIX,
    CheckpointError,
    Header,
    TensorInfo,
)
from engine.contract.unet_names import UNET_PREFIX

_PARTS = {"UNet": UNET_PREFIX, "VAE": VAE_PREFIX, "text encoder": TEXT_PREFIX, "text encoder 2": TEXT_2_PREFIX}
# Empty tensors whose mere presence tells loaders how the model was trained.
_MARKERS = ("v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min")
_LONGEST_VALUE = 100


class Part(Struct, frozen=True, kw_only=True):
    """`dtypes` maps the format's words (F16, BF16, F32) to parameters stored so."""

    name: str
    tensors: int
    parameters: int
    bytes: int
    dtypes: dict[str, int]


class Inspected(Struct, frozen=True, kw_only=True):
    """`why_not` is empty if the checkpoint can be trained here. `prediction_type` and `zero_terminal_snr` are what it
    announces, `announced_by` says where, and `comfyui` is what ComfyUI, which reads the markers only, will sample it
    as. They mean something only for SDXL."""

    file: str
    bytes: int
    architecture: str
    why_not: str
    prediction_type: str
    zero_terminal_snr: bool
    announced_by: str
    comfyui: str
    markers: tuple[str, ...]
    tensors: int
    parameters: int
    parts: tuple[Part, ...]
    metadata: dict[str, str]


def inspect(path: Path) -> Inspected:
    """Raises CheckpointError, with one sentence, if `path` is neither a whole safetensors file nor a diffusers folder
    of SDXL."""
    header = _read(path)
    kind = identify(header)
    return Inspected(
        file=str(path),
        bytes=header.size,
        architecture=kind.name,
        why_not=kind.why_not,
        prediction_type=kind.prediction_type,
        zero_terminal_snr=kind.zero_terminal_snr,
        announced_by=kind.announced_by,
        comfyui=kind.comfyui,
        markers=tuple(name for name in _MARKERS if name in header.tensors),
        tensors=len(header.tensors),
        parameters=sum(tensor.elements for tensor in header.tensors.values()),
        parts=_parts(header),
        metadata=dict(header.metadata),
    )


def placed(path: Path) -> Path:
    """`~` written out. Raises CheckpointError."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"{printable(str(path))} is in the home of someone who has no account here") from error


def _read(path: Path) -> Header:
    try:
        return read_base(placed(path))
    except CheckpointError as error:  # it may quote what the file says
        raise CheckpointError(printable(str(error))) from error


def lines(found: Inspected) -> list[str]:
    """The same for a person."""
    said = [f"{found.file}: {found.architecture}, {human(found.parameters)} parameters, {size(found.bytes)}"]
    if found.why_not:
        said.append(f"cannot be trained here: {found.why_not}")
    if not found.why_not or found.markers:
        snr = ", zero terminal SNR" if found.zero_terminal_snr else ""
        said.append(f"prediction type: {found.prediction_type}{snr} ({found.announced_by})")
        said.append(f"markers: {', '.join(found.markers) or 'none'}")
        if Path(found.file).expanduser().is_dir():
            said.append('ComfyUI loads single files: save.export_format = "checkpoint" writes one')
        elif found.comfyui != found.prediction_type:
            said.append(f"ComfyUI, which reads the markers only, samples it as {found.comfyui}")
    width = max((len(part.name) for part in found.parts), default=0)
    for part in found.parts:
        kinds = ", ".join(f"{dtype} {human(number)}" for dtype, number in part.dtypes.items())
        amount = f"{part.tensors:>5} tensors  {human(part.parameters):>8}  {size(part.bytes):>8}"
        said.append(f"  {part.name:<{width}}  {amount}  {kinds}")
    if found.metadata:
        said.append("metadata:")
        said += [f"  {key}: {_short(value)}" for key, value in sorted(found.metadata.items())]
    return [printable(line) for line in said]


def _parts(header: Header) -> tuple[Part, ...]:
    groups: dict[str, list[TensorInfo]] = {}
    for name, tensor in header.tensors.items():
        part = next((part for part, prefix in _PARTS.items() if name.startswith(prefix)), "other")
        groups.setdefault(part, []).append(tensor)
    return tuple(_part(name, groups[name]) for name in (*_PARTS, "other") if name in groups)


def _part(name: str, tensors: Iterable[TensorInfo]) -> Part:
    listed = list(tensors)
    dtypes: Counter[str] = Counter()
    for tensor in listed:
        dtypes[tensor.dtype] += tensor.elements
    return Part(
        name=name,
        tensors=len(listed),
        parameters=dtypes.total(),
        bytes=sum(tensor.bytes for tensor in listed),
        dtypes=dict(dtypes.most_common()),
    )


def _short(value: str) -> str:
    """Metadata may hold a whole training configuration, or a picture."""
    return value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}... ({len(value):,} characters)"
