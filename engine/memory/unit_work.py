"""One unit's work for one group: step by step, or recorded and replayed for whichever unit of its make stands there."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.memory.graphs import Arena, Kept, Recorder, Work
from engine.memory.units import Unit

RECORDED = 12  # shapes of groups; about 30 MiB of the card each, for SDXL

_RESULT = "result"  # of the way there; on the way back the gradient of it


@dataclass(frozen=True)
class _Recording:
    """`views` are what it reads and writes, by name."""

    replay: Work
    views: dict[str, Tensor]


@dataclass(frozen=True)
class Recordings:
    """Of one shape of group."""

    works: dict[Hashable, _Recording] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """A unit where it is at work: `at` stands for the addresses of its weights and sums, `size` is as `Unit.run` has
    it."""

    unit: Unit
    at: Hashable
    size: torch.Size | None = None


class UnitWork:
    """Inputs are named as `Unit.run` names them."""

    def __init__(self, recorder: Recorder | None, device: torch.device) -> None:
        self._recorder, self._device = recorder, device
        self._arena = Arena(device)
        self._kept: Kept[Recordings] = Kept(RECORDED)
        self.warm = False
        self._tried: set[Hashable] = set()
        self._standing: Standing | None = None  # where others of its make have stood, when work was recorded there

    def recordings(self, shapes: Mapping[Hashable, int]) -> Mapping[Hashable, Recordings]:
        """By shape of the window's groups, which have so many elements each; none until a window has come back step by
        step, while libraries load what they need. For a recorder that tries first, of shapes that came back in one. Not
        of small shapes that are rare: to record one takes seconds."""
        if self._recorder is None:
            return {}
        if not self.warm:
            for shape, size in shapes.items():
                self._kept.note(shape, size=size)
            return {}
        tried = {s: size for s, size in shapes.items() if not self._recorder.tries_first or s in self._tried}
        found = {shape: self._kept.often(shape, Recordings, size=size) for shape, size in tried.items()}
        return {shape: recordings for shape, recordings in found.items() if recordings is not None}

    def came_back(self, shapes: Iterable[Hashable]) -> None:
        """A window of groups of these `shapes` is through."""
        self.warm = True
        self._tried.update(shapes)

    def forget(self) -> None:
        """Other parameters learn from now on, or groups are smaller."""
        self._kept.drop()
        self._tried.clear()
        self._arena = Arena(self._device)  # sized for what there was

    def forward(self, standing: Standing, inputs: Mapping[str, Tensor], recordings: Recordings | None) -> Tensor:
        """The unit's output, without a graph."""
        if recordings is None:
            return standing.unit.run(**inputs, size=standing.size)

        def work(views: dict[str, Tensor]) -> None:
            at = self._at()
            with torch.no_grad():
                output = at.unit.run(**{name: views[name] for name in inputs}, size=at.size)
                if _RESULT not in views:
                    views[_RESULT] = self._arena.view(_RESULT, output.shape, output.dtype)
                views[_RESULT].copy_(output)

        return self._do(standing, recordings, work, inputs, "forward")[_RESULT].clone()

    def backward(
        self,
        standing: Standing,
        inputs: Mapping[str, Tensor],
        gradient: Tensor,
        *,
        wanted: AbstractSet[str],
        recordings: Recordings | None,
    ) -> dict[str, Tensor]:
        """The gradients of the `wanted` inputs, those of the parameters being on their way to whoever listens."""
        if recordings is None:
            return _back(standing, inputs, gradient, wanted)

        def work(views: dict[str, Tensor]) -> None:
            reached = _back(self._at(), {name: views[name] for name in inputs}, views[_RESULT], wanted)
            for name, each in reached.items():
                views[name].copy_(each)  # in the place of the input, which nothing reads any more

        views = self._do(standing, recordings, work, {**inputs, _RESULT: gradient}, frozenset(wanted))
        return {name: views[name].clone() for name in inputs if name in wanted}

    def _do(
        self,
        standing: Standing,
        recordings: Recordings,
        work: Callable[[dict[str, Tensor]], None],
        inputs: Mapping[str, Tensor],
        kind: Hashable,
    ) -> dict[str, Tensor]:
        """What is at work's addresses then. `kind` tells works on the same inputs apart."""
        self._standing = standing
        shapes = tuple((name, each.shape, each.dtype) for name, each in inputs.items())
        key = kind, standing.unit.structure, standing.at, standing.size, shapes
        recording = recordings.works.get(key)
        if recording is None:
            assert self._recorder is not None
            views = {name: self._arena.view(name, each.shape, each.dtype) for name, each in inputs.items()}
            recording = _Recording(self._recorder.record(lambda: work(views)), views)
            recordings.works[key] = recording
        for name, each in inputs.items():
            recording.views[name].copy_(each)
        recording.replay()
        return recording.views

    def _at(self) -> Standing:
        assert self._standing is not None
        return self._standing


def _back(
    standing: Standing, inputs: Mapping[str, Tensor], gradient: Tensor, wanted: AbstractSet[str]
) -> dict[str, Tensor]:
    leaves = {name: each.detach().requires_grad_(name in wanted) for name, each in inputs.items()}
    with torch.enable_grad():
        torch.autograd.backward(standing.unit.run(**leaves, size=standing.size), gradient)
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
