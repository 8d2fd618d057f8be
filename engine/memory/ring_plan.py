"""The plans fast and resident: the weights on the card, fp32 gradient sums in host memory."""

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from engine.contract.sections import Ema, MasterKind
from engine.memory.graphs import Recorder
from engine.memory.learner import Learner, OnLearner, only
from engine.memory.micro_step import MicroStep, predict
from engine.memory.plan import Judged, MicroBatch, WindowGradient, Written, judged
from engine.memory.recompute import recompute
from engine.memory.ring import Ring
from engine.memory.streaming import sum_dtype
from engine.optim.optimizer import MakeOptimizer

FEWER = 10  # blocks that keep their activations, where memory did not suffice

MakeRing = Callable[[Mapping[str, torch.Size], torch.dtype, torch.device], Ring]
Collect = Callable[[str, Tensor], None]
AsMany = Callable[[int, torch.Size], int]


class RingPlan(OnLearner):
    """`unet`, and with trained text encoders the `conditioner`, compute in bf16 or fp32 where they are; the tensors
    named in `trained` learn, the others are frozen. The last `keep` transformer blocks keep their activations, the
    others are computed twice; `keep` is for the largest latents, `as_many(keep, shape)` for those of a `shape`. Losses
    and sums are PlainPlan's, bit for bit; the norm is added up in another order. Raises ValueError if there are fewer
    blocks.

    A micro-batch's loss is read before its backward pass: a window with one that is not finite goes no further than
    to the losses of the others. With a `recorder` passes of frequent shapes are recorded and replayed, the ring with
    them; not with encoders that learn.
    """

    def __init__(
        self,
        unet: nn.Module,
        trained: frozenset[str],
        make_optimizer: MakeOptimizer,
        *,
        keep: int,
        as_many: AsMany = lambda keep, _: keep,
        conditioner: nn.Module | None = None,
        master: MasterKind = "split",
        ema: Ema | None = None,
        seed: int = 0,
        recorder: Recorder | None = None,
        ring: MakeRing = Ring,
    ) -> None:
        recompute(unet, keep=keep)
        self._keeping, self._as_many = keep, as_many
        self.name = "fast" if keep else "resident"
        self._keep = keep
        self._shape: torch.Size | None = None  # of the latents that came last
        self._unet, self._conditioner = unet, conditioner
        parameters = only(trained, unet, conditioner)
        first = next(iter(parameters.values()))
        self.device = first.device
        self._learner = Learner(parameters, make_optimizer, self.device, master=master, ema=ema, seed=seed)
        self._ring = ring(self._learner.shapes, sum_dtype(first.dtype), self.device)
        # Weakly, since autograd keeps its hooks where Python's collector cannot see them: one that held the ring would
        # keep it, and its memory, for ever.
        collect: weakref.WeakMethod[Collect] = weakref.WeakMethod(self._ring.collect)
        for name, parameter in parameters.items():
            hook = partial(_take, collect, name)
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
        # Encoders that learn have their gradients behind the UNet's, which would be a second pass through the ring.
        self._micro_step = self._recorded = MicroStep(unet, conditioner, recorder if conditioner is None else None)
        self._samples, self._norm = 0, math.nan

    def gradient(self, window: Iterable[Judged], computed: Callable[[int, Tensor], None]) -> WindowGradient:
        """Draws one micro-batch ahead: the last one's sums are measured while they are on the card."""
        self._samples, self._norm = 0, math.nan
        losses: list[float] = []
        sound = True
        with self._ring.window(self._learner.learning()):
            for index, (asked, last) in enumerate(_and_whether_last(window)):
                each, host = self._learn(asked, last=last) if sound else self._answer(asked)
                sound = sound and all(map(math.isfinite, host))
                losses += host
                computed(index, each)
            outcome = judged(losses, self._ring.norm() / len(losses) if sound else math.nan)
        if outcome.sound:
            self._samples, self._norm = len(losses), outcome.grad_norm
        return outcome

    def update(self, rates: Callable[[str], float], *, max_grad_norm: float, damping: float = 1.0) -> Written:
        assert math.isfinite(self._norm), "only a window that was judged sound is written"
        norm, self._norm = self._norm * damping, math.nan
        # Not simply the next tensor: while a small one, whose sum is on the card, has its turn, the next large one is
        # on its way.
        after = self._ring.after(self._learner.learning())
        try:
            return self._learner.step(
                lambda name, _: self._ring.sum(name, after.get(name)),
                rates,
                norm=norm,
                max_grad_norm=max_grad_norm,
                scale=damping / self._samples,
            )
        finally:
            self._ring.settle()  # the next window's gradients pass through the same memory

    def reserve(self) -> None:
        pass  # what a window takes more than a micro-batch is a number a sample

    def cheaper(self) -> str | None:
        if not self._keep:
            return None
        before = self._keep_for(self._shape)
        self._keep = max(0, self._keep - FEWER)
        while self._keep and self._keep_for(self._shape) >= before:  # all of them, in a picture of few pixels
            self._keep = max(0, self._keep - FEWER)
        self._micro_step.forget()
        return f"keep = {self._keep}" if self._keep else 'plan = "resident"'

    @torch.no_grad()
    def predict(self, micro: MicroBatch) -> Tensor:
        return predict(self._unet, micro)

    def _learn(self, asked: Judged, *, last: bool) -> tuple[Tensor, list[float]]:
        """The losses, and if they are finite the gradients of their sum are on their way to the others."""
        ring = self._ring
        self._recompute_for(asked.micro.noisy_latents.shape)
        # What a recorded way back does with a gradient depends on which sums are still missing, and on the measuring.
        variant = frozenset(ring.missing), last
        answer = self._micro_step(
            asked, variant=variant, within=partial(ring.backward, last=last), note=lambda: frozenset(ring.collected)
        )
        host: list[float] = answer.losses.tolist()
        # Before the backward pass: what a bad sample had made of the sums could not be undone, 0 x nan being nan.
        if all(map(math.isfinite, host)):
            passes = ring.passes
            answer.back()
            if ring.passes == passes:
                ring.replayed(answer.noted, last=last)
        return answer.losses, host

    def _keep_for(self, shape: torch.Size | None) -> int:
        """Blocks, for latents of this shape."""
        return self._as_many(self._keep, shape) if self._keep and shape is not None else self._keep

    def _recompute_for(self, shape: torch.Size) -> None:
        self._shape = shape
        keep = self._keep_for(shape)
        if keep != self._keeping:
            recompute(self._unet, keep=keep)
            self._keeping = keep

    @torch.no_grad()
    def _answer(self, asked: Judged) -> tuple[Tensor, list[float]]:
        """The losses alone: the samples that are to blame are told by them."""
        each = asked.losses(predict(self._unet, asked.micro, self._conditioner))
        return each, each.tolist()


def _and_whether_last(window: Iterable[Judged]) -> Iterator[tuple[Judged, bool]]:
    drawn: Judged | None = None
    for asked in window:
        if drawn is not None:
            yield drawn, False
        drawn = asked
    if drawn is not None:
        yield drawn, True


def _take(collect: weakref.WeakMethod[Collect], name: str, parameter: Tensor) -> None:
    if (method := collect()) is not None:
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        method(name, gradient)
