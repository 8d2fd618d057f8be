"""What the screen of curves says in numbers: under the cursor, and of the whole curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, groupby

import msgspec

from aozora_tui.screens.curve_kinds import KINDS, factors, rates
from aozora_tui.screens.curve_points import Points
from aozora_tui.screens.curve_sketch import Sketch
from aozora_tui.screens.lines import value_text
from engine.contract.curves import piecewise, rate, warmup_steps
from engine.contract.decode import decode_value
from engine.contract.fields import form_fields
from engine.contract.loss_weight import weights
from engine.contract.noise import TIMESTEPS, snr
from engine.contract.sections import Objective, Point, Profile
from engine.contract.timesteps import density

BIN = 100  # timesteps that a reading sums over
RATE, DENSITY, WEIGHT = range(len(KINDS))
TYPE_HERE = (
    "share of the run or a step, share of the peak: 0.5 0.4",
    "timestep 0 to 999, how often: 500 0.4",
    "timestep 0 to 999, factor: 500 0.4",
)


def number(value: float) -> str:
    """`0.5`, `2e-7`, `1,250`: four significant digits."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        mantissa, _, power = f"{value:.3e}".partition("e")
        return f"{float(mantissa):g}e{int(power)}"
    return f"{float(f'{value:.4g}'):,.10g}"


def percent(share: float) -> str:
    """`12.3 %`; small shares keep two digits."""
    return f"{number(float(f'{100 * share:.{3 if share >= 0.1 else 2}g}'))} %"


def reading(sketch: Sketch, under: Sequence[int] = ()) -> list[str]:
    """What the cursor is on, the most telling first; `under` are the points that it hides. Raises ValueError for a
    curve that means nothing."""
    count = len(sketch.points)
    hidden = f", over {' and '.join(f'{index + 1}' for index in under)}" if under else ""
    place = [f"point {sketch.cursor + 1} of {count}{hidden}"] if count else []
    says = (_rate_here, _density_here, _weight_here)[sketch.tab]
    return [*place, *says(sketch.profile, sketch.at)]


def facts(sketch: Sketch) -> list[str]:
    """About the whole curve. Raises ValueError for one that means nothing."""
    profile = sketch.profile
    if sketch.tab == RATE:
        return _rate_facts(profile)
    timestep = _timestep(sketch.at)
    return _density_facts(profile, timestep) if sketch.tab == DENSITY else _weight_facts(profile, timestep)


def point_words(points: Points) -> list[str]:
    """Each as it is typed and written: `0.5 0.4`."""
    return [f"{point.at:.10g} {number(point.value).replace(',', '')}" for point in points]


def typed_point(sketch: Sketch, text: str) -> Point:
    """`0.5 0.4` as a point; shares also as percent, and a step instead of a share of the run. Raises ValueError, with
    a sentence, for anything else."""
    parts = text.replace(",", " ").replace(" %", "%").split()
    try:
        at, value = (_typed_number(part) for part in parts)
    except ValueError:
        raise ValueError(f"Two numbers are expected: {TYPE_HERE[sketch.tab]}") from None
    if sketch.tab == RATE and at > 1 and "%" not in parts[0]:
        at /= sketch.profile.train.steps
    at = sketch.grain.rounded(at) if 0 <= at <= sketch.grain.last else at
    field = form_fields()[sketch.kind.points_path]
    found, problems = decode_value(field.annotation, [[at, value]], field.path)
    if problems:
        raise ValueError(f"{problems[0].text[:1].upper()}{problems[0].text[1:]}")
    point: Point = found[0]
    return point


def typed_text(sketch: Sketch) -> str:
    """The point under the cursor, as it stands in the entry."""
    point = sketch.points[sketch.cursor]
    return f"{point.at:.10g} {value_text(point.value)}"


def _typed_number(text: str) -> float:
    value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not math.isfinite(value):
        raise ValueError
    return value


def _timestep(at: float) -> int:
    return min(round(at), TIMESTEPS - 1)


def _around(timestep: int) -> range:
    return range(max(timestep - BIN // 2, 0), min(timestep + BIN // 2, TIMESTEPS))


def _rate_here(profile: Profile, at: float) -> list[str]:
    schedule, steps, peak = profile.schedule, profile.train.steps, profile.optimizer.learning_rate
    done = round(at * steps)
    if schedule.shape == "curve":
        rates(schedule, steps)  # which refuses a curve without points
        share = piecewise(schedule.curve, at)
    else:
        share = rate(schedule, min(done, steps - 1), steps)
    return [
        f"step {done:,} of {steps:,}",
        f"lr {number(peak * share)} = {number(share)} x {number(peak)}",
        f"{percent(at)} of the run",
    ]


def _rate_facts(profile: Profile) -> list[str]:
    schedule, steps = profile.schedule, profile.train.steps
    xs, shares = rates(schedule, steps)
    shares = shares[: len(shares) - (xs[-1] >= steps)]  # what would be after the last step is in no mean
    peak, mean = profile.optimizer.learning_rate, sum(shares) / len(shares)
    found = [
        f"mean lr {number(peak * mean)}, {number(mean)} of the peak",
        f"first step {number(peak * shares[0])}",
        f"last {number(peak * shares[-1])}",
    ]
    if schedule.shape != "curve":
        found.append(f"warm-up {warmup_steps(schedule, steps):,} steps")
    return found


def _density_here(profile: Profile, at: float) -> list[str]:
    table, timestep = density(profile.objective), _timestep(at)
    around = _around(timestep)
    here = f"{percent(table[timestep])}, {number(table[timestep] * TIMESTEPS)} x uniform"
    if profile.objective.timesteps == "curve":  # the axis is in what was drawn
        drawn = piecewise(profile.objective.timestep_curve, timestep)
        here = f"drawn {number(drawn)} = {number(table[timestep] * TIMESTEPS)} x uniform"
    return [
        f"timestep {timestep}: {here}",
        f"{percent(sum(table[index] for index in around))} in {around[0]}-{around[-1]}",
    ]


def _density_facts(profile: Profile, timestep: int) -> list[str]:
    table = density(profile.objective)
    pictures, around = profile.train.accumulate * profile.train.batch_size, _around(timestep)
    middle = next((index for index, below in enumerate(accumulate(table)) if below >= 0.5), TIMESTEPS - 1)
    here = pictures * sum(table[index] for index in around)
    return [
        *never_trained(table),
        f"median timestep {middle}",
        f"of {pictures:,} pictures a step {here:.1f} in {around[0]}-{around[-1]}",
    ]


def never_trained(table: Sequence[float]) -> list[str]:
    """A remark if there are timesteps of a density, (1000,), that are never drawn; the widest of them, and how many
    others."""
    spans = [list(group) for none, group in groupby(range(len(table)), key=lambda t: table[t] == 0) if none]
    if not spans:
        return []
    first, *_, last = widest if len(widest := max(spans, key=len)) > 1 else widest * 2
    where = f"timesteps {first}-{last}" if last > first else f"timestep {first}"
    if first == 0 or last == len(table) - 1:
        where = f"timesteps below {last + 1}" if first == 0 else f"timesteps above {first - 1}"
    others = sum(map(len, spans)) - len(widest)
    return [f"{where}{f' and {others:,} more' if others else ''} are never trained"]


def _weight_here(profile: Profile, at: float) -> list[str]:
    objective, timestep = profile.objective, _timestep(at)
    effective = weights(objective)[timestep]
    found = [f"timestep {timestep}", f"weight {number(effective)}{_made_of(objective, timestep)}"]
    return [*found, f"snr {number(snr(objective)[timestep])}"]


def _made_of(objective: Objective, timestep: int) -> str:
    """` = min_snr 0.3 x factor 0.7`, as far as there is more than one part."""
    bare = msgspec.structs.replace(objective, weight_floor=0.0, weight_curve=())
    base = weights(bare)[timestep]
    shape = "no weighting" if objective.loss_weight == "none" else objective.loss_weight
    held = base < objective.weight_floor
    part = f"floor {number(objective.weight_floor)} ({shape} {number(base)})" if held else f"{shape} {number(base)}"
    if objective.weight_curve:
        return f" = {part} x factor {number(factors(objective.weight_curve)[timestep])}"
    return f" = {part}" if held else ""


def _weight_facts(profile: Profile, timestep: int) -> list[str]:
    table, around = density(profile.objective), _around(timestep)
    counts = [share * weight for share, weight in zip(table, weights(profile.objective), strict=True)]
    whole, samples = math.fsum(counts), sum(table[index] for index in around)
    loss = sum(counts[index] for index in around) / whole if whole else 0.0
    return [
        f"in {around[0]}-{around[-1]} {percent(samples)} of samples, {percent(loss)} of the weight",
        f"mean weight {number(whole)}",
    ]
