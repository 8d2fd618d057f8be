"""Captions between the data, the plan and the previews, and how text encoders are kept from jumping."""

from collections.abc import Iterable

import torch
from torch import Tensor

from engine.contract.items import Captioned
from engine.contract.sections import TextEncoders
from engine.contract.text_tensors import TOKEN_EMBEDDING
from engine.data.batches import Contexts, TokenIds
from engine.memory.plan import Embedded, Tokens
from engine.model.conditioner import Conditioner
from engine.optim.optimizer import Caution
from engine.run.dataset import Dataset

MOST_KEPT = 0.99  # of second moments: what an encoder sees changes from step to step, and a long memory makes it jump


def on_device(condition: Contexts | TokenIds, device: torch.device) -> Embedded | Tokens:
    """A batch's captions for a plan."""

    def sent(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    if isinstance(condition, Contexts):
        return Embedded(sent(condition.prompt_embeds), sent(condition.pooled_prompt_embeds))
    return Tokens(sent(condition.ids), sent(condition.ids_2), sent(condition.zeroed))


def cautions(names: Iterable[str], settings: TextEncoders) -> dict[str, Caution]:
    """For the trained tensors `names` of a conditioner. That of the token embeddings goes by row: a row's gradient is
    zeros but for the steps in which its token is read, and a clip over the whole table would never act."""
    return {
        name: Caution(row_wise=name.endswith(TOKEN_EMBEDDING), element_clip=settings.element_clip, most_kept=MOST_KEPT)
        for name in names
    }


class Encoded:
    """Captions and prompts on `device`, (77n, C) and (P,): by the `conditioner` as it is at that moment, or
    without one out of the cache. What may be raised: CacheError."""

    def __init__(self, dataset: Dataset, conditioner: Conditioner | None, device: torch.device) -> None:
        assert dataset.live == (conditioner is not None)
        self._dataset = dataset
        self._conditioner = conditioner
        self._device = device

    def of(self, prompt: Captioned) -> tuple[Tensor, Tensor]:
        if self._conditioner is None:
            return self._moved(self._dataset.cache.load_text(prompt))
        return self._encoded(self._conditioner, prompt.caption)

    def negative(self) -> tuple[Tensor, Tensor]:
        """The null condition if the negative prompt is empty."""
        dataset = self._dataset
        if self._conditioner is None:
            return self._moved(dataset.negative_condition())
        said = dataset.negative.caption.strip()
        zeroed = not said and dataset.null_condition == "zeros"
        return self._encoded(self._conditioner, dataset.negative.caption if said else "", zeroed=zeroed)

    def _moved(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return pair[0].to(self._device), pair[1].to(self._device)

    @torch.no_grad()
    def _encoded(self, conditioner: Conditioner, caption: str, *, zeroed: bool = False) -> tuple[Tensor, Tensor]:
        ids, ids_2 = (ids[None].to(self._device) for ids in self._dataset.tokens(caption))
        contexts, pooled = conditioner(ids, ids_2, torch.tensor([zeroed], device=self._device))
        return contexts[0], pooled[0]
