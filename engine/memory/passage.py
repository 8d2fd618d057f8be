"""A window's way through the units: all of it through one before any of it enters the next, and back."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from engine.memory.gathering import Gathering
from engine.memory.plan import NORM_PIECE, Tokens, global_norm
from engine.memory.shelf import Place
from engine.memory.streaming import Residency, Sums, sum_dtype
from engine.memory.unit_work import Recordings, Standing, UnitWork
from engine.memory.units import EMBEDDINGS, Cut, Unit


@dataclass
class Traveller:
    """A group on its way. `inputs` of the units by their number, the last one's output last; `owed` is the gradient of
    a unit's output as a skip, by the number of that unit. `recordings` are of groups of its shape."""

    members: tuple[int, ...]
    sizes: tuple[int, ...]
    latents: torch.Size
    network_time: Tensor
    time_ids: Tensor
    tokens: Tokens | None
    context: Place
    pooled: Tensor
    embedding: Tensor
    inputs: dict[int, Place]
    recordings: Recordings | None = None
    owed: dict[int, Place] = field(default_factory=dict)
    gradient: Place | None = None
    embedding_gradient: Tensor | None = None
    context_gradient: Tensor | None = None
    pooled_gradient: Tensor | None = None

    @property
    def shape(self) -> Hashable:
        """What groups have in common that can share recordings."""
        return self.latents, self.context.shape


@dataclass(frozen=True)
class Route:
    """How far back a gradient has to go: to the unit number `lowest`, and whether into the embedding that the resnets
    read, the context, and the pooled vector."""

    lowest: int
    embedding: bool
    context: bool
    pooled: bool


def route(cut: Cut, learning: AbstractSet[str], *, context: bool, pooled: bool) -> Route:
    """`learning` by name; `context` and `pooled` say whether what they come from learns."""
    embedding = pooled or any(name in learning for name, _ in cut.embeddings.parameters())
    ends = (
        number
        for number, unit in enumerate(cut.units)
        if (embedding and unit.reads_embedding)
        or (context and unit.reads_context)
        or any(name in learning for name, _ in unit.parameters())
    )
    return Route(next(ends, len(cut.units)), embedding, context, pooled)


class Collector:
    """Sums up the gradients of the tensors at work, and notes the norm of each finished sum."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], residency: Residency) -> None:
        self._residency = residency
        self._gathering = Gathering(parameters)
        self._norms: list[Tensor] = []

    def restart(self) -> None:
        self._norms = []

    @contextmanager
    def collecting(self, unit: str | None, names: Sequence[str]) -> Iterator[Sums]:
        """Inside, backward passes reach no other tensors than `names`, of `unit` or of another network, and all that
        are to reach these."""
        with self._residency.summing(unit, names) as sums:
            with self._gathering.into(sums.by_name):
                yield sums
            for tensor in sums.flat:
                pieces = torch.split(tensor, NORM_PIECE)
                self._norms += [torch.linalg.vector_norm(piece, dtype=torch.float64) for piece in pieces]

    def norm(self) -> float:
        """Of all sums since `restart`. A host read."""
        return global_norm([torch.stack(self._norms)] if self._norms else [])


class Passage:
    """Calls `tick` before every piece of work; it may raise."""

    def __init__(
        self, cut: Cut, residency: Residency, collector: Collector, *, work: UnitWork, tick: Callable[[], None]
    ) -> None:
        self._units, self._embeddings, self._cut = cut.units, cut.embeddings, cut
        self._residency, self._shelf = residency, residency.shelf
        self._collector = collector
        self._work = work
        self._tick = tick
        self._last_read = _last_read(cut.units)

    def forward(self, travellers: Sequence[Traveller], *, lowest: int) -> None:
        """Without a graph. What units from `lowest` on read stays for `backward`."""
        for number, unit in enumerate(self._units):
            after = self._units[number + 1].name if number + 1 < len(self._units) else None
            with self._residency.visiting(unit.name, after), torch.no_grad():
                at = _addresses(unit)
                for traveller, then, left in _in_turn(travellers, back=number % 2 == 1):
                    self._tick()
                    self._residency.advance(left)
                    tensors = self._fetch(self._reads(number, traveller), self._reads(number, then))
                    if unit.reads_embedding:
                        tensors["embedding"] = traveller.embedding
                    standing = Standing(unit, at, self._size(unit, traveller))
                    output = self._work.forward(standing, tensors, traveller.recordings)
                    traveller.inputs[number + 1] = self._shelf.put(output)
            for read, last in self._last_read.items():
                if last == number < lowest:
                    for traveller in travellers:
                        self._shelf.drop(traveller.inputs.pop(read))

    def backward(self, travellers: Sequence[Traveller], way: Route, learning: AbstractSet[str]) -> None:
        """From `gradient` of each traveller down to the lowest unit, then the embeddings."""
        for traveller in travellers:
            if way.embedding:
                embedding = traveller.embedding
                traveller.embedding_gradient = torch.zeros_like(embedding, dtype=sum_dtype(embedding.dtype))
        for number in reversed(range(way.lowest, len(self._units))):
            unit = self._units[number]
            below = self._units[number - 1].name if number > way.lowest else EMBEDDINGS if way.embedding else None
            names = [name for name, _ in unit.parameters() if name in learning]
            with self._residency.visiting(unit.name, below), self._collector.collecting(unit.name, names) as sums:
                at = _addresses(unit), _sums_at(unit, sums)
                for traveller, then, left in _in_turn(travellers, back=(len(self._units) - number) % 2 == 1):
                    self._tick()
                    self._residency.advance(left)
                    wanted = self._reads(number, traveller) | _gradients(number, traveller)
                    coming = self._reads(number, then) | _gradients(number, then)
                    self._back(number, traveller, self._fetch(wanted, coming), way, at=at)
        if way.embedding:
            self._embeddings_back(travellers, way, learning)

    def _back(self, number: int, traveller: Traveller, tensors: dict[str, Tensor], way: Route, *, at: Hashable) -> None:
        unit = self._units[number]
        gradient = tensors.pop("gradient")
        if "owed" in tensors:
            gradient = gradient + tensors.pop("owed")
        if unit.reads_embedding:
            tensors["embedding"] = traveller.embedding
        standing = Standing(unit, at, self._size(unit, traveller))
        for place in _gradients(number, traveller).values():
            self._shelf.drop(place)
        traveller.owed.pop(number, None)
        reached = self._work.backward(
            standing, tensors, gradient, wanted=_wanted(number, unit, way), recordings=traveller.recordings
        )
        place = traveller.inputs.pop(number)
        if "hidden" in reached:
            # Of the same shape as the input, which nothing reads any more.
            traveller.gradient = self._shelf.put(reached["hidden"], over=place)
        if "skip" in reached:
            assert unit.skip is not None and unit.skip not in traveller.owed
            traveller.owed[unit.skip] = self._shelf.put(reached["skip"], soon=False)
        if "embedding" in reached:
            assert traveller.embedding_gradient is not None
            traveller.embedding_gradient.add_(reached["embedding"])
        if "context" in reached:
            if traveller.context_gradient is None:
                traveller.context_gradient = torch.zeros_like(
                    reached["context"], dtype=sum_dtype(reached["context"].dtype)
                )
            traveller.context_gradient.add_(reached["context"])

    def _embeddings_back(self, travellers: Sequence[Traveller], way: Route, learning: AbstractSet[str]) -> None:
        names = [name for name, _ in self._embeddings.parameters() if name in learning]
        with self._residency.visiting(EMBEDDINGS, None), self._collector.collecting(EMBEDDINGS, names):
            for traveller in travellers:
                self._tick()
                pooled = _leaf(traveller.pooled, way.pooled)
                with torch.enable_grad():
                    embedding = self._embeddings.run(traveller.network_time, pooled, traveller.time_ids)
                    assert traveller.embedding_gradient is not None
                    torch.autograd.backward(embedding, traveller.embedding_gradient.to(embedding.dtype))
                traveller.pooled_gradient = pooled.grad

    def _size(self, unit: Unit, traveller: Traveller) -> torch.Size | None:
        if unit.size is None or not self._cut.needs_sizes(traveller.latents):
            return None
        return traveller.inputs[unit.size + 1].shape[-2:]

    def _reads(self, number: int, traveller: Traveller | None) -> dict[str, Place]:
        if traveller is None:
            return {}
        unit = self._units[number]
        places = {"hidden": traveller.inputs[number]}
        if unit.skip is not None:
            places["skip"] = traveller.inputs[unit.skip + 1]  # a skip is what the unit after its own was given
        if unit.reads_context:
            places["context"] = traveller.context
        return places

    def _fetch(self, wanted: Mapping[str, Place], then: Mapping[str, Place]) -> dict[str, Tensor]:
        return dict(zip(wanted, self._shelf.fetch([*wanted.values()], [*then.values()]), strict=True))


def _addresses(unit: Unit) -> Hashable:
    return tuple(parameter.data_ptr() for _, parameter in unit.parameters())


def _sums_at(unit: Unit, sums: Sums) -> Hashable:
    """By the parameters' order, not their names: units of one make share what was recorded."""
    return tuple(sums.by_name[name].data_ptr() if name in sums.by_name else 0 for name, _ in unit.parameters())


def _wanted(number: int, unit: Unit, way: Route) -> frozenset[str]:
    """Of which inputs the gradient is."""
    wanted = {
        "hidden": number > way.lowest,
        "skip": unit.skip is not None and unit.skip >= way.lowest,
        "context": unit.reads_context and way.context,
        "embedding": unit.reads_embedding and way.embedding,
    }
    return frozenset(name for name, is_wanted in wanted.items() if is_wanted)


def _gradients(number: int, traveller: Traveller | None) -> dict[str, Place]:
    if traveller is None:
        return {}
    assert traveller.gradient is not None
    places = {"gradient": traveller.gradient}
    if number in traveller.owed:
        places["owed"] = traveller.owed[number]
    return places


def _last_read(units: Sequence[Unit]) -> dict[int, int]:
    """By the number of a unit, the last one that reads its input, be it as a skip."""
    last = {number: number for number in range(len(units))}
    return last | {unit.skip + 1: number for number, unit in enumerate(units) if unit.skip is not None}


def _in_turn(travellers: Sequence[Traveller], *, back: bool) -> Iterator[tuple[Traveller, Traveller | None, int]]:
    """Each with the one that comes next, and how many are left. Through every other unit in reverse: those who come
    out of one last enter the next one first, when what they carry is still on the device."""
    if back:
        travellers = travellers[::-1]
    yield from zip(travellers, [*travellers[1:], None], range(len(travellers), 0, -1), strict=True)


def _leaf(tensor: Tensor, learns: bool) -> Tensor:
    return tensor.detach().requires_grad_(learns)
