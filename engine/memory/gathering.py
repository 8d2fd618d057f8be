"""Gradients added to fp32 sums the moment the backward pass has made them, so that none outlives its tensor's turn."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

Collect = Callable[[str, Tensor], None]


class Gathering:
    """Listens to `parameters`, by name."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._sums: Mapping[str, Tensor] = {}
        # autograd keeps its hooks where Python's collector cannot see them: one that held this would keep it, and with
        # it the sums and the whole network, for ever.
        collect: weakref.WeakMethod[Collect] = weakref.WeakMethod(self._collect)
        for name, parameter in parameters.items():
            hook = partial(_call, collect, name)
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    @contextmanager
    def into(self, sums: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, gradients are added to what `sums` hold. Backward passes reach no other tensors than these."""
        self._sums = sums
        try:
            yield
        finally:
            self._sums = {}

    def _collect(self, name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        assert gradient is not None
        # Always the same operation: a recorded pass serves the first micro-batch of a window like any other.
        self._sums[name].add_(gradient)
        parameter.grad = None


def _call(collect: weakref.WeakMethod[Collect], name: str, parameter: Tensor) -> None:
    if (method := collect()) is not None:
        method(name, parameter)
