"""What several runs have come to, one beside the other, and in which settings they differ. No Textual."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Literal

from msgspec import Struct

from aozora_tui.compared_runs import ComparedRun
from aozora_tui.text import duration, factor
from aozora_tui.widgets.scale import short, whole

RECENT = 100  # steps that a median is of
PROBED = 2000  # values that the median of a whole run is taken from, evenly spread
GIB = float(1 << 30)
Better = Literal["lower", "higher", ""]


class Final(Struct, frozen=True, kw_only=True):
    """One run. `loss` is the last step's, `loss_median` that of the last 100 steps, `loss_shared` the same up to where
    all of the runs have come, `loss_lowest` the lowest of the running average (0.97) with its step, `validation` the
    lowest loss on held-out pictures with its step. `seconds` of training, `samples` drawn, `memory_peak` in bytes by
    torch. None where the run does not tell."""

    name: str
    folder: str
    state: str
    trouble: str
    step: int
    steps: int
    samples: int
    seconds: float | None
    loss: float | None
    loss_median: float | None
    loss_shared: float | None
    loss_lowest: float | None
    loss_lowest_step: int | None
    validation: float | None
    validation_step: int | None
    grad_norm: float | None
    samples_per_second: float | None
    memory_peak: float | None
    skipped: int
    warnings: int
    ended: str


class Shared(Struct, frozen=True, kw_only=True):
    """How far all of the runs have come: in steps, or in samples where their steps are not of equally many."""

    unit: Literal["step", "samples"]
    amount: int


class Setting(Struct, frozen=True, kw_only=True):
    """One in which profiles differ: plain TOML values in the order of the runs, the default where nothing is written.
    None where there is nothing, or where the run's profile cannot be read."""

    path: str
    label: str
    values: tuple[Any, ...]


class Row(Struct, frozen=True, kw_only=True):
    """A line of the table; `best` are the places of the best cells, none where that has no meaning or all are alike."""

    label: str
    cells: tuple[str, ...]
    best: tuple[int, ...] = ()


def no_setting_differs(compared: Sequence[ComparedRun]) -> str:
    """What is said where no difference was found: it takes two profiles to know."""
    if len(compared) < 2:
        return ""
    known = sum(each.profile is not None for each in compared)
    return "no setting differs" if known > 1 else "whether settings differ is not known: profiles cannot be read"


def shared(compared: Sequence[ComparedRun]) -> Shared | None:
    """None unless there are at least two that have trained."""
    begun = [each for each in compared if len(each.state.history.steps)]
    if len(begun) < 2:
        return None
    last = [each.state.history.steps.steps[-1] for each in begun]
    if len({each.per_step for each in begun}) == 1:
        return Shared(unit="step", amount=min(last))
    return Shared(unit="samples", amount=min(each.per_step * step for each, step in zip(begun, last, strict=True)))


def final(compared: ComparedRun, name: str, upto: Shared | None) -> Final:
    state, columns = compared.state, compared.state.history.steps
    step = columns.steps[-1] if len(columns) else state.step
    shared_step = None
    if upto is not None:
        shared_step = upto.amount if upto.unit == "step" else upto.amount // compared.per_step
    peak = max(columns["memory_peak"], default=0.0)
    checks = compared.state.history.checks
    looks = zip(checks["validation"], checks.steps, strict=True)
    validation, validation_step = min((look for look in looks if isfinite(look[0])), default=(None, None))
    return Final(
        name=name,
        folder=str(compared.run.path),
        state=compared.word,
        trouble=compared.trouble,
        step=step,
        steps=state.steps,
        samples=step * compared.per_step if state.started else 0,
        seconds=columns.elapsed[-1] if len(columns) else None,
        loss=_finite(columns["loss"][-1]) if len(columns) else None,
        loss_median=_median(columns["loss"][-RECENT:]),
        loss_shared=_median_until(columns.steps, columns["loss"], shared_step),
        loss_lowest=compared.lowest.value,
        loss_lowest_step=compared.lowest.step,
        validation=validation,
        validation_step=validation_step,
        grad_norm=_median(columns["grad_norm"][-RECENT:]),
        samples_per_second=_median(columns["samples_per_second"][:: max(len(columns) // PROBED, 1)]),
        memory_peak=peak if isfinite(peak) and peak > 0 else None,
        skipped=state.skipped,
        warnings=state.warnings,
        ended=state.failed.text if state.failed is not None else "",
    )


def rows(finals: Sequence[Final], upto: Shared | None) -> list[Row]:
    """Of what none of them tells there is no row."""
    where = "loss"
    if upto is not None:
        where = f"loss, step {whole(upto.amount)}" if upto.unit == "step" else f"loss, {short(upto.amount, 3)} samples"
    lowest = [
        "-" if each.loss_lowest is None else f"{short(each.loss_lowest)} at {each.loss_lowest_step:,}"
        for each in finals
    ]
    validated = [
        "-" if each.validation is None else f"{short(each.validation)} at {each.validation_step:,}" for each in finals
    ]
    made = [
        _row("state", [each.state for each in finals]),
        _row("steps", [f"{each.step:,} of {each.steps:,}" if each.steps else "-" for each in finals]),
        _row("samples", [f"{each.samples:,}" if each.samples else "-" for each in finals]),
        _row("trained for", [duration(each.seconds) if each.seconds is not None else "-" for each in finals]),
        _numbers(where, [each.loss_shared for each in finals], "lower"),
        _numbers("loss, last 100", [each.loss_median for each in finals], "lower"),
        _numbers("loss, last step", [each.loss for each in finals], ""),
        _row("lowest average", lowest, _best([each.loss_lowest for each in finals], "lower")),
        _row("best validation", validated, _best([each.validation for each in finals], "lower")),
        _numbers("grad norm", [each.grad_norm for each in finals], ""),
        _numbers("samples/s", [each.samples_per_second for each in finals], "higher"),
        _numbers("torch peak GiB", [each.memory_peak and each.memory_peak / GIB for each in finals], "lower"),
        _row("skipped steps", [f"{each.skipped:,}" if each.skipped else "-" for each in finals]),
        _row("warnings", [f"{each.warnings:,}" if each.warnings else "-" for each in finals]),
        _row("failed because", [each.ended or "-" for each in finals]),
        _row("but", [each.trouble or "-" for each in finals]),
    ]
    return [row for row in made if any(cell != "-" for cell in row.cells)]


def differing(compared: Sequence[ComparedRun]) -> list[Setting]:
    """In the form's order. A default that is written down is no difference, nor is a path to the same place."""
    from engine.contract.fields import form_fields
    from engine.contract.profile_values import settled, shown

    known = [(each.profile, each.run.path) for each in compared if each.profile is not None]
    found = []
    for path, field in form_fields().items():
        settings = [settled(field, shown(field, written.get(path)), folder) for written, folder in known]
        if any(other != settings[0] for other in settings[1:]):
            values = tuple(shown(field, each.profile.get(path)) if each.profile else None for each in compared)
            found.append(Setting(path=path, label=field.label, values=values))
    return found


def other_losses(settings: Sequence[Setting]) -> str:
    """Why the runs' losses do not say which is better; "" where they may."""
    unlike = [setting.label.lower() for setting in settings if setting.path.startswith("objective.")]
    return f"Their losses measure different things: {', '.join(unlike)}" if unlike else ""


def values_of(setting: Setting, compared: Sequence[ComparedRun]) -> list[str]:
    """The setting in each of the runs, in words; "?" where the profile cannot be read."""
    return [
        in_words(value) if each.profile is not None else "?"
        for value, each in zip(setting.values, compared, strict=True)
    ]


def in_words(value: Any) -> str:
    """A plain TOML value in one line."""
    if value is None or value == [] or value == {} or value == "":
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return factor(value)
    if isinstance(value, Mapping):
        if "path" in value:
            return f"{value.get('repeats', 1)} x {value['path']}"
        return ", ".join(f"{name} = {in_words(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        inner = [" ".join(map(in_words, part)) if isinstance(part, list) else in_words(part) for part in value]
        return ", ".join(inner)
    return " ".join(str(value).split())


def name_of(setting: Setting, settings: Sequence[Setting]) -> str:
    """Its label, or its path where another one is labelled so."""
    alike = sum(other.label == setting.label for other in settings)
    return setting.label if alike == 1 else setting.path


def as_json(compared: Sequence[ComparedRun], names: Sequence[str]) -> dict[str, Any]:
    """All of it, for a script."""
    upto, settings = shared(compared), differing(compared)
    return {
        "runs": [final(each, name, upto) for each, name in zip(compared, names, strict=True)],
        "shared": upto,
        "profiles_read": [each.profile is not None for each in compared],
        "settings": settings,
        "losses_differ_in": [setting.path for setting in settings if setting.path.startswith("objective.")],
    }


def _row(label: str, cells: Sequence[str], best: tuple[int, ...] = ()) -> Row:
    return Row(label=label, cells=tuple(cells), best=best)


def _numbers(label: str, numbers: Sequence[float | None], better: Better) -> Row:
    cells = ["-" if number is None else short(number) for number in numbers]
    return _row(label, cells, _best(numbers, better))


def _best(numbers: Sequence[float | None], better: Better) -> tuple[int, ...]:
    """Those that look alike are equally good."""
    known = [number for number in numbers if number is not None]
    if not better or len(known) < 2:
        return ()
    best = short(min(known) if better == "lower" else max(known))
    places = tuple(at for at, number in enumerate(numbers) if number is not None and short(number) == best)
    return places if len(places) < len(known) else ()


def _median_until(steps: Sequence[int], values: Sequence[float], step: int | None) -> float | None:
    if step is None:
        return None
    end = bisect_right(steps, step)
    return _median(values[max(end - RECENT, 0) : end])


def _median(values: Sequence[float]) -> float | None:
    finite = [value for value in values if isfinite(value)]
    return statistics.median(finite) if finite else None


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
