"""The text encoders' tensors as the engine calls them, read from a header, which learn, and how fast. Strings only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.contract.part_names import NOT_LOADED, stack_of, stacked_parts, text_2_to_flat, text_2_to_published
from engine.contract.patterns import factors
from engine.contract.safetensors_header import TEXT_2_PREFIX, TEXT_PREFIX, Header
from engine.contract.sections import Profile, TextEncoders

FIRST, SECOND = "text_encoder.", "text_encoder_2."
TOKEN_EMBEDDING = "embeddings.token_embedding.weight"
# What no output depends on: the UNet reads the states before the last layer.
_UNREAD_NORM = "final_layer_norm."
_PREFIXES = {"none": (), "first": (FIRST,), "second": (SECOND,), "both": (FIRST, SECOND)}


@dataclass(frozen=True)
class TextTensor:
    """`published` is the tensor of the file that it is, or is cut out of."""

    published: str
    shape: tuple[int, ...]


def text_tensors(header: Header) -> dict[str, TextTensor]:
    """By the name that training gives them: `text_encoder.` or `text_encoder_2.` and transformers' own."""
    found: dict[str, TextTensor] = {}
    for published, info in header.tensors.items():
        if published.startswith(TEXT_PREFIX):
            name = published.removeprefix(TEXT_PREFIX)
            names = [] if name in NOT_LOADED else [FIRST + name]
        elif published.startswith(TEXT_2_PREFIX):
            names = [SECOND + name for name in _second(published.removeprefix(TEXT_2_PREFIX))]
        else:
            continue
        shape = info.shape
        if len(names) > 1:  # stacked
            shape = (shape[0] // len(names), *shape[1:])
        elif published == f"{TEXT_2_PREFIX}text_projection":
            shape = shape[::-1]
        found.update(dict.fromkeys(names, TextTensor(published, shape)))
    return found


def published_name(name: str) -> str:
    """What a single file calls the tensor that training calls `name`, or the stack that it is a third of."""
    if name.startswith(FIRST):
        return TEXT_PREFIX + name.removeprefix(FIRST)
    flat = name.removeprefix(SECOND)
    if flat == "text_projection.weight":
        return f"{TEXT_2_PREFIX}text_projection"
    flat = flat.removeprefix("text_model.")
    return TEXT_2_PREFIX + (stack_of(flat) or text_2_to_published(flat))


def learning_text(names: Iterable[str], settings: TextEncoders) -> frozenset[str]:
    """Of both encoders' tensors those that learn: all of the chosen encoders that a gradient can reach. The first one's
    last layer and final norm never do; the second one's do, through the pooled vector."""
    every = list(names)
    layers = f"{FIRST}encoder.layers."
    last = max((int(name.removeprefix(layers).split(".")[0]) for name in every if name.startswith(layers)), default=-1)
    unread = (f"{FIRST}{_UNREAD_NORM}", f"{layers}{last}.")
    frozen = settings.token_embedding == "frozen"
    return frozenset(
        name
        for name in every
        if name.startswith(_PREFIXES[settings.train])
        and not name.startswith(unread)
        and not (frozen and name.endswith(TOKEN_EMBEDDING))
    )


def learning_factors(profile: Profile, trained: Iterable[str]) -> dict[str, float]:
    """The factor on the learning rate of each name whose factor is not 1; `trained` holds the UNet's and the text
    encoders' names."""
    names, text = list(trained), profile.text_encoders
    found = factors(names, profile.optimizer.rates)
    for name in names:
        if name.startswith((FIRST, SECOND)):
            found[name] = found.get(name, 1.0) * (text.rate_2 if name.startswith(SECOND) else text.rate)
    return found


def _second(name: str) -> list[str]:
    """transformers' names of what OpenCLIP calls `name`: three where it stacks them, none where no module loads it."""
    if name in NOT_LOADED:
        return []
    if name == "text_projection":
        return ["text_projection.weight"]
    return [f"text_model.{part}" for part in stacked_parts(name) or (text_2_to_flat(name),)]
