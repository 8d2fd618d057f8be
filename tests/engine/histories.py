"""Made-up runs, as their events: what a watch is to judge."""

import random
from collections.abc import Callable, Iterable, Iterator

from engine.contract import events
from engine.contract.curves import rate
from engine.contract.health import Finding, Watch
from engine.contract.sections import Schedule

GIB = 2**30
BEGAN = 1.8e9
LOOK = 30.0  # seconds between two events of the box
CHECKPOINT = 10 * GIB


def started(step: int = 0, steps: int = 4000, accumulate: int = 1, time: float = BEGAN) -> events.Started:
    return events.Started(
        time=time,
        protocol=1,
        run="r",
        token="t",
        step=step,
        steps=steps,
        accumulate=accumulate,
        batch_size=1,
        plan="plain",
        parameters_trained=1,
        parameters_total=1,
        device="d",
    )


def machine(**changes: object) -> events.Machine:
    usual: dict[str, object] = {
        "card": "GPU-1",
        "card_used": 7 * GIB,
        "card_total": 12 * GIB,
        "utilisation": 99,
        "power": 199.0,
        "power_limit": 200.0,
        "temperature": 71,
        "temperature_limit": 93,
        "throttled": ("power",),
        "disk_free": 500 * GIB,
    }
    return events.Machine(**(usual | changes))  # type: ignore[arg-type]


def saved(step: int, size: int = CHECKPOINT) -> events.Saved:
    return events.Saved(kind="checkpoint", step=step, path=f"checkpoints/step-{step:06d}", bytes=size, seconds=9.0)


class Run:
    """A run that is well. Each of its numbers can be another function of the step (from 1) or, of the box, of the
    seconds since the start. `steps` are planned, and `taken` of them happen."""

    def __init__(
        self,
        steps: int = 4000,
        taken: int | None = None,
        *,
        accumulate: int = 1,
        seconds: Callable[[int], float] = lambda step: 1.5,
        loss: Callable[[int], float] = lambda step: 0.12,
        lr: Callable[[int], float] = lambda step: 1e-6,
        norm: Callable[[int], float] = lambda step: 0.4,
        clipped: Callable[[int], bool] = lambda step: False,
        spent: Callable[[int], dict[str, float]] = lambda step: {},
        reserved: Callable[[int], int] = lambda step: 6 * GIB,
        box: Callable[[float], dict[str, object]] = lambda elapsed: {},
        save_every: int = 100,
        others: dict[int, Iterable[events.Event]] | None = None,
        first: int = 1,
        time: float = BEGAN,
    ) -> None:
        self.steps, self.taken, self.accumulate = steps, taken or steps, accumulate
        self.seconds, self.loss, self.lr, self.norm, self.clipped = seconds, loss, lr, norm, clipped
        self.spent, self.reserved, self.box = spent, reserved, box
        self.save_every, self.others = save_every, others or {}
        self.first, self.time = first, time

    def events(self) -> Iterator[events.Event]:
        time = self.time
        looked = -LOOK
        yield started(self.first - 1, self.steps, self.accumulate, time)
        for step in range(self.first, self.taken + 1):
            if time - self.time >= looked + LOOK:
                looked = time - self.time
                yield machine(time=time, **self.box(looked))
            seconds = self.seconds(step)
            time += seconds * self.accumulate
            yield events.Step(
                time=time,
                step=step,
                loss=self.loss(step),
                lr=self.lr(step),
                grad_norm=self.norm(step),
                clipped=self.clipped(step),
                seconds=seconds,
                samples_per_second=1 / seconds,
                memory_peak=5 * GIB,
                memory_reserved=self.reserved(step),
                spent=self.spent(step) or {"data": 0.001, "learn": seconds * self.accumulate, "update": 0.2},
            )
            for event in self.others.get(step, ()):
                yield stamped(event, time)
            if self.save_every and step % self.save_every == 0:
                yield stamped(saved(step), time)


def stamped(event: events.Event, time: float) -> events.Event:
    return type(event)(**{name: getattr(event, name) for name in event.__struct_fields__} | {"time": time})


def fold(told: Iterable[events.Event], watch: Watch | None = None) -> list[Finding]:
    """What began, in order."""
    watch = watch or Watch()
    return [finding for event in told for finding in watch.take(event)]


def codes(found: Iterable[Finding]) -> list[str]:
    return [finding.code for finding in found]


def noisy(level: Callable[[int], float], sigma: float, seed: int = 0) -> Callable[[int], float]:
    """As single timesteps are: a factor on the level whose logarithm is normally distributed."""
    source = random.Random(seed)
    return lambda step: level(step) * source.lognormvariate(0, sigma)


def cosine(steps: int, peak: float = 1e-6, warmup: float = 0.05) -> Callable[[int], float]:
    schedule = Schedule(shape="cosine", warmup=warmup, minimum=0.0)
    return lambda step: peak * rate(schedule, step - 1, steps)
