"""The plain plan: weights, activations and fp32 gradient sums on one device."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from engine.contract.sections import Ema, MasterKind
from engine.memory.gathering import Gathering
from engine.memory.graphs import Recorder
from engine.memory.learner import Learner, OnLearner, only
from engine.memory.micro_step import MicroStep, predict
from engine.memory.plan import Judged, MicroBatch, WindowGradient, Written, global_norm, judged
from engine.optim.hosted import aligned
from engine.optim.optimizer import MakeOptimizer


class PlainPlan(OnLearner):
    """`unet`, and with trained text encoders the `conditioner`, compute in bf16 or fp32 where they are; the tensors
    named in `trained` learn, the others are frozen. `ema` says whether an average of them is kept.

    Gradients are added to an fp32 sum as soon as the backward pass has made them; a master of higher precision than
    the weight takes the update. With a `recorder` passes of frequent shapes are recorded and replayed.
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
        recorder: Recorder | None = None,
    ) -> None:
        self._unet = unet
        parameters = only(trained, unet, conditioner)
        self.device = next(iter(parameters.values())).device
        self._learner = Learner(parameters, make_optimizer, self.device, master=master, ema=ema, seed=seed)
        # Side by side: one piece is cleared and measured faster than a thousand.
        sizes = [aligned(parameter.numel()) for parameter in parameters.values()]
        self._flat = torch.zeros(sum(sizes), dtype=torch.float32, device=self.device)
        parts = zip(parameters.items(), torch.split(self._flat, sizes), strict=True)
        self._sums = {name: part[: p.numel()].view(p.shape) for (name, p), part in parts}
        self._gathering = Gathering(parameters)
        self._micro_step = self._recorded = MicroStep(unet, conditioner, recorder)
        self._samples, self._norm = 0, math.nan

    def gradient(self, window: Iterable[Judged], computed: Callable[[int, Tensor], None]) -> WindowGradient:
        self._samples, self._norm = 0, math.nan
        self._flat.zero_()  # nothing of an earlier or a discarded window may leak into the sums
        losses: list[Tensor] = []
        with self._gathering.into(self._sums):
            for index, asked in enumerate(window):
                answer = self._micro_step(asked)
                answer.back()
                losses.append(answer.losses)
                computed(index, losses[-1])
        host = torch.cat(losses).tolist()
        self._samples = len(host)
        norm = global_norm([self._flat]) / self._samples
        outcome = judged(host, norm)
        self._norm = norm if outcome.sound else math.nan
        return outcome

    def update(self, rates: Callable[[str], float], *, max_grad_norm: float, damping: float = 1.0) -> Written:
        assert math.isfinite(self._norm), "only a window that was judged sound is written"
        norm, self._norm = self._norm * damping, math.nan
        return self._learner.step(
            lambda name, _: self._sums[name],
            rates,
            norm=norm,
            max_grad_norm=max_grad_norm,
            scale=damping / self._samples,
        )

    def reserve(self) -> None:
        pass  # what a window takes more than a micro-batch is a number a sample

    def cheaper(self) -> str | None:
        return None

    @torch.no_grad()
    def predict(self, micro: MicroBatch) -> Tensor:
        return predict(self._unet, micro)
