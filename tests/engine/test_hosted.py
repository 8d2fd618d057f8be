"""Tensors in host memory, as seen from a CPU. Their visits to a card are in tests/gpu/test_hosted.py."""

import torch

from engine.contract.budget_stages import together
from engine.optim import hosted
from engine.optim.hosted import HostTensors, neighbours

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


def test_neighbours_are_one_piece_of_memory_and_as_many_as_was_foreseen(monkeypatch):
    monkeypatch.setattr(hosted, "TOGETHER", 1024)
    sizes = [100, 100, 700, 5000, 1, 256, 256]
    resting = HostTensors({str(at): torch.Size((n,)) for at, n in enumerate(sizes)}, torch.float32, torch.device("cpu"))
    found = neighbours(resting.resting())
    assert [group.size for group in found] == together(sizes, most=1024)
    for value, group in enumerate(found):
        group.resting.fill_(value)
    for value, group in enumerate(found):
        for name, (begin, end) in group.places.items():
            tensor = resting.resting()[name]
            assert end - begin == tensor.numel() and tensor.data_ptr() == group.resting[begin:].data_ptr()
            assert bool((tensor == value).all()) and group.only(name).resting.data_ptr() == tensor.data_ptr()
    assert [group.following for group in found] == [*found[1:], None]


def test_what_lies_apart_comes_apart():
    memory = torch.zeros(1024)
    apart = {"a": memory[:100], "b": memory[512:600], "c": memory[256:300], "d": torch.zeros(7), "e": torch.zeros(256)}
    assert [list(group.places) for group in neighbours(apart)] == [["a"], ["b"], ["c"], ["d"], ["e"]]
