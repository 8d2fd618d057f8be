"""How much one stored tensor differs from another of its shape."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

_ELEMENTS = 1 << 18  # at a time: small enough for the caches of a processor


@dataclass(frozen=True)
class Change:
    """`recast`: another dtype holds the same numbers, or one side is the other rounded to its dtype. Sums are float64
    over finite values; `not_finite` counts NaN and infinities (before, after)."""

    status: Literal["identical", "recast", "changed"]
    elements_changed: int = 0
    before_squared: float = 0.0
    difference_squared: float = 0.0
    max_abs: float = 0.0
    not_finite: tuple[int, int] = (0, 0)


def measure(before: Tensor, after: Tensor) -> Change:
    """Both of one shape, any dtypes. Identical bytes cost little more than reading them."""
    same = before.dtype == after.dtype
    if same and _same_bits(before, after):
        number = _count_not_finite(before)
        return Change("identical", not_finite=(number, number))
    if not same and _is_cast(before, after):
        return Change("recast", not_finite=(_count_not_finite(before), _count_not_finite(after)))
    fine = max(before.itemsize, after.itemsize) <= 4 and before.is_floating_point() and after.is_floating_point()
    change = _compare(before, after, torch.float32 if fine else torch.float64)
    # The difference of two huge numbers is none in float32.
    return change if math.isfinite(change.difference_squared) else _compare(before, after, torch.float64)


def _compare(before: Tensor, after: Tensor, dtype: torch.dtype) -> Change:
    changed, squares, differences, largest = 0, 0.0, 0.0, 0.0
    not_finite_before = not_finite_after = 0
    for one, other in _pieces(before, after, dtype):
        difference = other - one
        norm = float(torch.linalg.vector_norm(difference, dtype=torch.float64))
        if not math.isfinite(norm):  # which costs less to see than asking every number
            finite = one.isfinite() & other.isfinite()
            not_finite_before += int((~one.isfinite()).sum())
            not_finite_after += int((~other.isfinite()).sum())
            changed += int(((one != other) & ~finite & ~(one.isnan() & other.isnan())).sum())
            one, difference = one[finite], difference[finite]
            norm = float(torch.linalg.vector_norm(difference, dtype=torch.float64))
        if difference.numel():
            changed += int(torch.count_nonzero(difference))
            squares += float(torch.linalg.vector_norm(one, dtype=torch.float64)) ** 2
            differences += norm**2
            low, high = torch.aminmax(difference)
            largest = max(largest, -float(low), float(high))
    return Change("changed", changed, squares, differences, largest, (not_finite_before, not_finite_after))


def _same_bits(before: Tensor, after: Tensor) -> bool:
    """Read as the widest integers that fit, which is several times as fast as bytes."""
    flat = before.reshape(-1), after.reshape(-1)
    wide = all(one.numel() * one.itemsize % 8 == 0 and one.data_ptr() % 8 == 0 and one.numel() for one in flat)
    kind = torch.int64 if wide else torch.uint8
    return torch.equal(flat[0].view(kind), flat[1].view(kind))


def _is_cast(before: Tensor, after: Tensor) -> bool:
    return _same_bits(before.to(after.dtype), after) or _same_bits(after.to(before.dtype), before)


def _count_not_finite(tensor: Tensor) -> int:
    if not tensor.is_floating_point() or not tensor.numel():
        return 0
    if tensor.itemsize > 1:
        low, high = torch.aminmax(tensor)  # NaN wins; far faster than asking every element
        if math.isfinite(float(low)) and math.isfinite(float(high)):
            return 0
    return sum(int((~one.isfinite()).sum()) for one, _ in _pieces(tensor, tensor, torch.float32))


def _pieces(before: Tensor, after: Tensor, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    one, other = before.reshape(-1), after.reshape(-1)
    for start in range(0, one.numel(), _ELEMENTS):
        yield one[start : start + _ELEMENTS].to(dtype), other[start : start + _ELEMENTS].to(dtype)
