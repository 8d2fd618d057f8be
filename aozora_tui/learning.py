"""Which tensors learn and at what share of the learning rate, from a checkpoint's header alone."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aozora_tui.text import factor
from engine.contract import places
from engine.contract.base_checkpoint import read_base
from engine.contract.layers import Layer, human, read_layers, select
from engine.contract.patterns import trained_encoders
from engine.contract.safetensors_header import Header
from engine.contract.sections import Profile
from engine.contract.text_tensors import learning_factors, learning_text, text_tensors

LABELS = {"text_encoder": "Text encoder (CLIP-L)", "text_encoder_2": "Text encoder 2 (bigG)"}
_MOST_NAMED = 4


@dataclass(frozen=True)
class Learning:
    """`sizes` are the elements of every tensor that may learn, by the name that patterns see; `trained` those that do;
    `rates` the factors on the learning rate that are not 1."""

    sizes: dict[str, int]
    trained: frozenset[str]
    rates: dict[str, float]

    @property
    def differ(self) -> bool:
        """Whether any trained tensor has another rate than the profile's."""
        return any(self.rates.get(name, 1.0) != 1 for name in self.trained)

    def factors_of(self, names: Iterable[str]) -> tuple[float, ...]:
        """The different factors of those of `names` that are trained, ascending."""
        return tuple(sorted({self.rates.get(name, 1.0) for name in names if name in self.trained}))

    def count(self, names: Iterable[str]) -> int:
        """Elements of those of `names` that are trained."""
        return sum(self.sizes[name] for name in names if name in self.trained)


def learning(root: Layer, unet: frozenset[str], profile: Profile | None, header: Header) -> Learning:
    """`unet` are the tensors of `root` that are trained; the rest is the profile's, if there is one."""
    sizes = dict(zip(root.tensors, root.sizes, strict=True))
    if profile is None:
        return Learning(sizes, unet, {})
    settings = profile.text_encoders
    every = text_tensors(header) if trained_encoders(settings) else {}
    chosen = tuple(f"{encoder}." for encoder in trained_encoders(settings))
    text = {name: math.prod(tensor.shape) for name, tensor in every.items() if name.startswith(chosen)}
    trained = unet | learning_text(every, settings)
    return Learning(sizes | text, trained, learning_factors(profile, trained))


def rates_line(profile: Profile, start: Path) -> list[str]:
    """What learns at another rate than the others, in one line, none if nothing does; names of files start at
    `start`. Raises ValueError if the base cannot be read."""
    header = read_base(places.expand(profile.model.base, start))
    root = read_layers(header)
    found = learning(root, select(root.tensors, profile.layers.train, profile.layers.freeze).trained, profile, header)
    if not found.differ:
        return []
    groups: dict[float, int] = {}
    for name in found.trained:
        rate = found.rates.get(name, 1.0)
        groups[rate] = groups.get(rate, 0) + found.sizes[name]
    largest = sorted(groups.items(), key=lambda group: -group[1])
    said = [f"x {factor(rate)} for {human(count)}" for rate, count in largest[:_MOST_NAMED]]
    more = [f"and {len(largest) - _MOST_NAMED} more"] if len(largest) > _MOST_NAMED else []
    return [f"learning rates {', '.join([*said, *more])}"]
