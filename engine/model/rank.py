"""Is the difference of two stored matrices of low rank? That tells a merged adapter from full fine-tuning.

A merged LoRA of rank r makes B = round(A + L) with rank L <= r. The singular values of D = B - A would show it at once,
were it not for the rounding, which is of full rank and, in half precision, about as large as the change itself.

Rounding. A number x stored with p bits of fraction is wrong by an error uniform in +-ulp/2, ulp = 2^(floor(log2|x|)-p),
so of variance ulp^2/12 (below the normal numbers the ulp stays that of the smallest). If A is exactly what B was made
from, D - L is the error of B alone: v = ulp(B)^2/12; where A is the coarser one, as when a half-precision copy is
compared, A's error: v takes the larger ulp. If both were rounded, or B twice (the base to half precision, then the
sum), two errors add: 2 v at most. A change below half an ulp u is lost or becomes a whole one; for a normal change of
deviation s the mean square of that error is u^2/12 + (u/pi)^2 sum_k (-1)^k exp(-2 (pi k s/u)^2) / k^2, never above
u^2/12. The product of an adapter is often computed in bfloat16 even where the sum is not: 2^-14 D^2/12 is added to v.

What it looks like. Errors of elements are independent, but as uneven as the magnitudes of the weights. Rows and columns
are therefore scaled until the expected noise of each is the same (Sinkhorn); scaling by invertible diagonal matrices
changes no rank. Then the noise's singular values end at the Marchenko-Pastur edge sqrt(m) + sqrt(n), give or take the
Tracy-Widom fluctuation of relative size k^(-2/3), k = min(m, n). Above 1 + 2 k^(-2/3) of the edge is signal. With r
values of signal removed, noise of unit variance leaves the energy (m - r)(n - r).

Verdicts. "low-rank": at most k/4 values of signal (or k/2, where the spectrum breaks off: the last at twice the edge);
the energy left beyond them is what v or 2 v explains; and A plus the signal, rounded as B is, explains the change up to
a twentieth of its energy. "full": the energy beyond k/4 is more than 2 v explains. "undecided": neither, which is how a
change ends that is mostly smaller than an ulp.

It cannot see adapters of full rank (LoHa, LoKr, a rank above k/4) or a weighted mix of full models: those are "full".
A few steps of an optimizer that keeps a gradient's rank (plain SGD, Adafactor) on few captions can be of low rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.contract.comparison import MatrixRank, MatrixVerdict

SMALLEST_SIDE = 32  # below it there is no telling a few ranks from all of them

_ROUNDINGS = 2
_TOLERANCE = 0.05  # of the noise's energy: rounding fills its expectation to about 1 % in a matrix of 64 x 64
_SHARE = 0.95
_FINE = torch.float32


@dataclass(frozen=True)
class _Pair:
    """Two matrices (m, n), float32, and the dtypes that their numbers were rounded to."""

    before: Tensor
    after: Tensor
    grid_before: torch.dtype
    grid_after: torch.dtype


@dataclass(frozen=True)
class _Noise:
    """One rounding: the sum of its expected squares; with the scales (m, 1) and (n,) it has unit variance, and singular
    values up to `edge`."""

    energy: float
    down: Tensor
    across: Tensor
    edge: float


@dataclass(frozen=True)
class _Judgement:
    verdict: MatrixVerdict
    rank: int
    left: float


def examine(name: str, before: Tensor, after: Tensor) -> MatrixRank:
    """Judge B - A for two tensors (O, ...) as stored, finite, of one shape; kernels count as columns."""
    pair = _touched(before, after)
    difference = pair.after - pair.before
    own = singular_values(difference) if difference.numel() else torch.zeros(1)
    nothing = min(difference.shape) < SMALLEST_SIDE
    judged = _Judgement("undecided", 0, 0.0) if nothing else _judge(pair, difference)
    return MatrixRank(
        name=name,
        rows=before.shape[0],
        columns=before[0].numel(),
        verdict=judged.verdict,
        rank=judged.rank,
        left=judged.left,
        effective_rank=effective_rank(own),
        stable_rank=stable_rank(own),
    )


def effective_rank(singular: Tensor) -> float:
    """exp of the entropy of the normalised singular values (Roy & Vetterli 2007): 1 for one, k for k equal ones."""
    total = singular.sum()
    return float(torch.special.entr(singular / total).sum().exp()) if float(total) > 0 else 0.0


def stable_rank(singular: Tensor) -> float:
    """||D||_F^2 / ||D||_2^2, from singular values in descending order."""
    return float(singular.square().sum() / singular[0].square()) if float(singular[0]) > 0 else 0.0


def singular_values(matrix: Tensor) -> Tensor:
    """Descending, float64, through the smaller Gram matrix: right to about 1e-8 of the largest."""
    wide = _wide(matrix.double())
    squares: Tensor = torch.linalg.eigvalsh(wide @ wide.T)
    return squares.clamp_min(0.0).sqrt().flip(0)


def grid(tensor: Tensor) -> torch.dtype:
    """The coarsest of the usual dtypes that holds every number of `tensor`: a merge computed in bfloat16 keeps its
    rounding when it is saved in a finer one."""
    candidates = {8: (torch.bfloat16, torch.float16), 4: (torch.bfloat16, torch.float16), 2: (torch.bfloat16,)}
    for dtype in candidates.get(tensor.dtype.itemsize, ()):
        if torch.equal(tensor.to(dtype).to(tensor.dtype), tensor):
            return dtype
    return tensor.dtype if tensor.dtype.itemsize < 4 else _FINE


def ulp(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The distance between `values` (float32) and their neighbours in `dtype`, float32."""
    info = torch.finfo(dtype)
    exponent = torch.frexp(values.abs().clamp_min(info.smallest_normal)).exponent
    return torch.ldexp(torch.full_like(values, info.eps), exponent - 1)


def _touched(before: Tensor, after: Tensor) -> _Pair:
    """The rows and columns in which anything changed: of a table of tokens, training may touch a few rows only."""
    fine_before, fine_after = before.to(_FINE).flatten(1), after.to(_FINE).flatten(1)
    changed = fine_before != fine_after
    rows, columns = changed.any(1), changed.any(0)
    if not bool(rows.all() & columns.all()):
        fine_before, fine_after = (tensor[rows][:, columns] for tensor in (fine_before, fine_after))
    return _Pair(fine_before, fine_after, grid(before), grid(after))


def _judge(pair: _Pair, difference: Tensor) -> _Judgement:
    rows, columns = difference.shape
    smaller = min(rows, columns)
    noise = _noise(pair, difference)
    scaled = difference.double() * noise.down * noise.across
    singular = singular_values(scaled)
    energy = singular.square()
    limit = noise.edge * (1 + 2 * smaller ** (-2 / 3))

    def left_beyond(rank: int) -> float:
        return float(energy[rank:].sum()) / max((rows - rank) * (columns - rank), 1)

    rank = int((singular > limit).sum())
    left = left_beyond(rank)
    if left > 1 + _TOLERANCE:
        limit *= math.sqrt(_ROUNDINGS)
        rank = int((singular > limit).sum())
        left = left_beyond(rank)
    most = _ROUNDINGS * (1 + _TOLERANCE)
    breaks_off = 0 < rank <= smaller // 2 and float(singular[rank - 1]) > 2 * limit
    few = 0 < rank <= smaller // 4 or breaks_off
    if few and left <= most and _explained(pair, noise, _of_rank(scaled, rank) / noise.down / noise.across, rank):
        return _Judgement("low-rank", rank, left)
    return _Judgement("full" if left_beyond(smaller // 4) > most else "undecided", rank, left)


def _noise(pair: _Pair, difference: Tensor) -> _Noise:
    rows, columns = difference.shape
    unit = float(difference.abs().max())  # squares of small numbers are none in float32
    coarser = torch.maximum(ulp(pair.before, pair.grid_before), ulp(pair.after, pair.grid_after)) / unit
    variance = (coarser.square() + (difference / unit).square() * 2.0**-14) / 12
    level = float(variance.mean(dtype=torch.float64))
    # Rows that are all but zero would otherwise be blown up beyond what their neighbours can be compared with.
    relative = (variance / level).clamp_min(1e-6)
    down, across = torch.ones(rows), torch.ones(columns)
    for _ in range(8):
        down = columns / (relative @ across)
        across = rows / (down @ relative)
    # No larger norm is to be expected of independent elements than that of the strongest row and column.
    edge = math.sqrt(float((down * (relative @ across)).max())) + math.sqrt(float((across * (down @ relative)).max()))
    scale = unit * math.sqrt(level)
    return _Noise(scale**2 * rows * columns, down.double().sqrt()[:, None] / scale, across.double().sqrt(), edge)


def _explained(pair: _Pair, noise: _Noise, signal: Tensor, rank: int) -> bool:
    """Whether `signal` (m, n), of that rank, makes up the change, once A + signal has been rounded the way B was.

    Scaled, the strongest singular values may come from a few rows that are stored finely; this is on the plain scale,
    where a small rest that the rounding could hide counts in full.
    """
    rows, columns = signal.shape
    free = (rows - rank) * (columns - rank) / (rows * columns)  # the share of independent noise that is not in signal
    before, after = pair.before.double(), pair.after.double()
    target = before + signal
    rounding = float((target.to(pair.grid_after).double() - target).square().sum())
    if torch.finfo(pair.grid_before).eps > torch.finfo(pair.grid_after).eps:
        rounding = noise.energy
    rest = float((after - target).square().sum()) / free
    made = float(signal.square().sum()) - rest * (1 - free)
    hidden = max(rest - rounding, 0.0) + _TOLERANCE * max(rest, rounding)
    return made >= _SHARE * (made + hidden)


def _of_rank(matrix: Tensor, rank: int) -> Tensor:
    """The nearest matrix of that rank."""
    wide = _wide(matrix)
    vectors: Tensor = torch.linalg.eigh(wide @ wide.T).eigenvectors[:, -rank:]
    near = vectors @ (vectors.T @ wide)
    return near if matrix.shape[0] <= matrix.shape[1] else near.T


def _wide(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
