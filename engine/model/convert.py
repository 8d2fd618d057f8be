"""The VAE's and text encoders' tensors between their published shapes and those of diffusers and transformers.

The UNet changes names only (`engine.contract.unet_names`); here some tensors change shape as well. A tensor is made
when it is asked for and not kept: a whole encoder can be copied out of its file without a second copy of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from engine.contract.part_names import (
    NOT_LOADED,
    is_vae_matrix,
    stack_of,
    stacked_parts,
    text_2_to_flat,
    text_2_to_published,
    vae_to_diffusers,
    vae_to_published,
)

Make = Callable[[], Tensor]


class LazyState(Mapping[str, Tensor]):
    """{name: tensor}, each made anew whenever it is asked for."""

    def __init__(self, parts: Mapping[str, Make]) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> Tensor:
        return self._parts[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts


def vae_state(published: Mapping[str, Tensor]) -> LazyState:
    """For AutoencoderKL. The middle attention's 1x1 convolutions (C, C, 1, 1) become matrices (C, C)."""
    return LazyState({vae_to_diffusers(name): partial(_matrix, published, name) for name in published})


def published_vae(state: Mapping[str, Tensor]) -> LazyState:
    """The inverse of `vae_state`."""
    return LazyState({vae_to_published(name): partial(_convolution, state, name) for name in state})


def text_state(published: Mapping[str, Tensor]) -> LazyState:
    """For CLIPTextModel, whose own names are the published ones below `text_model.` (transformers >= 5.6)."""
    return LazyState({name: partial(published.__getitem__, name) for name in published if name not in NOT_LOADED})


def text_2_state(published: Mapping[str, Tensor]) -> LazyState:
    """For CLIPTextModelWithProjection, from OpenCLIP's tensors: the stacked in_proj is cut into q, k and v, and
    `text_projection`, stored (in, out) for x @ P, is transposed into a Linear's weight."""
    parts: dict[str, Make] = {}
    for name in published:
        if thirds := stacked_parts(name):
            for index, part in enumerate(thirds):
                parts[f"text_model.{part}"] = partial(_third, published, name, index)
        elif name == "text_projection":
            parts["text_projection.weight"] = partial(_transposed, published.__getitem__, name)
        elif name not in NOT_LOADED:
            parts[f"text_model.{text_2_to_flat(name)}"] = partial(published.__getitem__, name)
    return LazyState(parts)


def published_text_2(state: Mapping[str, Tensor]) -> LazyState:
    """The inverse of `text_2_state`, for a whole encoder (without `logit_scale`)."""
    return LazyState(published_text_2_parts(state, state.__getitem__))


def published_text_2_parts(names: Collection[str], get: Callable[[str], Tensor]) -> dict[str, Make]:
    """{published name: how to make its tensor} for the published tensors that the encoder's tensors `names` take part
    in. `get` gives a tensor under the encoder's name; a stacked in_proj also asks it for the two not among `names`."""
    parts: dict[str, Make] = {}
    for name in names:
        flat = name.removeprefix("text_model.")
        if stack := stack_of(flat):
            parts[stack] = partial(_stack, get, [f"text_model.{part}" for part in stacked_parts(stack)])
        elif name == "text_projection.weight":
            parts["text_projection"] = partial(_transposed, get, name)
        else:
            parts[text_2_to_published(flat)] = partial(get, name)
    return parts


def _matrix(published: Mapping[str, Tensor], name: str) -> Tensor:
    tensor = published[name]
    return tensor[:, :, 0, 0] if is_vae_matrix(name) and tensor.ndim == 4 else tensor


def _convolution(state: Mapping[str, Tensor], name: str) -> Tensor:
    tensor = state[name]
    return tensor[:, :, None, None] if is_vae_matrix(vae_to_published(name)) and tensor.ndim == 2 else tensor


def _third(published: Mapping[str, Tensor], name: str, index: int) -> Tensor:
    return published[name].tensor_split(3)[index]


def _stack(get: Callable[[str], Tensor], names: list[str]) -> Tensor:
    return torch.cat([get(name) for name in names])


def _transposed(get: Callable[[str], Tensor], name: str) -> Tensor:
    return get(name).T
