"""State of an optimizer that is not ours, as tensors and JSON: nothing of it is cast."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from msgspec import Struct
from torch import Tensor, nn

from engine.optim.import_path import wrong_class


class Record(Struct, forbid_unknown_fields=True):
    """What of an optimizer's state is not a tensor. What is `Any` is as `Encoder` writes it."""

    optimizer: str
    device: str
    shapes: dict[str, list[int]]
    names: list[list[str]]  # of each parameter group
    groups: list[Any]
    state: list[tuple[str, Any]]  # by parameter
    shared: Any  # state that no parameter owns
    numbers: dict[str, bool | int | float]  # the optimizer's attributes that are not as they were made


class Encoder:
    """Values as JSON, and the tensors that they hold by key; one that is held twice is stored once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._keys: dict[int, str] = {}

    def encoded(self, value: object, key: str) -> Any:
        """`key` and their place in `value` name the tensors. ImportedOptimizerError for what cannot be stored."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, list):
            return [self.encoded(item, f"{key}.{at}") for at, item in enumerate(value)]
        if isinstance(value, tuple):
            return {"tuple": self.encoded(list(value), key)}
        if isinstance(value, dict):
            return {"dict": [[self.encoded(k, key), self.encoded(v, f"{key}.{k}")] for k, v in value.items()]}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        plain = type(value) in (Tensor, nn.Parameter)
        if not (isinstance(value, Tensor) and plain and value.layout is torch.strided and not value.is_complex()):
            what = f"{type(value).__name__} ({key.rsplit('.', 1)[-1]})"
            raise wrong_class(f"the optimizer keeps a {what}, which a checkpoint cannot hold")
        return self._tensor(value, key)

    def _tensor(self, value: Tensor, key: str) -> Any:
        while key in self.tensors:
            key += "'"
        key = self._keys.setdefault(id(value), key)
        # One element counts as contiguous whatever its stride, but its bytes can be viewed only with a stride of 1.
        compact = value.detach() if value.numel() > 1 else value.detach().clone(memory_format=torch.contiguous_format)
        self.tensors[key] = compact
        dtype = str(value.dtype).removeprefix("torch.")
        return {"tensor": key, "dtype": dtype, "shape": list(value.shape), "host": value.device.type == "cpu"}


def decoded(stored: Any, tensor: Callable[[Mapping[str, Any]], object]) -> Any:
    """What `Encoder.encoded` was given; `tensor` makes the tensors of it."""
    if isinstance(stored, list):
        return [decoded(item, tensor) for item in stored]
    if not isinstance(stored, dict):
        return stored
    if "tensor" in stored:
        return tensor(stored)
    if "tuple" in stored:
        return tuple(decoded(stored["tuple"], tensor))
    if "dict" in stored:
        return {decoded(key, tensor): decoded(value, tensor) for key, value in stored["dict"]}
    return getattr(torch, stored["dtype"])


def fitting(found: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """The key of a tensor that is as the record says."""
    key = str(found["tensor"])
    if key not in state:
        raise ValueError(f"optimizer state lacks {key}")
    if str(state[key].dtype) != f"torch.{found['dtype']}" or list(state[key].shape) != found["shape"]:
        raise ValueError(f"optimizer state of {key} is {state[key].dtype} {tuple(state[key].shape)}")
    return key


def tensor_differs(one: Tensor, other: Tensor) -> bool:
    """In any bit: two that hold the same NaN do not."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return True
    return not torch.equal(*(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)))
