"""The plain plan: weights, activations and fp32 gradient sums on one device."""

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from engine.contract.sections import Ema, MasterKind
from engine.memory.plan import Embedded, Judged, MicroBatch, WindowGradient, Written, clip_factor, global_norm
from engine.memory.ratios import Ratios
from engine.optim.average import Average
from engine.optim.masters import Masters
from engine.optim.optimizer import MakeOptimizer

Collect = Callable[[str, Tensor], None]


class PlainPlan:
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
        self._parameters = _only(trained, unet, conditioner)
        self.device = next(iter(self._parameters.values())).device
        self.shapes = {name: parameter.shape for name, parameter in self._parameters.items()}
        # All of this exists before the first step: what is going to be needed must not fail in the middle of a run.
        self._optimizer = make_optimizer(self.shapes, self.device)
        self._sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in self._parameters.items()}
        self._masters = Masters(self._parameters, master, device=self.device, seed=seed)
        self._average = Average(self.shapes, ema.decay, warmup=ema.warmup) if ema and ema.decay else None
        self._resting: frozenset[str] = frozenset()
        self._missing: set[str] = set()
        self._samples, self._taken, self._norm = 0, 0, math.nan
        # A base that is in the network already; `adopt` brings a finer one.
        self.adopt((name, parameter.data.float()) for name, parameter in self._parameters.items())
        self._listen()

    def gradient(self, window: Iterable[Judged], computed: Callable[[int, Tensor], None]) -> WindowGradient:
        self._samples, self._norm = 0, math.nan
        # The first gradient of a window takes a sum's place: a discarded window cannot leak into this one.
        self._missing = set(self._learning())
        losses: list[Tensor] = []
        for index, judged in enumerate(window):
            with torch.enable_grad():
                each = judged.losses(predict(self._unet, judged.micro, self._conditioner))
                # Un-divided: the mean over the window's samples is taken where the sums are read.
                torch.autograd.backward(each.sum())
            losses.append(each.detach())
            computed(index, losses[-1])
        for name in self._missing:
            self._sums[name].zero_()
        host = torch.cat(losses).tolist()
        self._samples = len(host)
        self._norm = global_norm(self._sums[name] for name in self._learning()) / self._samples
        return WindowGradient(tuple(host), self._norm, all(map(math.isfinite, [*host, self._norm])))

    def rest(self, names: frozenset[str]) -> None:
        resting = names & self._parameters.keys()
        if resting == self._resting:
            return
        self._resting = resting
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(name not in resting)

    @torch.no_grad()
    def update(self, rates: Callable[[str], float], *, max_grad_norm: float, damping: float = 1.0) -> Written:
        assert math.isfinite(self._norm), "a window is judged before it is written"
        clip = clip_factor(self._norm * damping, max_grad_norm)
        scale = clip * damping / self._samples
        self._norm = math.nan
        self._taken += 1
        ratios = Ratios(self.device)
        self._optimizer.begin_step()
        if self._average:
            self._average.begin_step()
        names = self._learning()
        for name, then in zip(names, [*names[1:], None], strict=True):
            # In place: the next window writes its first gradient over what is left of this one.
            gradient = self._sums[name].mul_(scale)
            master = self._masters.read(name, then)
            change = self._optimizer.update(name, master, gradient, rates(name))
            if not self._optimizer.whole:
                ratios.add(name, change, master)
                self._keep(name, master)
        for name, master in self._optimizer.finish_step().items():
            ratios.add(name, (master - self._masters.read(name)).square_().sum(), master)
            self._keep(name, master)
        return Written(clip < 1.0, ratios.read())

    def weights(self) -> Mapping[str, Tensor]:
        return _Lazily(self._parameters, self._masters.copy)

    @contextmanager
    def shown(self, *, compute: bool = True) -> Iterator[Mapping[str, Tensor]]:
        if self._average:
            with self._computing_with(self._average.tensors() if compute else {}):
                yield self._average.tensors()
            return
        with self._optimizer.evaluating(self._masters.copy) as others, self._computing_with(others if compute else {}):
            yield others or self.weights()

    def share_lost(self, rate: float) -> float:
        """Of updates as large as `rate`, the share that bf16 weights rounded to the nearest would not take. A host
        read."""
        return self._masters.share_lost(rate)

    def optimizer_state(self) -> Mapping[str, Tensor]:
        return self._optimizer.state_dict()

    def averages(self) -> Mapping[str, Tensor]:
        return self._average.state_dict() if self._average else {}

    @torch.no_grad()
    def rehearse(self) -> None:
        name = max(self._parameters, key=lambda name: self._parameters[name].numel())
        self._optimizer.rehearse(name, self._masters.copy(name))

    @torch.no_grad()
    def adopt(self, masters: Iterable[tuple[str, Tensor]]) -> None:
        for name, master in masters:
            shape = self.shapes[name]
            if master.shape != shape:
                raise ValueError(f"{name} has the shape {tuple(master.shape)}, the network wants {tuple(shape)}")
            self._masters.start(name, master.to(self.device, torch.float32))
            if self._average:
                self._average.start(name, master)

    def restore(
        self, weights: Mapping[str, Tensor], optimizer_state: Mapping[str, Tensor], averages: Mapping[str, Tensor]
    ) -> None:
        if differing := sorted(weights.keys() ^ self._parameters.keys()):
            raise ValueError(f"the checkpoint trains other layers than the profile: {', '.join(differing[:3])} ...")
        if bool(averages) != bool(self._average):
            raise ValueError(f"the checkpoint has {'an' if averages else 'no'} average of the weights")
        if "taken" not in optimizer_state:
            raise ValueError("the optimizer's state does not say how many steps it has taken")
        self._optimizer.load_state_dict(optimizer_state)
        self._taken = int(optimizer_state["taken"])
        self.adopt(weights.items())
        if self._average:
            self._average.load_state_dict(averages)

    def _listen(self) -> None:
        # autograd keeps its hooks where Python's collector cannot see them: one that held the plan would keep it, and
        # with it the whole network, for ever.
        collect: weakref.WeakMethod[Collect] = weakref.WeakMethod(self._collect)
        for name, parameter in self._parameters.items():
            hook = partial(_call, collect, name)
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def _learning(self) -> list[str]:
        return [name for name in self._parameters if name not in self._resting]

    def _collect(self, name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if name in self._missing:
            self._missing.remove(name)
            self._sums[name].copy_(gradient)
        else:
            self._sums[name].add_(gradient)
        parameter.grad = None

    def _keep(self, name: str, master: Tensor) -> None:
        if self._average:
            self._average.update(name, master)
        self._masters.write(name, master, self._taken)

    @contextmanager
    def _computing_with(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """The network's own weights rest on the host meanwhile: the device has no room for two."""
        own = {name: self._parameters[name].data.to("cpu", copy=True) for name in weights}
        try:
            for name, weight in weights.items():
                self._parameters[name].data.copy_(weight)
            yield
        finally:
            for name, weight in own.items():
                self._parameters[name].data.copy_(weight)


def _only(trained: frozenset[str], *networks: nn.Module | None) -> dict[str, nn.Parameter]:
    """The parameters that learn; all others are frozen."""
    every = chain.from_iterable(network.named_parameters() for network in networks if network is not None)
    chosen: dict[str, nn.Parameter] = {}
    for name, parameter in every:
        parameter.requires_grad_(name in trained)
        if name in trained:
            chosen[name] = parameter
    missing = trained - chosen.keys()
    assert not missing, f"selected, but not in the network: {sorted(missing)[:3]}"
    return chosen


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
