"""The plain plan: weights, activations and fp32 gradient sums on one device."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from engine.contract.sections import Ema, MasterKind
from engine.memory.gathering import Gathering
from engine.memory.learner import Learner, OnLearner, only
from engine.memory.plan import Embedded, Judged, MicroBatch, WindowGradient, Written, global_norm, judged
from engine.optim.optimizer import MakeOptimizer


class PlainPlan(OnLearner):
    """`unet`, and with trained text encoders the `conditioner`, compute in bf16 or fp32 where they are; the tensors
    named in `trained` learn, the others are frozen. `ema` says whether an average of them is kept.

    Gradients are added to an fp32 sum as soon as the backward pass has made them; a master of higher precision than
    the weight takes the update.
    """

    name = "plain"

    def __init__(
        self,
        unet: nn.Module,
        trained: frozenset[str],
        make_optimizer: MakeOptimizer,
        *,
        conditioner: nn.Module | None = None,
        master: MasterKind = "split",
        ema: Ema | None = None,
        seed: int = 0,
    ) -> None:
        self._unet, self._conditioner = unet, conditioner
        parameters = only(trained, unet, conditioner)
        self.device = next(iter(parameters.values())).device
        self._learner = Learner(parameters, make_optimizer, self.device, master=master, ema=ema, seed=seed)
        self._sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
        self._gathering = Gathering(parameters)
        self._samples, self._norm = 0, math.nan

    def gradient(self, window: Iterable[Judged], computed: Callable[[int, Tensor], None]) -> WindowGradient:
        self._samples, self._norm = 0, math.nan
        sums = {name: self._sums[name] for name in self._learner.learning()}
        losses: list[Tensor] = []
        with self._gathering.into(sums):
            for index, asked in enumerate(window):
                with torch.enable_grad():
                    each = asked.losses(predict(self._unet, asked.micro, self._conditioner))
                    # Un-divided: the mean over the window's samples is taken where the sums are read.
                    torch.autograd.backward(each.sum())
                losses.append(each.detach())
                computed(index, losses[-1])
        host = torch.cat(losses).tolist()
        self._samples = len(host)
        norm = global_norm(sums.values()) / self._samples
        outcome = judged(host, norm)
        self._norm = norm if outcome.sound else math.nan
        return outcome

    def update(self, rates: Callable[[str], float], *, max_grad_norm: float, damping: float = 1.0) -> Written:
        assert math.isfinite(self._norm), "only a window that was judged sound is written"
        norm, self._norm = self._norm * damping, math.nan
        # The next window writes its first gradient over what the step leaves of the sums.
        return self._learner.step(
            lambda name, _: self._sums[name],
            rates,
            norm=norm,
            max_grad_norm=max_grad_norm,
            scale=damping / self._samples,
        )

    def reserve(self) -> None:
        pass  # what a window takes more than a micro-batch is a number a sample

    @torch.no_grad()
    def predict(self, micro: MicroBatch) -> Tensor:
        return predict(self._unet, micro)


def predict(unet: nn.Module, micro: MicroBatch, conditioner: nn.Module | None = None) -> Tensor:
    """The UNet's answer, (B, 4, h, w), in the dtype it computes in. `time_ids` stay float32: bf16 would change them."""
    dtype = next(unet.parameters()).dtype
    condition = micro.condition
    if not isinstance(condition, Embedded):
        assert conditioner is not None, "token ids need the encoders that read them"
        condition = Embedded(*conditioner(condition.ids, condition.ids_2, condition.zeroed))
    answer: Tensor = unet(
        micro.noisy_latents.to(dtype),
        micro.network_time,
        encoder_hidden_states=condition.prompt_embeds.to(dtype),
        added_cond_kwargs={"text_embeds": condition.pooled_prompt_embeds.to(dtype), "time_ids": micro.time_ids},
        return_dict=False,
    )[0]
    return answer
