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
        self._missing: set[str] = set()
        # autograd keeps its hooks where Python's collector cannot see them: one that held this would keep it, and with
        # it the sums and the whole network, for ever.
        collect: weakref.WeakMethod[Collect] = weakref.WeakMethod(self._collect)
        for name, parameter in parameters.items():
            hook = partial(_call, collect, name)
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    @contextmanager
    def into(self, sums: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, backward passes reach no other tensors than those of `sums`. What the sums hold at first means
        nothing: the first gradient takes its place, so that nothing of an earlier or a discarded window can leak into
        them, and what no gradient reached is zeros in the end."""
        self._sums, self._missing = sums, set(sums)
        yield
        for name in self._missing:
            sums[name].zero_()

    def _collect(self, name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if name in self._missing:
            self._missing.remove(name)
            self._sums[name].copy_(gradient)
        else:
            self._sums[name].add_(gradient)
        parameter.grad = None


def _call(collect: weakref.WeakMethod[Collect], name: str, parameter: Tensor) -> None:
    if (method := collect()) is not None:
        method(name, parameter)
