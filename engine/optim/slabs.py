"""Host memory in large pieces, page-locked where the system grants it: copies run beside the computation only then."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

# torch rounds a pinned allocation up to a power of two: a slab of exactly one wastes nothing.
SLAB = 1 << 30  # bytes


class Slabs:
    """Makes them. `page_locked` says whether all so far are; after the first refusal none is asked for any more.
    `refused`: whether that happened to any in this process, which whoever starts a run has to tell. Raises MemoryError
    where there is not even memory of the other kind."""

    refused: ClassVar[bool] = False

    def __init__(self, *, page_locked: bool) -> None:
        self.page_locked = page_locked

    def empty(self, elements: int, dtype: torch.dtype) -> Tensor:
        return self._make(torch.empty, elements, dtype)

    def zeros(self, elements: int, dtype: torch.dtype) -> Tensor:
        return self._make(torch.zeros, elements, dtype)

    def _make(self, make: Callable[..., Tensor], elements: int, dtype: torch.dtype) -> Tensor:
        if self.page_locked:
            try:
                return make(elements, dtype=dtype, pin_memory=True)
            except RuntimeError:  # the system's limit of locked memory
                self.page_locked = False
                Slabs.refused = True
        try:
            return make(elements, dtype=dtype)
        except RuntimeError as error:  # torch's word for it
            size = elements * dtype.itemsize / (1 << 30)
            raise MemoryError(f"the host has too little memory for {size:.1f} GiB more") from error
