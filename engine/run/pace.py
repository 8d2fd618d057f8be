"""How fast a run learns at each step: the schedule, each tensor's factor, who rests, what was steered, and spikes."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from engine.contract.atomic import write_text
from engine.contract.curves import rate
from engine.contract.sections import Profile
from engine.run.errors import RunError

HISTORY = 100  # steps
# Fewer losses than this say nothing of what is usual.
ENOUGH = 20


class Steered(msgspec.Struct, frozen=True, array_like=True):
    """From step `since` on the schedule's rate is taken times `factor`; what the command allows and no more."""

    since: Annotated[int, Meta(ge=0)]
    factor: Annotated[float, Meta(ge=0, le=1000)]


class Steering:
    """Factors on the learning rate that were commanded, each from a step on. They are kept in the run folder, beside
    the checkpoints: a run that resumes before one of them comes to it again."""

    def __init__(self, path: Path) -> None:
        """Raises RunError for a file that is damaged."""
        self._path = path
        self._given: list[Steered] = []
        try:
            if path.exists():
                self._given = msgspec.json.decode(path.read_bytes(), type=list[Steered])
            if self._given != sorted(self._given, key=lambda each: each.since):
                raise msgspec.ValidationError("its steps do not rise")
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            remedy = "Remove it to go on without them, and command the rate again."
            raise RunError("steering", f"{path}, the commanded rates, is damaged ({error})", remedy) from error

    def factor(self, step: int) -> float:
        return next((each.factor for each in reversed(self._given) if each.since <= step), 1.0)

    def steer(self, step: int, factor: float) -> None:
        """From `step` on; what was commanded for later, in a past that a resume undid, is forgotten. Raises OSError."""
        given = [*(each for each in self._given if each.since < step), Steered(step, factor)]
        write_text(self._path, msgspec.json.encode(given).decode())
        self._given = given


@dataclass(frozen=True)
class Damping:
    """The gradient of a step whose loss is above `limit` is scaled by `factor`."""

    limit: float
    factor: float


class Pace:
    """`factors` on the learning rate by tensor name, where not 1; `stopping` are the tensors that rest after
    text_encoders.stop_after. `losses` are of the last steps, oldest first."""

    def __init__(
        self,
        profile: Profile,
        names: Iterable[str],
        *,
        factors: Mapping[str, float],
        stopping: frozenset[str],
        steering: Steering,
        losses: Iterable[float] = (),
    ) -> None:
        self._profile = profile
        self._factors = factors
        self._always = frozenset(name for name, factor in factors.items() if factor == 0)
        self._stopping = stopping
        self._names = frozenset(names)
        self._losses = deque(losses, maxlen=HISTORY)
        self.steering = steering

    @property
    def losses(self) -> tuple[float, ...]:
        return tuple(self._losses)

    def lr(self, step: int) -> float:
        """Of a tensor whose factor is 1."""
        profile = self._profile
        planned = profile.optimizer.learning_rate * rate(profile.schedule, step, profile.train.steps)
        return planned * self.steering.factor(step)

    def rates(self, step: int) -> Callable[[str], float]:
        """The learning rate of each tensor by name."""
        lr = self.lr(step)
        return lambda name: lr * self._factors.get(name, 1.0)

    def resting(self, step: int) -> frozenset[str]:
        """Who learns nothing in `step`. Raises RunError if nobody is left."""
        last = self._profile.text_encoders.stop_after
        resting = self._always | self._stopping if last and step >= last else self._always
        if resting >= self._names:
            remedy = "Raise optimizer.rates or text_encoders.stop_after in the run's profile.toml, and resume it."
            raise RunError("nothing-learns", f"after step {step} every layer rests", remedy)
        return resting

    def damping(self, loss: float) -> Damping | None:
        """Whether a step of this loss is a spike among the last ones."""
        percentile = self._profile.train.damping
        if not percentile or len(self._losses) < ENOUGH:
            return None
        limit = float(np.percentile(np.array(self._losses), percentile))
        return Damping(limit, limit / loss) if loss > limit else None

    def note(self, loss: float) -> None:
        """A step was taken."""
        self._losses.append(loss)
