"""The plain plan: weights, activations and fp32 gradient sums on one device."""

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from engine.memory.plan import Judged, MicroBatch, WindowGradient, clip_factor, global_norm
from engine.optim.adafactor import Adafactor, AdafactorSettings
from engine.optim.precision import join, split

Collect = Callable[[str, Tensor], None]


class PlainPlan:
    """`unet` computes in bf16 or fp32 where it is; the tensors named in `trained` learn, the others are frozen.

    A bf16 weight is the upper half of a split master whose remainder rests in host memory; its gradients are added to
    an fp32 sum as soon as the backward pass has made them.
    """

    name = "plain"

    def __init__(self, unet: nn.Module, trained: frozenset[str], optimizer: AdafactorSettings) -> None:
        self._unet = unet
        self._parameters: dict[str, nn.Parameter] = {}
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(name in trained)
            if name in trained:
                self._parameters[name] = parameter
        missing = trained - self._parameters.keys()
        assert not missing, f"selected, but not in the UNet: {sorted(missing)[:3]}"
        first = next(iter(self._parameters.values()))
        self.device = first.device
        self.shapes = {name: parameter.shape for name, parameter in self._parameters.items()}
        self._optimizer = Adafactor(self.shapes, optimizer, self.device)
        # Both exist before the first step: what is going to be needed must not fail in the middle of a run.
        self._sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in self._parameters.items()}
        self._remainders = {
            name: torch.zeros(p.shape, dtype=torch.int16)
            for name, p in self._parameters.items()
            if p.dtype == torch.bfloat16
        }
        self._first = True
        self._samples = 0
        self._norm = math.nan
        # autograd keeps its hooks where Python's collector cannot see them: one that held the plan would keep it, and
        # with it the whole network, for ever.
        collect: weakref.WeakMethod[Collect] = weakref.WeakMethod(self._collect)
        for name, parameter in self._parameters.items():
            hook = partial(_call, collect, name)
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def gradient(self, window: Iterable[Judged], computed: Callable[[int, Tensor], None]) -> WindowGradient:
        self._first, self._samples, self._norm = True, 0, math.nan
        losses: list[Tensor] = []
        for index, judged in enumerate(window):
            with torch.enable_grad():
                each = judged.losses(predict(self._unet, judged.micro))
                # Un-divided: the mean over the window's samples is taken where the sums are read.
                torch.autograd.backward(each.sum())
            self._first = False
            losses.append(each.detach())
            computed(index, losses[-1])
        host = torch.cat(losses).tolist()
        self._samples = len(host)
        self._norm = global_norm(self._sums.values()) / self._samples
        return WindowGradient(tuple(host), self._norm, all(map(math.isfinite, [*host, self._norm])))

    @torch.no_grad()
    def update(self, lr: float, max_grad_norm: float) -> bool:
        assert math.isfinite(self._norm), "a window is judged before it is written"
        factor = clip_factor(self._norm, max_grad_norm)
        keep = self._optimizer.begin_step()
        for name, parameter in self._parameters.items():
            gradient = self._sums[name] * (factor / self._samples)
            master = self._master(name)
            self._optimizer.update(name, master, gradient, lr, keep)
            self._write(name, parameter, master)
        self._norm = math.nan
        return factor < 1.0

    def weights(self) -> Mapping[str, Tensor]:
        return _Lazily(self._parameters, self._master)

    def optimizer_state(self) -> Mapping[str, Tensor]:
        return self._optimizer.state_dict()

    @torch.no_grad()
    def rehearse(self) -> None:
        name, widest = max(self._parameters.items(), key=lambda pair: pair[1].numel())
        spare = Adafactor({name: widest.shape}, self._optimizer.settings, self.device)
        gradient = self._sums[name].clone()
        spare.update(name, self._master(name).clone(), gradient, 0.0, spare.begin_step())

    @torch.no_grad()
    def adopt(self, masters: Iterable[tuple[str, Tensor]]) -> None:
        for name, master in masters:
            parameter = self._parameters[name]
            if master.shape != parameter.shape:
                raise ValueError(f"{name} has the shape {tuple(master.shape)}, the UNet wants {tuple(parameter.shape)}")
            self._write(name, parameter, master.to(self.device, torch.float32))

    def restore(self, weights: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor]) -> None:
        if differing := sorted(weights.keys() ^ self._parameters.keys()):
            raise ValueError(f"the checkpoint trains other layers than the profile: {', '.join(differing[:3])} ...")
        self._optimizer.load_state_dict(optimizer_state)
        self.adopt(weights.items())

    def _collect(self, name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if self._first:
            self._sums[name].copy_(gradient)  # a discarded window cannot leak into this one
        else:
            self._sums[name].add_(gradient)
        parameter.grad = None

    def _master(self, name: str) -> Tensor:
        """fp32. For an fp32 network the parameter itself, which the optimizer then changes in place."""
        parameter = self._parameters[name].data
        if name not in self._remainders:
            return parameter
        return join(parameter, self._remainders[name].to(parameter.device))

    def _write(self, name: str, parameter: nn.Parameter, master: Tensor) -> None:
        if name not in self._remainders:
            if master.data_ptr() != parameter.data_ptr():
                parameter.data.copy_(master)
            return
        high, low = split(master)
        parameter.data.copy_(high)
        self._remainders[name].copy_(low)


def _call(collect: weakref.WeakMethod[Collect], name: str, parameter: Tensor) -> None:
    if (method := collect()) is not None:
        method(name, parameter)


class _Lazily(Mapping[str, Tensor]):
    """Masters joined one at a time, when they are asked for: all of them at once would be a second UNet."""

    def __init__(self, names: Iterable[str], master: Callable[[str], Tensor]) -> None:
        self._names = dict.fromkeys(names)
        self._master = master

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._master(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def predict(unet: nn.Module, micro: MicroBatch) -> Tensor:
    """The UNet's answer, (B, 4, h, w), in the dtype it computes in. `time_ids` stay float32: bf16 would change them."""
    dtype = next(unet.parameters()).dtype
    answer: Tensor = unet(
        micro.noisy_latents.to(dtype),
        micro.network_time,
        encoder_hidden_states=micro.prompt_embeds.to(dtype),
        added_cond_kwargs={"text_embeds": micro.pooled_prompt_embeds.to(dtype), "time_ids": micro.time_ids},
        return_dict=False,
    )[0]
    return answer
