"""A diffusers folder of SDXL as if it were the published single file: the same names, the bytes where they lie."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engine.contract.architecture import ARCHITECTURE_KEY, Architecture, configured
from engine.contract.part_names import is_vae_matrix, stack_of, stacked_parts, text_2_to_published, vae_to_published
from engine.contract.safetensors_header import (
    TEXT_2_PREFIX,
    TEXT_PREFIX,
    VAE_PREFIX,
    CheckpointError,
    Header,
    TensorInfo,
    read_header,
)
from engine.contract.unet_names import UNET_PREFIX, to_published
from engine.contract.vae_config import require_sdxls_latents

Tensors = Mapping[str, TensorInfo]

_INDEX = "model_index.json"
_PIPELINES = "StableDiffusionXL"  # how the names of all of SDXL's begin
# In the order in which a single file has them.
_PREFIXES = {
    "unet": UNET_PREFIX,
    "text_encoder": TEXT_PREFIX,
    "text_encoder_2": TEXT_2_PREFIX,
    "vae": VAE_PREFIX,
}
_NAME_MAX = 255  # bytes of a file's name
_VARIANTS = ("", "fp32", "bf16", "fp16")  # the most exact first; any other comes after them
# Behind the stem of a weight file's name: one file of a variant, or the index of one that is cut into shards.
_REST = r"(?:\.(\w+))?\.safetensors(?:\.index(?:\.(\w+))?\.json)?"


@dataclass(frozen=True)
class Part:
    """One component of a folder: its tensors under the published names, without a prefix."""

    tensors: Tensors
    config: Mapping[str, Any]
    metadata: Mapping[str, str]
    size: int


def is_pipeline(path: Path) -> bool:
    """Whether it is a whole diffusers folder rather than one component."""
    return (path / _INDEX).is_file()


def read_folder(path: Path, *, vae: bool = True) -> Header:
    """The folder's tensors under their published names; without `vae` its own is left out. A component that is not
    there is left out as well: `identify` says so.

    Raises CheckpointError, in one sentence, for a folder that is no SDXL pipeline, weights that are there as pickles
    only, and tensors that have no place in SDXL.
    """
    _require_sdxl(path)
    wanted = [name for name in _PREFIXES if (name != "vae" or vae) and (path / name).is_dir()]
    parts = {name: read_part(path / name, name) for name in wanted}
    tensors = {
        _PREFIXES[name] + published: info for name, part in parts.items() for published, info in part.tensors.items()
    }
    metadata = dict(parts["unet"].metadata) if "unet" in parts else {}
    architecture = configured(path, {name: part.config for name, part in parts.items()})
    if architecture != Architecture():
        metadata[ARCHITECTURE_KEY] = json.dumps(asdict(architecture))
    schedule = path / "scheduler" / "scheduler_config.json"
    scheduler = _read_json(schedule) if schedule.is_file() else {}
    return Header(path, metadata, tensors, sum(part.size for part in parts.values()), scheduler)


def read_part(folder: Path, name: str) -> Part:
    """The component in `folder`; `name` is what a pipeline calls it: unet, vae, text_encoder or text_encoder_2.

    Raises CheckpointError.
    """
    files = _weights(folder, "model" if name.startswith("text") else "diffusion_pytorch_model")
    config = folder / "config.json"
    tensors = {tensor: header.tensors[tensor] for tensor, header in files.items()}
    try:
        published = _CONVERSIONS[name](tensors)
    except ValueError as error:
        raise CheckpointError(f"{folder} is not SDXL's {name}: {error}") from error
    headers = {header.path: header for header in files.values()}.values()
    said = _read_json(config) if config.is_file() else {}
    if name == "vae":
        require_sdxls_latents(folder, said)
    return Part(
        published,
        said,
        {key: value for header in headers for key, value in header.metadata.items()},
        sum(header.size for header in headers),
    )


def vae_as_published(tensors: Tensors) -> dict[str, TensorInfo]:
    """From diffusers' names, old or new. The middle attentions' matrices become 1x1 convolutions, as published."""
    published = {}
    for name, info in tensors.items():
        renamed = vae_to_published(name)
        published[renamed] = as_convolution(info) if is_vae_matrix(renamed) else info
    return published


def as_convolution(info: TensorInfo) -> TensorInfo:
    """The same bytes as a 1x1 convolution, if they are a matrix."""
    return replace(info, shape=(*info.shape, 1, 1)) if len(info.shape) == 2 else info


def _require_sdxl(path: Path) -> None:
    if not is_pipeline(path):
        raise CheckpointError(f"{path} {_without_index(path)}")
    index = _read_json(path / _INDEX)
    pipeline = str(index.get("_class_name"))
    if not pipeline.startswith(_PIPELINES):
        raise CheckpointError(f"{path} is a folder for diffusers' {pipeline}, not SDXL: only SDXL can be trained here")
    if index.get("text_encoder") == [None, None]:
        raise CheckpointError(
            f"{path} is the SDXL refiner, which has one text encoder only: choose an SDXL base checkpoint"
        )


def _without_index(path: Path) -> str:
    config = path / "config.json"
    if config.is_file() and (component := _read_json(config).get("_class_name")):
        return f"is one component of a diffusers folder ({component}): name the folder that it lies in"
    if cached := sorted(path.glob(f"snapshots/*/{_INDEX}")):
        return f"is a folder of the Hugging Face cache: name {cached[-1].parent}"
    if files := sorted(path.glob("*.safetensors")):
        return f"is a folder without {_INDEX}: name the file in it, for example {files[0].name}"
    return f"is a folder without {_INDEX}: name a .safetensors file, or a diffusers folder of SDXL"


def _weights(folder: Path, stem: str) -> dict[str, Header]:
    """{tensor: the table of contents of the file it lies in} of the component's most exact variant."""
    pattern = re.compile(re.escape(stem) + _REST)
    candidates = []
    for file in folder.iterdir():
        match = pattern.fullmatch(file.name)
        if match and file.is_file():
            variant = match[1] or match[2] or ""
            rank = _VARIANTS.index(variant) if variant in _VARIANTS else len(_VARIANTS)
            candidates.append((rank, variant, file.suffix == ".json", file))
    if candidates:
        *_, sharded, file = min(candidates)
        if sharded:
            return _sharded(file)
        header = read_header(file)
        return dict.fromkeys(header.tensors, header)
    if pickles := sorted(folder.glob("*.bin")):
        raise CheckpointError(
            f"{folder} holds its weights only as a pickle ({pickles[0].name}), which can run code when opened: fetch "
            "or convert them as .safetensors"
        )
    raise CheckpointError(f"{folder} holds no {stem}.safetensors: fetch the folder again")


def _sharded(index: Path) -> dict[str, Header]:
    table = _read_json(index).get("weight_map")
    if not isinstance(table, dict):
        raise CheckpointError(f"{index} is damaged: it must say which file each tensor lies in")
    if strange := [file for file in table.values() if not _is_beside(file)]:
        raise CheckpointError(f"{index} is damaged: it names a file that cannot be ({reprlib.repr(strange[0])})")
    headers = {file: read_header(index.parent / file) for file in sorted(set(table.values()))}
    for tensor, file in table.items():
        if tensor not in headers[file].tensors:
            raise CheckpointError(f"{index.parent / file} lacks {tensor}, which {index.name} says is there")
    return {tensor: headers[file] for tensor, file in table.items()}


def _is_beside(file: object) -> bool:
    """Whether it is the name of a file that can lie beside the index; never one of another folder."""
    try:
        plain = isinstance(file, str) and file not in ("", ".", "..") and not {"/", "\0"} & set(file)
        return plain and len(str(file).encode()) <= _NAME_MAX
    except UnicodeEncodeError:  # half a surrogate pair
        return False


def _unet(tensors: Tensors) -> dict[str, TensorInfo]:
    return {to_published(name): info for name, info in tensors.items()}


def _text(tensors: Tensors) -> dict[str, TensorInfo]:
    """Older transformers wrote one level more. A projection is no part of SDXL's first encoder."""
    flat = {name.removeprefix("text_model."): info for name, info in tensors.items()}
    return {name: info for name, info in flat.items() if name not in ("text_projection.weight", "logit_scale")}


def _text_2(tensors: Tensors) -> dict[str, TensorInfo]:
    """OpenCLIP has no position ids; it stacks q, k and v, and stores the projection the other way round."""
    flat = {name.removeprefix("text_model."): info for name, info in tensors.items()}
    published: dict[str, TensorInfo] = {}
    for name, info in flat.items():
        if stack := stack_of(name):
            if stack not in published:
                published[stack] = _stacked(flat, stacked_parts(stack))
        elif name == "text_projection.weight":
            published["text_projection"] = replace(info, shape=info.shape[::-1], transposed=True)
        elif name != "embeddings.position_ids":
            published[text_2_to_published(name)] = info
    return published


def _stacked(tensors: Tensors, names: tuple[str, ...]) -> TensorInfo:
    if missing := [name for name in names if name not in tensors]:
        raise ValueError(f"{missing[0]} is missing")
    first, *others = (tensors[name] for name in names)
    if any((other.dtype, other.shape) != (first.dtype, first.shape) for other in others):
        raise ValueError(f"{', '.join(names)} differ in shape or type")
    rows, *rest = first.shape
    pieces = tuple(piece for name in names for piece in tensors[name].pieces)
    return TensorInfo(first.dtype, (rows * len(names), *rest), pieces)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{path} is damaged: it is not a table")
    return table


_CONVERSIONS = {"unet": _unet, "vae": vae_as_published, "text_encoder": _text, "text_encoder_2": _text_2}
