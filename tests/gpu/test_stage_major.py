"""On a card: weights, sums and activations that come and go give bitwise what stays gives, however late a copy is."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from engine.contract.sections import TextEncoders as TextSettings
from engine.memory.plain import PlainPlan
from engine.memory.plan import Embedded, Judged, MicroBatch, Plan, Tokens
from engine.memory.shelf import HostShelf, Side
from engine.memory.stage_major import StageMajorPlan
from engine.memory.streaming import Here, Streamed
from engine.model.conditioner import Conditioner, trainable
from engine.optim.adamw import AdamW, AdamWSettings
from tests.engine.tiny_sdxl import MIXED, names, relative, sdxl_like, window
from tests.golden.tiny_text import tiny_conditioner

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card"),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("deterministic"),
]

CARD = torch.device("cuda")
LATE = 1_000_000  # cycles of the card's clock
SOME = 1 << 14  # bytes: fewer than wait


def adamw(shapes, device) -> AdamW:
    return AdamW(shapes, AdamWSettings(), device)


def ignore(*_: object) -> None:
    pass


def on_card(seed: int, *, tokens: bool = False) -> list[Judged]:
    return moved(MIXED, seed=seed, tokens=tokens)


def moved(
    shapes: Sequence[tuple[int, int, int]], *, seed: int, tokens: bool = False, scale: float = 1.0
) -> list[Judged]:
    drawn = window(shapes, seed=seed, tokens=tokens, scale=scale)
    return [Judged(micro_on_card(asked.micro), asked.losses) for asked in drawn]


def micro_on_card(micro: MicroBatch) -> MicroBatch:
    condition = micro.condition
    fields = {field.name: getattr(condition, field.name).to(CARD) for field in dataclasses.fields(condition)}
    moved: Embedded | Tokens = type(condition)(**fields)
    return MicroBatch(
        micro.noisy_latents.to(CARD), micro.network_time.to(CARD), condition=moved, time_ids=micro.time_ids.to(CARD)
    )


def delays(residency: Streamed, at: str) -> Callable[[], None]:
    """Before each piece of work, one of the streams is held up: what does not wait for it reads what is not there."""
    shelf, visits = residency.shelf, residency._sums.hosted._visits
    sides: list[Side] = [residency._weights.convoy._side, residency._sums.convoy._side]
    if isinstance(shelf, HostShelf):
        sides += [shelf._arriving, shelf._leaving]
    streams = {
        "nothing": [],
        "computing": [torch.cuda.current_stream()],
        "copying": [side._stream for side in sides] + [visits._arriving, visits._leaving],
    }[at]

    def hold_up() -> None:
        for stream in streams:
            with torch.cuda.stream(stream):
                torch.cuda._sleep(LATE)

    return hold_up


def streamed(net: nn.Module, late: str, **options) -> StageMajorPlan:
    """`net` rests in host memory."""
    hold_up: list[Callable[[], None]] = []
    staying = options.pop("staying", 0)

    def make(units, trained, device) -> Streamed:
        residency = Streamed(units, trained, device, staying=staying)
        hold_up.append(delays(residency, late))
        return residency

    trained = options.pop("trained", names(net))
    return StageMajorPlan(
        net,
        trained,
        adamw,
        deepest=1,
        device=CARD,
        residency=make,
        tick=lambda: hold_up[0](),
        master="split",
        **options,
    )


def sums(plan: StageMajorPlan) -> dict[str, Tensor]:
    return {name: plan._residency.sum(name, None).cpu() for name in plan._learner.learning()}


@pytest.mark.parametrize(
    ("late", "group", "staying"),
    [("computing", 1, 0), ("copying", 2, 0), ("copying", 1, 1 << 30), ("copying", 2, SOME), ("computing", 1, SOME)],
)
def test_streaming_is_bitwise_what_stays_on_the_card(late: str, group: int, staying: int):
    moving = streamed(sdxl_like(3, torch.bfloat16), late, group=group, staying=staying)
    net = sdxl_like(3, torch.bfloat16).to(CARD)
    still = StageMajorPlan(
        net, names(net), adamw, device=CARD, residency=lambda _, trained, __: Here(trained), group=group, deepest=1
    )
    for seed in range(2):
        answers = [plan.gradient(on_card(seed), ignore) for plan in (moving, still)]
        assert answers[0].losses == answers[1].losses and answers[0].sound
        assert answers[0].grad_norm == pytest.approx(answers[1].grad_norm, rel=1e-12)
        ours, theirs = sums(moving), sums(still)
        assert [name for name, tensor in theirs.items() if not torch.equal(ours[name], tensor)] == []
        for plan in (moving, still):
            plan.update(lambda _: 1e-3, max_grad_norm=1.0)
        ours, theirs = moving.weights(), still.weights()
        assert [name for name in theirs if not torch.equal(ours[name].cpu(), theirs[name].cpu())] == []


@pytest.mark.parametrize("tokens", [False, True])
def test_the_gradient_is_the_plain_plans(tokens: bool):
    def networks() -> tuple[nn.Module, nn.Module | None]:
        return sdxl_like(3), tiny_conditioner().to(CARD) if tokens else None

    net, conditioner = networks()
    settings = TextSettings(train="both", token_embedding="row_wise")
    text = trainable(conditioner, settings) if isinstance(conditioner, Conditioner) else frozenset()
    ours = streamed(net, "nothing", trained=names(net) | text, conditioner=conditioner)
    net, conditioner = networks()
    theirs = PlainPlan(net.to(CARD), names(net) | text, adamw, conditioner=conditioner)
    plans: list[Plan] = [ours, theirs]
    answers = [plan.gradient(on_card(0, tokens=tokens), ignore) for plan in plans]
    assert answers[0].grad_norm == pytest.approx(answers[1].grad_norm, rel=1e-4)
    least = 1e-5 * answers[1].grad_norm
    expected = {name: tensor.cpu() for name, tensor in theirs._sums.items() if tensor.norm() > least}
    got = sums(ours)
    # The card rounds fp32 matrix products as it likes; a fault is off by the gradient itself.
    assert relative({name: got[name] for name in expected}, expected) < 1e-2


def test_what_was_discarded_in_the_middle_of_its_copies_leaves_no_trace():
    class Stopped(Exception):
        pass

    def give_up(index: int, _: Tensor) -> None:
        if index == 2:
            raise Stopped

    plans = [streamed(sdxl_like(3, torch.bfloat16), "copying") for _ in range(2)]
    for _ in range(3):
        with pytest.raises(Stopped):
            plans[0].gradient(on_card(5), give_up)
    answers = [plan.gradient(on_card(0), ignore) for plan in plans]
    ours, theirs = map(sums, plans)
    assert answers[0] == answers[1] and all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
