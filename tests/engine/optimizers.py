"""What the optimizers' tests share: taking steps, going through a file, watching what a step allocates."""

import weakref

import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU = torch.device("cpu")
SHAPES = {
    "linear": torch.Size((12, 7)),
    "conv": torch.Size((8, 4, 3, 3)),
    "pointwise": torch.Size((6, 5, 1, 1)),
    "vector": torch.Size((17,)),
    "scalar": torch.Size(()),
}


def normal(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def gradients(shapes, step):
    """Those of step 3 are a spike."""
    return {name: g * (50.0 if step == 3 else 0.01) for name, g in normal(shapes, 1000 + step).items()}


def take(optimizer, masters, steps, *, lr=1e-2):
    shapes = {name: master.shape for name, master in masters.items()}
    for step in steps:
        optimizer.begin_step()
        for name, gradient in gradients(shapes, step).items():
            optimizer.update(name, masters[name], gradient, lr)


def bits(tensors):
    """For comparing bit by bit: -0.0 is not 0.0."""
    return {name: tensor.detach().clone().reshape(-1).view(torch.uint8).tolist() for name, tensor in tensors.items()}


def assert_resumed_is_unbroken(make, path, shapes=SHAPES):
    """Seven steps, against three, a file, and four."""
    unbroken, masters = make(), normal(shapes, 1)
    take(unbroken, masters, range(1, 8))
    first, broken = make(), normal(shapes, 1)
    take(first, broken, range(1, 4))
    save_file(first.state_dict(), path)
    resumed = make()
    resumed.load_state_dict(load_file(path))
    take(resumed, broken, range(4, 8))
    assert bits(broken) == bits(masters)
    assert bits(resumed.state_dict()) == bits(unbroken.state_dict())


def assert_all_state_is_there_from_the_start(optimizer, shapes=SHAPES):
    def places():
        return {key: tensor.data_ptr() for key, tensor in optimizer.state_dict().items() if key != "taken"}

    before = places()
    take(optimizer, normal(shapes, 1), range(1, 4))
    assert places() == before


def assert_a_rehearsal_changes_nothing(optimizer, shapes=SHAPES):
    masters = normal(shapes, 1)
    take(optimizer, masters, range(1, 4))
    masters["linear"][0, 0] = -0.0
    before = bits(masters), bits(optimizer.state_dict())
    for name, master in masters.items():
        optimizer.rehearse(name, master)
    assert (bits(masters), bits(optimizer.state_dict())) == before


class Transients(TorchDispatchMode):
    """`peak`: the most bytes alive at a time of what was made inside."""

    def __init__(self):
        super().__init__()
        self.peak = 0
        self._made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        foreign = storages(tree_leaves((args, kwargs))).keys() - self._alive().keys()
        answer = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(answer):
            if storages([tensor]).keys() - foreign:
                self._made.append(weakref.ref(tensor))
        self.peak = max(self.peak, sum(self._alive().values()))
        return answer

    def _alive(self):
        self._made = [reference for reference in self._made if reference() is not None]
        return storages([reference() for reference in self._made])


def storages(values):
    tensors = [value.untyped_storage() for value in values if isinstance(value, torch.Tensor)]
    return {storage.data_ptr(): storage.nbytes() for storage in tensors}
