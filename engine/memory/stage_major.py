"""The stage-major plan: the whole window passes one unit of the UNet before any of it enters the next, so that the card
holds two units' weights and one unit's activations, however many micro-batches a window has; what waits between units
stays there as far as it is told to."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from engine.contract.sections import Ema, MasterKind
from engine.memory.graphs import Recorder
from engine.memory.groups import Group, grouped
from engine.memory.learner import Learner, OnLearner, only
from engine.memory.passage import Collector, Passage, Traveller, route
from engine.memory.plan import Embedded, Judged, MicroBatch, Tokens, WindowGradient, Written, judged
from engine.memory.streaming import ByUnit, Here, Residency, Streamed
from engine.memory.unit_work import UnitWork
from engine.memory.units import EMBEDDINGS, cut
from engine.optim.optimizer import MakeOptimizer

# Transformer blocks in a unit, of the ten of SDXL's deep attentions. Groups make activations large, smaller units make
# them small again; without groups more of them would only be more to do for the processor.
DEEPEST, DEEPEST_GROUPED = 5, 2

ON_THE_HOST = "all activations in host memory"  # what comes before smaller groups; no setting of its own

MakeResidency = Callable[[ByUnit, Mapping[str, nn.Parameter], torch.device], Residency]


def nothing() -> None:
    pass


class StageMajorPlan(OnLearner):
    """Computes on `device`. On a CPU everything stays where it is; for a card the `unet` is given, and rests, in host
    memory, while a `conditioner` that learns is given, and stays, on the card. The numbers are PlainPlan's but for
    rounding.

    `group` is how many micro-batches of one shape a unit takes as one batch, `window` how many a step has (for
    `reserve`). No unit has more than `deepest` transformer blocks (0: whole attentions). Of what waits
    between units, up to `staying` bytes stay on the card. With a `recorder` the units' work is recorded, for each shape
    of group, and replayed. `tick` is called before each piece of work, and may raise, which discards the window. Raises
    ValueError for a UNet that is not of SDXL's make.
    """

    name = "stage-major"

    def __init__(
        self,
        unet: nn.Module,
        trained: frozenset[str],
        make_optimizer: MakeOptimizer,
        *,
        device: torch.device,
        conditioner: nn.Module | None = None,
        master: MasterKind = "split",
        ema: Ema | None = None,
        seed: int = 0,
        group: int = 1,
        window: int = 1,
        deepest: int | None = None,
        staying: int = 0,
        recorder: Recorder | None = None,
        tick: Callable[[], None] = nothing,
        residency: MakeResidency | None = None,
    ) -> None:
        self.device = device
        if deepest is None:
            deepest = DEEPEST if group == 1 else DEEPEST_GROUPED
        self._cut, self._conditioner = cut(unet, deepest=deepest), conditioner
        self._group, self._window, self._tick = group, window, tick
        self._largest = 0  # micro-batches of a group, of a window that is under way or was given up
        self._dtype = next(unet.parameters()).dtype
        learning = only(trained, unet, conditioner)
        units = self._cut.parameters()
        # As they lie in host memory, which they leave with their neighbours.
        order = [name for parameters in units.values() for name, _ in parameters if name in learning]
        parameters = {name: learning[name] for name in dict.fromkeys([*order, *learning])}
        if residency is not None:
            self._residency = residency(units, parameters, device)
        elif device.type == "cpu":
            self._residency = Here(parameters)
        else:
            self._residency = Streamed(units, parameters, device, staying=staying)
        rooms = self._residency.rooms
        self._learner = Learner(parameters, make_optimizer, device, master=master, ema=ema, seed=seed, rooms=rooms)
        self._collector = Collector(parameters, self._residency)
        self._work = self._recorded = UnitWork(recorder, device)
        self._passage = Passage(self._cut, self._residency, self._collector, work=self._work, tick=tick)
        self._samples, self._norm = 0, math.nan

    def gradient(self, window: Iterable[Judged], computed: Callable[[int, Tensor], None]) -> WindowGradient:
        """All micro-batches are drawn first; `computed` follows when all have been answered. A loss that is not finite
        ends the window before anything goes backward."""
        self._samples, self._norm, self._largest = 0, math.nan, 0
        self._collector.restart()
        try:
            losses = self._gradient(window, computed)
            reached = all(map(math.isfinite, losses))
            outcome = judged(losses, self._collector.norm() / len(losses) if reached else math.nan)
            self._largest = 0
        finally:
            self._rest()
        if outcome.sound:
            self._samples, self._norm = len(losses), outcome.grad_norm
        return outcome

    @torch.no_grad()
    def predict(self, micro: MicroBatch) -> Tensor:
        """The UNet's answer (B, 4, h, w), in the dtype it computes in: what `predict` gives where it lies on one
        device."""
        try:
            group = Group((0,), (len(micro.noisy_latents),), micro)
            (traveller,), _, _ = self._set_out([group])
            self._passage.forward([traveller], lowest=len(self._cut.units))
            (answer,) = self._residency.shelf.fetch([traveller.inputs[len(self._cut.units)]])
            return answer
        finally:
            self._rest()

    def update(self, rates: Callable[[str], float], *, max_grad_norm: float, damping: float = 1.0) -> Written:
        assert math.isfinite(self._norm), "only a window that was judged sound is written"
        norm, self._norm = self._norm * damping, math.nan
        try:
            return self._learner.step(
                self._residency.sum, rates, norm=norm, max_grad_norm=max_grad_norm, scale=damping / self._samples
            )
        finally:
            self._residency.settle()  # sums that nobody asked for may be on their way to where the next ones are made

    def reserve(self) -> None:
        self._residency.shelf.reserve(self._window)

    def cheaper(self) -> str | None:
        if self._residency.shelf.send_all():
            return ON_THE_HOST
        # Half of what did not suffice, which was no larger than the groups of the window that was given up.
        came = min(self._group, self._largest or self._group)
        # Of a picture alone smaller groups save nothing but what was recorded for larger ones.
        if self._group == 1 or (came == 1 and not self._work.warm):
            return None
        self._group, self._largest = max(1, came // 2), 0
        self._work.forget()
        return f"group = {self._group}"

    def _gradient(self, window: Iterable[Judged], computed: Callable[[int, Tensor], None]) -> list[float]:
        """The samples' losses, and if all are finite the sums."""
        micros: list[MicroBatch] = []
        judges: list[Callable[[Tensor], Tensor]] = []
        for asked in window:
            self._tick()
            micros.append(asked.micro)
            judges.append(asked.losses)
        groups = grouped(micros, self._group)
        self._largest = max(len(group.members) for group in groups)
        travellers, context, pooled = self._set_out(groups)
        recordings = self._work.recordings({each.shape: each.latents.numel() for each in travellers})
        for traveller in travellers:
            traveller.recordings = recordings.get(traveller.shape)
        micros.clear()  # their inputs wait with the travellers now
        learning = dict.fromkeys(self._learner.learning()).keys()
        way = route(self._cut, learning, context=context, pooled=pooled)
        self._passage.forward(travellers, lowest=way.lowest)
        losses = self._judge(judges, travellers, computed)
        if all(map(math.isfinite, losses)):
            self._passage.backward(travellers, way, learning)
            self._read_back(travellers)
            self._work.came_back(traveller.shape for traveller in travellers)
        return losses

    @torch.no_grad()
    def _set_out(self, groups: Sequence[Group]) -> tuple[list[Traveller], bool, bool]:
        """The groups before the first unit; and whether gradients are wanted of their context and pooled vectors."""
        travellers: list[Traveller] = []
        context_learns = pooled_learns = False
        asked = self._conditioner is not None
        with self._residency.visiting(EMBEDDINGS, self._cut.units[0].name):
            for group in groups:
                self._tick()
                # With a graph once: it says what learns behind the condition.
                asking = asked and isinstance(group.micro.condition, Tokens)
                with torch.set_grad_enabled(asking):
                    context, pooled = self._read(group.micro.condition)
                if asking:
                    asked, context_learns, pooled_learns = False, context.requires_grad, pooled.requires_grad
                travellers.append(self._traveller(group, context.detach(), pooled.detach()))
        return travellers, context_learns, pooled_learns

    def _traveller(self, group: Group, context: Tensor, pooled: Tensor) -> Traveller:
        micro, shelf = group.micro, self._residency.shelf
        pooled = pooled.to(self._dtype)
        return Traveller(
            members=group.members,
            sizes=group.sizes,
            latents=micro.noisy_latents.shape,
            network_time=micro.network_time,
            time_ids=micro.time_ids,
            tokens=micro.condition if isinstance(micro.condition, Tokens) else None,
            context=shelf.put(context.to(self._dtype)),
            pooled=pooled,
            embedding=self._cut.embeddings.run(micro.network_time, pooled, micro.time_ids),
            inputs={0: shelf.put(micro.noisy_latents.to(self._dtype))},
        )

    def _judge(
        self,
        judges: Sequence[Callable[[Tensor], Tensor]],
        travellers: Sequence[Traveller],
        computed: Callable[[int, Tensor], None],
    ) -> list[float]:
        """Every sample's loss, in the window's order, and what travellers take back with them. A host read."""
        shelf, last = self._residency.shelf, len(self._cut.units)
        answers: dict[int, Tensor] = {}
        for traveller in travellers:
            place = traveller.inputs.pop(last)
            (answer,) = shelf.fetch([place])
            shelf.drop(place)
            answers |= zip(traveller.members, torch.split(answer, [*traveller.sizes]), strict=True)
        gradients: dict[int, Tensor] = {}
        losses: list[Tensor] = []
        for index, judge in enumerate(judges):
            prediction = answers[index].detach().requires_grad_()
            with torch.enable_grad():
                each = judge(prediction)
                # Un-divided: the mean over the window's samples is taken where the sums are read.
                (gradients[index],) = torch.autograd.grad(each.sum(), prediction)
            losses.append(each.detach())
            computed(index, losses[-1])
        for traveller in travellers:
            traveller.gradient = shelf.put(torch.cat([gradients[member] for member in traveller.members]))
        host: list[float] = torch.cat(losses).tolist()
        return host

    def _read(self, condition: Embedded | Tokens) -> tuple[Tensor, Tensor]:
        if isinstance(condition, Embedded):
            return condition.prompt_embeds, condition.pooled_prompt_embeds
        assert self._conditioner is not None, "token ids need the encoders that read them"
        context, pooled = self._conditioner(condition.ids, condition.ids_2, condition.zeroed)
        return context, pooled

    def _read_back(self, travellers: Sequence[Traveller]) -> None:
        """The encoders, which are behind all units."""
        encoders = self._conditioner.named_parameters() if self._conditioner is not None else ()
        names = [name for name, parameter in encoders if parameter.requires_grad]
        if not names:
            return
        with self._collector.collecting(None, names):
            for traveller in travellers:
                if traveller.tokens is None:
                    continue
                self._tick()
                with torch.enable_grad():
                    read = self._read(traveller.tokens)
                    gradients = traveller.context_gradient, traveller.pooled_gradient
                    reached = [(out, g.to(out.dtype)) for out, g in zip(read, gradients, strict=True) if g is not None]
                    torch.autograd.backward([out for out, _ in reached], [gradient for _, gradient in reached])

    def _rest(self) -> None:
        """Also after an exception: nothing may be on its way to memory that is changed or used again."""
        self._residency.shelf.clear()
        self._residency.settle()
