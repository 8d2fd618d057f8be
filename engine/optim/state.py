"""An optimizer's state as named tensors: taken over whole or not at all, and rehearsed with no trace left."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor


def take_over(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy `state` into the tensors of `own`, or raise ValueError saying what does not fit, with nothing changed.

    A tensor of another dtype does not fit: torch's own loading would cast it, and second moments in bf16 keep 8 bits,
    in fp16 none.
    """
    if missing := sorted(own.keys() - state.keys()):
        raise ValueError(f"the optimizer state has no {_some(missing)}: {_REMEDY}")
    if strange := sorted(state.keys() - own.keys()):
        raise ValueError(f"the optimizer state has {_some(strange)}, of no use here: {_REMEDY}")
    for key, tensor in own.items():
        found = state[key]
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise ValueError(f"the optimizer state of {key} is {_kind(found)}, not {_kind(tensor)}: {_REMEDY}")
    for key, tensor in own.items():
        tensor.copy_(state[key])


@contextmanager
def unchanged(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Afterwards `tensors` are what they were, whatever happened inside. Meanwhile their values wait in host memory."""
    kept = [(tensor, tensor.to("cpu", copy=True)) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, values in kept:
            tensor.copy_(values)


_REMEDY = "it was saved with another optimizer, other optimizer settings or other layers than the profile's"


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
