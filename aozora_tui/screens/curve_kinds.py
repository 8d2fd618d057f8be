"""The three curves of a profile: which settings they are, and what the engine makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from aozora_tui.screens.curve_points import OVER_TIMESTEPS, Grain, Points, neat, over_the_run, plain_points
from aozora_tui.screens.curve_sampling import LEAST, followed
from aozora_tui.widgets.curve_picture import Line
from engine.contract.contradictions import objective_contradictions
from engine.contract.contradictions_learning import learning_contradictions
from engine.contract.curves import piecewise, rate
from engine.contract.fields import form_fields
from engine.contract.loss_weight import weights
from engine.contract.noise import TIMESTEPS
from engine.contract.problems import Problem
from engine.contract.sections import Point, Profile, Schedule
from engine.contract.timesteps import density

MOST_SAMPLES = 2000
QUARTERS = 4


@dataclass(frozen=True)
class Drawing:
    """The settings of one curve: its shape's word, and its points."""

    shape: str
    points: Points


class Kind:
    """One of the curves. `drawn_word` is the shape that means the points alone; without one they are a factor."""

    name = ""
    shape_path = ""
    points_path = ""
    drawn_word = "curve"
    others: tuple[str, ...] = ()
    """More settings whose problems belong here."""

    @property
    def words(self) -> tuple[str, ...]:
        return form_fields()[self.shape_path].choices

    def drawing(self, profile: Profile) -> Drawing:
        return Drawing(_setting(profile, self.shape_path), _setting(profile, self.points_path))

    def applied(self, profile: Profile, drawing: Drawing) -> Profile:
        section, shape = self.shape_path.split(".")
        changed = {shape: drawing.shape, self.points_path.split(".")[1]: drawing.points}
        return msgspec.structs.replace(
            profile, **{section: msgspec.structs.replace(getattr(profile, section), **changed)}
        )

    def is_drawn(self, drawing: Drawing) -> bool:
        """Whether there are points to edit."""
        return bool(drawing.points) and self.drawn_word in ("", drawing.shape)

    def begun(self) -> Points:
        """Level points, to begin with; enough of them that one changes only a part."""
        grain = self.grain_of(1)
        whole = round(grain.last / grain.grid) * grain.grid
        return tuple(Point(grain.rounded(whole * index / QUARTERS), 1.0) for index in range(QUARTERS + 1))

    def grain(self, profile: Profile) -> Grain:
        return self.grain_of(profile.train.steps)

    def grain_of(self, steps: int) -> Grain:  # noqa: ARG002  (of the run alone)
        return OVER_TIMESTEPS

    def across(self, profile: Profile) -> float:  # noqa: ARG002  (of the learning rate alone)
        """What 1 on the points' axis is on the plot's."""
        return 1.0

    def upward(self, profile: Profile) -> float:  # noqa: ARG002  (of the learning rate alone)
        """What a value of 1 is on the plot's axis."""
        return 1.0

    def end(self, profile: Profile) -> float:
        """Where the plot's axis ends."""
        return self.grain(profile).last * self.across(profile)

    def lines(self, profile: Profile) -> tuple[Line, ...]:
        """What is plotted, the main line first. Raises ValueError, saying why, where there is nothing."""
        raise NotImplementedError

    def into_points(self, profile: Profile, *, relative: bool = False) -> Drawing:
        """The same curve as few points. Raises ValueError as `lines` does."""
        main = self.lines(profile)[0]
        grain, across, upward = self.grain(profile), self.across(profile), self.upward(profile)
        least = 0.0 if relative else max(main.ys) * LEAST
        points = tuple(
            Point(grain.tidy(main.xs[index] / across), neat(y / upward, 3) if (y := main.ys[index]) >= least else 0.0)
            for index in followed(main.xs, main.ys, lambda x: grain.is_round(x / across), relative=relative)
        )
        return Drawing(self.drawn_word or "none", points)

    def problems(self, profile: Profile) -> list[Problem]:
        """Of this curve's settings, errors first."""
        field = form_fields()[self.points_path]
        found = field.problems(plain_points(_setting(profile, self.points_path)))
        if not found:
            every = [*objective_contradictions(profile.objective), *learning_contradictions(profile)]
            mine = (self.shape_path, self.points_path, *self.others)
            found = [problem for problem in every if problem.path.partition("[")[0] in mine]
        return sorted(found, key=lambda problem: problem.severity)

    def written(self, before: Drawing, now: Drawing) -> dict[str, Any]:
        """What to write into the profile: plain values by path, None for a default. Points of a shape that is not
        drawn would have no effect, so they go."""
        found: dict[str, Any] = {}
        if now == before:
            return found
        if now.shape != before.shape:
            found[self.shape_path] = None if now.shape == form_fields()[self.shape_path].default else now.shape
        points = now.points if self.drawn_word in ("", now.shape) else ()
        if points != before.points:
            found[self.points_path] = plain_points(points) or None
        return found


class Rate(Kind):
    """Over the steps of the run."""

    name = "learning rate"
    shape_path = "schedule.shape"
    points_path = "schedule.curve"
    others = ("schedule.warmup_steps", "schedule.cycles", "schedule.decay")

    def grain_of(self, steps: int) -> Grain:
        return over_the_run(steps)

    def across(self, profile: Profile) -> float:
        return float(profile.train.steps)

    def upward(self, profile: Profile) -> float:
        return profile.optimizer.learning_rate

    def lines(self, profile: Profile) -> tuple[Line, ...]:
        schedule, steps, peak = profile.schedule, profile.train.steps, profile.optimizer.learning_rate
        xs, shares = rates(schedule, steps)
        if schedule.shape == "curve":  # its corners too, so that they are drawn sharp
            xs = tuple(sorted({*xs, *(point.at * steps for point in schedule.curve)}))
            shares = tuple(piecewise(schedule.curve, x / steps) for x in xs)
        return (Line("lr", xs, [peak * share for share in shares]),)


class Density(Kind):
    """Over the noise scale. Only the proportions of points count, so they are drawn as they are."""

    name = "timestep density"
    shape_path = "objective.timesteps"
    points_path = "objective.timestep_curve"

    def lines(self, profile: Profile) -> tuple[Line, ...]:
        objective = profile.objective
        if objective.timesteps != "curve":
            return (Line("x uniform", range(TIMESTEPS), [p * TIMESTEPS for p in density(objective)]),)
        if not objective.timestep_curve:
            raise ValueError("the curve has no points")
        return (Line("as drawn", range(TIMESTEPS), factors(objective.timestep_curve)),)


class Weight(Kind):
    """Over the noise scale: the points are a factor on what the shape gives."""

    name = "loss weight"
    shape_path = "objective.loss_weight"
    points_path = "objective.weight_curve"
    drawn_word = ""
    others = ("objective.zero_terminal_snr",)

    def lines(self, profile: Profile) -> tuple[Line, ...]:
        objective = profile.objective
        effective = Line("weight", range(TIMESTEPS), weights(objective))
        if not objective.weight_curve:
            return (effective,)
        return (effective, Line("factor", range(TIMESTEPS), factors(objective.weight_curve), "second"))


KINDS: tuple[Kind, ...] = (Rate(), Density(), Weight())


def kind_at(path: str) -> int:
    """The curve that a field belongs to, the first for any other field."""
    mine = {name: index for index, kind in enumerate(KINDS) for name in (kind.shape_path, kind.points_path)}
    parts = {"objective.min_snr_gamma": 2, "objective.weight_floor": 2}
    fallback = 1 if path.startswith("objective.") else 0
    return mine.get(path, parts.get(path, fallback))


def factors(points: Points) -> tuple[float, ...]:
    """A drawn curve's value at each timestep, (1000,): also of one that the engine would refuse, as all 0."""
    return tuple(piecewise(points, timestep) for timestep in range(TIMESTEPS))


@lru_cache(maxsize=16)
def rates(schedule: Schedule, steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Steps and the shares of the peak there: all of a short run, of a long one some thousands. Raises ValueError for
    a drawn curve without points."""
    if schedule.shape == "curve" and not schedule.curve:
        raise ValueError("the curve has no points")
    # Where a fall would end if the run had one step more; of restarts that would be the next peak.
    beyond = schedule.shape == "restarts"
    xs = tuple(float(index) for index in _indices(steps) if index < steps or not beyond)
    return xs, tuple(rate(schedule, int(x), steps) for x in xs)


def _indices(steps: int) -> list[int]:
    """From 0 to `steps`, with the last one before it."""
    count = min(steps, MOST_SAMPLES)
    return sorted({steps - 1, *(index * steps // count for index in range(count + 1))})


def _setting(profile: Profile, path: str) -> Any:
    section, name = path.split(".")
    return getattr(getattr(profile, section), name)
