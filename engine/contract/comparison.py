"""How two checkpoints differ: what `python -m engine diff` finds and `aozora-tui diff` shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from msgspec import Struct

from engine.contract.base_checkpoint import read_base
from engine.contract.safetensors_header import Header
from engine.contract.unet_names import UNET_PREFIX, to_published

# Of a matrix: see engine.model.rank. Of a file "mixed" is some of each, "none" that no matrix changed.
MatrixVerdict = Literal["full", "low-rank", "undecided"]
FileVerdict = Literal["full", "low-rank", "mixed", "undecided", "none"]


class Side(Struct, frozen=True, kw_only=True):
    """One of the two. `architecture` and `prediction_type` as `aozora-tui inspect` says them; `dtypes` maps the
    format's words to parameters stored so."""

    file: str
    bytes: int
    architecture: str
    prediction_type: str
    zero_terminal_snr: bool
    tensors: int
    dtypes: dict[str, int]


class Names(Struct, frozen=True, kw_only=True):
    """`first` are a few of `count`."""

    count: int
    first: tuple[str, ...]


class Reshaped(Struct, frozen=True, kw_only=True):
    """In both under one name, but not comparable."""

    name: str
    a: tuple[int, ...]
    b: tuple[int, ...]


class Recast(Struct, frozen=True, kw_only=True):
    """`tensors` that A stores as `a` and B as `b`, the format's words."""

    a: str
    b: str
    tensors: int


class Row(Struct, frozen=True, kw_only=True):
    """A part, one block of the UNet (`block`), one kind of layer (`kind`), or one kind in one block; "" stands for all.

    Of `tensors` that both sides hold in one shape, `recast` are the same numbers once cast to the coarser of the two
    dtypes, `changed` hold other numbers, the rest is bit-identical. `elements` are those of all, `elements_changed` are
    in the changed ones. `relative_change` = ||B - A|| / ||A|| (Frobenius) over the changed ones, None if that A is zero
    or none changed; `max_abs` is the largest |B - A|. Values that are not finite count in neither.
    """

    part: str
    block: str = ""
    kind: str = ""
    tensors: int
    recast: int
    changed: int
    elements: int
    elements_changed: int
    relative_change: float | None
    max_abs: float


class MetadataDifference(Struct, frozen=True, kw_only=True):
    """None where a side has no such key."""

    key: str
    a: str | None
    b: str | None


class NotFinite(Struct, frozen=True, kw_only=True):
    """How many values of a tensor are NaN or infinite on either side."""

    name: str
    a: int
    b: int


class MatrixRank(Struct, frozen=True, kw_only=True):
    """What is known of D = B - A, a matrix of `rows` x `columns`. `rank` counts the singular values that rounding
    cannot have made; `left` is the energy beyond them, 1 being what rounding B alone leaves. `effective_rank` is Roy &
    Vetterli's (2007), `stable_rank` ||D||_F^2 / ||D||_2^2, both of D as it is, rounding included."""

    name: str
    rows: int
    columns: int
    verdict: MatrixVerdict
    rank: int
    left: float
    effective_rank: float
    stable_rank: float


class RankTest(Struct, frozen=True, kw_only=True):
    """`changed` matrices large enough to be judged, `matrices` those that were examined. `rank` is the largest among
    the low-rank ones; `effective_share` the median of effective rank over the smaller side."""

    verdict: FileVerdict
    changed: int
    examined: int
    full: int
    low_rank: int
    undecided: int
    rank: int
    effective_share: float | None
    stable_rank: float | None
    matrices: tuple[MatrixRank, ...]


class Comparison(Struct, frozen=True, kw_only=True):
    """`identical`: the same names, shapes, dtypes and bytes; metadata does not count. `rows` come in the order of the
    forward pass: each part, then under the UNet its blocks, its kinds, and its kinds by block. Of `reshaped` and
    `not_finite` only the first few are listed."""

    a: Side
    b: Side
    identical: bool
    only_a: Names
    only_b: Names
    reshaped_count: int
    reshaped: tuple[Reshaped, ...]
    recast: tuple[Recast, ...]
    not_finite_count: int
    not_finite: tuple[NotFinite, ...]
    metadata: tuple[MetadataDifference, ...]
    rows: tuple[Row, ...]
    rank: RankTest


def read_side(path: Path) -> Header:
    """A file or a diffusers folder, whole or not, SDXL or not. A file that is a UNet alone, under diffusers' names or
    without a prefix, gets the published names, to be compared with whole checkpoints.

    Raises CheckpointError, in one sentence.
    """
    header = read_base(path)
    tensors = header.tensors
    try:
        if "down_blocks.0.resnets.0.conv1.weight" in tensors:
            tensors = {UNET_PREFIX + to_published(name): info for name, info in tensors.items()}
        elif "input_blocks.0.0.weight" in tensors:
            tensors = {UNET_PREFIX + name: info for name, info in tensors.items()}
    except ValueError:  # not SDXL's: compared under the names it has
        tensors = header.tensors
    return replace(header, tensors=tensors)
