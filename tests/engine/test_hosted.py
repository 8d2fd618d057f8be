"""Tensors in host memory, as seen from a CPU. Their visits to a card are in tests/gpu/test_hosted.py."""

import torch

from engine.optim import hosted
from engine.optim.hosted import HostTensors

SHAPES = {"a": torch.Size((3, 5)), "b": torch.Size(()), "c": torch.Size((700,)), "d": torch.Size((2, 2, 3, 3))}


def test_slabs_hold_every_tensor_once_and_aligned(monkeypatch):
    monkeypatch.setattr(hosted, "SLAB", 1024 * 4)
    tensors = HostTensors(SHAPES, torch.float32, torch.device("cpu")).resting()
    assert {name: tensor.shape for name, tensor in tensors.items()} == SHAPES
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors.values()}) == 2
    for value, tensor in enumerate(tensors.values()):
        assert tensor.storage_offset() % 256 == 0 and tensor.is_contiguous() and not tensor.any()
        tensor.fill_(value)
    assert all(bool((tensor == value).all()) for value, tensor in enumerate(tensors.values()))


def test_on_a_cpu_a_visitor_is_the_resting_tensor_itself():
    tensors = HostTensors(SHAPES, torch.bfloat16, torch.device("cpu"))
    visitor = tensors.fetch("a", then=tensors.after("a"))
    visitor.fill_(2.0)
    tensors.store("a", visitor)
    tensors.store("c", torch.ones(700, dtype=torch.bfloat16))
    assert visitor.data_ptr() == tensors.resting()["a"].data_ptr() and not tensors.pinned
    assert bool((tensors.resting()["a"] == 2).all()) and bool((tensors.resting()["c"] == 1).all())
    assert [tensors.after(name) for name in SHAPES] == ["b", "c", "d", None]
