"""One micro-batch there and back through a UNet that lies on the device: step by step, or recorded and replayed."""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.memory.graphs import Kept, Recorder, Work
from engine.memory.plan import Embedded, Judged, MicroBatch, Tokens

RECORDED = 24  # passes of one shape; about 30 MiB of the card each, for SDXL


@dataclass(frozen=True)
class Answer:
    """A micro-batch's `losses`, (B,), without a graph. `back` sends the gradients of their sum to whoever listens to
    the parameters. `noted` is what `note` said when a way back was recorded: its listeners hear of no replay."""

    losses: Tensor
    back: Work
    noted: frozenset[str] = frozenset()


Within = Callable[[], AbstractContextManager[None]]
Note = Callable[[], frozenset[str]]


class MicroStep:
    """With a `recorder` the UNet's way there and its way back are two recordings for each shape of micro-batch. Between
    them the losses are computed step by step, since a micro-batch brings its own; and so are text encoders, before and
    after."""

    def __init__(self, unet: nn.Module, conditioner: nn.Module | None, recorder: Recorder | None) -> None:
        self._unet, self._conditioner = unet, conditioner
        self._recorder = recorder
        self._passes: Kept[_Pass] = Kept(RECORDED)
        self._warm = False
        self._tried: set[Hashable] = set()

    @torch.enable_grad()
    def __call__(
        self, asked: Judged, *, variant: Hashable = None, within: Within = nullcontext, note: Note = frozenset
    ) -> Answer:
        """`within` surrounds the way back. Ways back that differ in what listeners do are `variant`s."""
        inputs = _Inputs.of(asked.micro, self._conditioner, dtype=next(self._unet.parameters()).dtype)
        recorded = self._recorded(inputs, variant, within, note)
        prediction = inputs.answer(self._unet) if recorded is None else recorded.forward(inputs)
        leaf = prediction if recorded is None else prediction.detach().requires_grad_()
        each = asked.losses(leaf)

        def back() -> None:
            # Un-divided: the mean over the window's samples is taken where the sums are read.
            if recorded is None:
                with within():
                    torch.autograd.backward(each.sum())
                self._warm = True
                self._tried.add(inputs.key())
                return
            (gradient,) = torch.autograd.grad(each.sum(), leaf)
            reached = recorded.backward(gradient)
            behind = [(out, g) for out, g in zip(inputs.conditions(), reached, strict=True) if g is not None]
            if behind:
                torch.autograd.backward([out for out, _ in behind], [g for _, g in behind])

        return Answer(each.detach(), back, recorded.noted if recorded is not None else frozenset())

    def forget(self) -> None:
        """Other parameters learn from now on."""
        self._passes.drop()
        self._tried.clear()

    def _recorded(self, inputs: "_Inputs", variant: Hashable, within: Within, note: Note) -> "_Pass | None":
        """None until one micro-batch has come back step by step, while libraries load what they need; one like it, for
        a recorder that tries first."""
        recorder = self._recorder
        if recorder is None or not self._warm or (recorder.tries_first and inputs.key() not in self._tried):
            return None
        return self._passes.get((inputs.key(), variant), lambda: _Pass(self._unet, inputs, recorder, within, note=note))


@dataclass(frozen=True)
class _Inputs:
    """What the UNet reads, in the dtype it computes in where that is its business."""

    noisy_latents: Tensor
    network_time: Tensor
    context: Tensor
    pooled: Tensor
    time_ids: Tensor

    @staticmethod
    def of(micro: MicroBatch, conditioner: nn.Module | None, *, dtype: torch.dtype) -> "_Inputs":
        read = embedded(micro.condition, conditioner)
        context, pooled = read.prompt_embeds.to(dtype), read.pooled_prompt_embeds.to(dtype)
        return _Inputs(micro.noisy_latents.to(dtype), micro.network_time, context, pooled, micro.time_ids)

    def all(self) -> tuple[Tensor, ...]:
        return self.noisy_latents, self.network_time, *self.conditions(), self.time_ids

    def conditions(self) -> tuple[Tensor, Tensor]:
        return self.context, self.pooled

    def key(self) -> Hashable:
        return tuple((each.shape, each.dtype, each.requires_grad) for each in self.all())

    def answer(self, unet: nn.Module) -> Tensor:
        prediction: Tensor = unet(
            self.noisy_latents,
            self.network_time,
            encoder_hidden_states=self.context,
            added_cond_kwargs={"text_embeds": self.pooled, "time_ids": self.time_ids},
            return_dict=False,
        )[0]
        return prediction


class _Pass:
    """For inputs like `inputs`."""

    def __init__(self, unet: nn.Module, inputs: _Inputs, recorder: Recorder, within: Within, *, note: Note) -> None:
        self._inputs = _Inputs(*(torch.empty_like(each).requires_grad_(each.requires_grad) for each in inputs.all()))
        # A UNet answers in the shape and dtype of its latents.
        self._prediction, self._gradient = (torch.empty_like(inputs.noisy_latents) for _ in range(2))
        self._reached = [torch.empty_like(each) if each.requires_grad else None for each in inputs.conditions()]
        answers: list[Tensor] = []  # with its graph, from the way there to the way back

        def forward() -> None:
            with torch.enable_grad():
                answers.append(self._inputs.answer(unet))
            self._prediction.copy_(answers[0].detach())

        def backward() -> None:
            with within():
                torch.autograd.backward(answers.pop(), self._gradient)
            for each, reached in zip(self._inputs.conditions(), self._reached, strict=True):
                if reached is not None:
                    assert each.grad is not None
                    reached.copy_(each.grad)
                    each.grad = None

        self._forward: Work = recorder.record(forward)
        self._backward: Work = recorder.record(backward)
        self.noted = note()

    @torch.no_grad()
    def forward(self, inputs: _Inputs) -> Tensor:
        """Good until the next call."""
        for ours, theirs in zip(self._inputs.all(), inputs.all(), strict=True):
            ours.copy_(theirs)
        self._forward()
        return self._prediction

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> list[Tensor | None]:
        """The gradients of the context and the pooled vector, where they are wanted; good until the next call."""
        self._gradient.copy_(gradient)
        self._backward()
        return self._reached


def embedded(condition: Embedded | Tokens, conditioner: nn.Module | None) -> Embedded:
    """What the UNet is told, by the `conditioner` if that is still to be read."""
    if isinstance(condition, Embedded):
        return condition
    assert conditioner is not None, "token ids need the encoders that read them"
    return Embedded(*conditioner(condition.ids, condition.ids_2, condition.zeroed))


def predict(unet: nn.Module, micro: MicroBatch, conditioner: nn.Module | None = None) -> Tensor:
    """The UNet's answer, (B, 4, h, w), in the dtype it computes in. `time_ids` stay float32: bf16 would change them."""
    dtype = next(unet.parameters()).dtype
    return _Inputs.of(micro, conditioner, dtype=dtype).answer(unet)
