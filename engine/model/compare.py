"""How two checkpoints differ: tensor by tensor, one pair in memory at a time, whatever files they lie in."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from engine.contract.checkpoint_kind import identify
from engine.contract.comparison import (
    Comparison,
    FileVerdict,
    MatrixRank,
    MatrixVerdict,
    MetadataDifference,
    Names,
    NotFinite,
    RankTest,
    Recast,
    Reshaped,
    Row,
    Side,
    read_side,
)
from engine.contract.safetensors_header import Header, TensorInfo
from engine.contract.tensor_places import Place, place_of
from engine.model.measure import Change, measure
from engine.model.rank import SMALLEST_SIDE, examine
from engine.model.single_file import TORCH_DTYPES, Checkpoint, Files, raw

Progress = Callable[[str, int, int, str], None]  # (what, done, total, unit)

EXAMINED = 64  # matrices: about a minute on two cores for SDXL
_LISTED = 20
# Of the matrices that changed alike, those go first that tell a LoRA of rank 128 best and cost least.
_TELLING_SIDE = 512
_DEAR = 1280 * 1280 * 5120  # multiplications; a token table has ten times as many


@dataclass(frozen=True)
class _Matrix:
    name: str
    place: Place
    smaller: int
    cost: int


@dataclass
class _Sum:
    """What a row adds up."""

    tensors: int = 0
    recast: int = 0
    changed: int = 0
    elements: int = 0
    elements_changed: int = 0
    before_squared: float = 0.0
    difference_squared: float = 0.0
    max_abs: float = 0.0

    def add(self, change: Change, elements: int) -> None:
        self.tensors += 1
        self.elements += elements
        self.recast += change.status == "recast"
        if change.status == "changed":
            self.changed += 1
            self.elements_changed += change.elements_changed
            self.before_squared += change.before_squared
            self.difference_squared += change.difference_squared
            self.max_abs = max(self.max_abs, change.max_abs)

    def row(self, place: Place) -> Row:
        relative = math.sqrt(self.difference_squared / self.before_squared) if self.before_squared else math.inf
        return Row(
            part=place.part,
            block=place.block,
            kind=place.kind,
            tensors=self.tensors,
            recast=self.recast,
            changed=self.changed,
            elements=self.elements,
            elements_changed=self.elements_changed,
            relative_change=relative if math.isfinite(relative) else None,
            max_abs=self.max_abs,
        )


@dataclass
class _Found:
    """What reading every pair of tensors gives."""

    sums: dict[Place, _Sum] = field(default_factory=dict)
    recast: Counter[tuple[str, str]] = field(default_factory=Counter)
    reshaped: list[Reshaped] = field(default_factory=list)
    not_finite: list[NotFinite] = field(default_factory=list)
    matrices: list[_Matrix] = field(default_factory=list)
    differing: int = 0


def compare(a: Path, b: Path, progress: Progress, *, every: bool = False) -> Comparison:
    """Reads both once, then examines the rank of what changed in `EXAMINED` matrices, or in `every` one.

    Raises CheckpointError, in one sentence, and OSError.
    """
    one, other = _open(a), _open(b)
    found = _read(one, other, progress)
    names, other_names = one.header.tensors, other.header.tensors
    only_a = [name for name in names if name not in other_names]
    only_b = [name for name in other_names if name not in names]
    return Comparison(
        a=_side(a, one),
        b=_side(b, other),
        identical=not (only_a or only_b or found.reshaped or found.differing),
        only_a=_names(only_a),
        only_b=_names(only_b),
        reshaped_count=len(found.reshaped),
        reshaped=tuple(found.reshaped[:_LISTED]),
        recast=tuple(Recast(a=a, b=b, tensors=number) for (a, b), number in found.recast.most_common()),
        not_finite_count=len(found.not_finite),
        not_finite=tuple(found.not_finite[:_LISTED]),
        metadata=_metadata(one.header, other.header),
        rows=tuple(found.sums[place].row(place) for place in sorted(found.sums, key=lambda place: place.order)),
        rank=_rank_test(one, other, found.matrices, progress, every=every),
    )


def _open(path: Path) -> Checkpoint:
    header = read_side(path)
    return Checkpoint(path, header, identify(header))


def _comparable(before: TensorInfo, after: TensorInfo) -> bool:
    known = before.dtype in TORCH_DTYPES and after.dtype in TORCH_DTYPES
    return before.shape == after.shape and (known or before.dtype == after.dtype)


def _tensor(checkpoint: Checkpoint, name: str) -> Tensor:
    """Mapped for as long as it is referred to: one pair at a time fills memory, not both files. Numbers of types that
    torch cannot calculate with come as bytes."""
    checkpoint = replace(checkpoint, files=Files())
    if checkpoint.header.tensors[name].dtype in TORCH_DTYPES:
        return checkpoint.tensor(name)
    return torch.frombuffer(bytearray(raw(checkpoint, name)) or bytearray(1), dtype=torch.uint8)


def _read(one: Checkpoint, other: Checkpoint, progress: Progress) -> _Found:
    found = _Found()
    before, after = one.header.tensors, other.header.tensors
    common = [name for name in before if name in after]
    total, done = sum(before[name].bytes + after[name].bytes for name in common), 0
    for name in common:
        progress("comparing", done, total, "bytes")
        done += before[name].bytes + after[name].bytes
        if not _comparable(before[name], after[name]):
            found.reshaped.append(Reshaped(name=name, a=before[name].shape, b=after[name].shape))
            continue
        pair = _tensor(one, name), _tensor(other, name)
        change = measure(*pair)
        found.differing += change.status != "identical"
        if before[name].dtype != after[name].dtype:
            found.recast[before[name].dtype, after[name].dtype] += 1
        if change.not_finite != (0, 0):
            found.not_finite.append(NotFinite(name=name, a=change.not_finite[0], b=change.not_finite[1]))
        place = place_of(name)
        for sum_of in _rows_above(place):
            found.sums.setdefault(sum_of, _Sum()).add(change, before[name].elements)
        if change.status == "changed" and change.not_finite == (0, 0) and all(map(torch.is_floating_point, pair)):
            found.matrices += _matrices(name, place, before[name].shape)
    progress("comparing", total, total, "bytes")
    return found


def _rows_above(place: Place) -> Iterable[Place]:
    yield Place(place.part)
    if place.block:
        yield Place(place.part, place.block)
        yield Place(place.part, "", place.kind)
        yield place


def _matrices(name: str, place: Place, shape: tuple[int, ...]) -> list[_Matrix]:
    """The tensor, if it is a matrix or a convolution large enough to be judged. What sees one vector a picture changes
    by a rank of at most the pictures seen, however it was trained."""
    if len(shape) < 2 or place.kind == "embeddings" or ".emb_layers." in name:
        return []
    smaller = min(shape[0], math.prod(shape[1:]))
    return [_Matrix(name, place, smaller, smaller * math.prod(shape))] if smaller >= SMALLEST_SIDE else []


def sample(matrices: Sequence[_Matrix]) -> list[_Matrix]:
    """`EXAMINED` of them at most, taking one of each kind of layer in each block in turn; always the same ones."""
    affordable = [matrix for matrix in matrices if matrix.cost <= _DEAR] or matrices
    groups: dict[Place, list[_Matrix]] = {}
    for matrix in affordable:
        groups.setdefault(matrix.place, []).append(matrix)
    for group in groups.values():
        group.sort(key=lambda matrix: (matrix.smaller < _TELLING_SIDE, matrix.cost, zlib.crc32(matrix.name.encode())))
    turns = chain.from_iterable(zip_longest(*groups.values()))
    return [matrix for matrix in turns if matrix is not None][:EXAMINED]


def _rank_test(
    one: Checkpoint, other: Checkpoint, matrices: Sequence[_Matrix], progress: Progress, *, every: bool
) -> RankTest:
    chosen = matrices if every else sample(matrices)
    ranks: list[MatrixRank] = []
    for matrix in chosen:
        progress("examining ranks", len(ranks), len(chosen), "matrices")
        ranks.append(examine(matrix.name, _tensor(one, matrix.name), _tensor(other, matrix.name)))
    progress("examining ranks", len(ranks), len(chosen), "matrices")
    verdicts = Counter(rank.verdict for rank in ranks)
    return RankTest(
        verdict=_verdict(verdicts),
        changed=len(matrices),
        examined=len(ranks),
        full=verdicts["full"],
        low_rank=verdicts["low-rank"],
        undecided=verdicts["undecided"],
        rank=max((rank.rank for rank in ranks if rank.verdict == "low-rank"), default=0),
        effective_share=median(rank.effective_rank / min(rank.rows, rank.columns) for rank in ranks) if ranks else None,
        stable_rank=median(rank.stable_rank for rank in ranks) if ranks else None,
        matrices=tuple(ranks),
    )


def _verdict(verdicts: Counter[MatrixVerdict]) -> FileVerdict:
    if verdicts["full"] and verdicts["low-rank"]:
        return "mixed"
    if verdicts["full"]:
        return "full"
    if verdicts["low-rank"]:
        return "low-rank"
    return "undecided" if verdicts["undecided"] else "none"


def _side(path: Path, checkpoint: Checkpoint) -> Side:
    header, kind = checkpoint.header, checkpoint.kind
    dtypes: Counter[str] = Counter()
    for info in header.tensors.values():
        dtypes[info.dtype] += info.elements
    return Side(
        file=str(path),
        bytes=header.size,
        architecture=kind.name,
        prediction_type=kind.prediction_type,
        zero_terminal_snr=kind.zero_terminal_snr,
        tensors=len(header.tensors),
        dtypes={dtype: number for dtype, number in dtypes.most_common() if number},
    )


def _names(names: Sequence[str]) -> Names:
    return Names(count=len(names), first=tuple(names[:_LISTED]))


def _metadata(one: Header, other: Header) -> tuple[MetadataDifference, ...]:
    a, b = one.metadata, other.metadata
    return tuple(
        MetadataDifference(key=key, a=a.get(key), b=b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)
    )
