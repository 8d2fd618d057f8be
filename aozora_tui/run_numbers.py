"""What a run uses and how far it is, in words: groups of labelled lines. No Textual."""

from __future__ import annotations

import math
import statistics
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aozora_tui.history import Columns
from aozora_tui.run_state import RunState
from aozora_tui.text import age, duration, home_path, size

RECENT = 100  # steps that "now" is of
DRAIN_SECONDS = 4 * 3600.0  # of the last, that the disk is judged by: a checkpoint more or less counts little in them
GIB = float(1 << 30)
NEVER = 1e9  # seconds, thirty years: no clock shows what is further away


@dataclass(frozen=True, slots=True)
class Group:
    """Lines of (label, text) under one heading."""

    title: str
    lines: tuple[tuple[str, str], ...]


def groups(state: RunState, now: float, folder: Path = Path()) -> tuple[Group, ...]:
    """At `now`, Unix seconds, of the run in `folder`. What it does not tell is left out, and so is a group of which it
    tells nothing."""
    made = (
        Group("progress", tuple(_progress(state, now))),
        Group("time", tuple(_time(state))),
        Group("memory", tuple(_memory(state))),
        Group("disk", tuple(_disk(state))),
        Group("checkpoints", tuple(_checkpoints(state, now))),
        Group("files", tuple(_files(state, folder))),
    )
    return tuple(group for group in made if group.lines)


def _progress(state: RunState, now: float) -> list[tuple[str, str]]:
    started, columns = state.started, state.history.steps
    if started is None:
        return []
    samples = state.step * started.accumulate * started.batch_size
    lines = [
        ("step", f"{state.step:,} of {state.steps:,}"),
        ("samples", f"{samples:,}, {started.accumulate * started.batch_size} a step"),
    ]
    if state.epoch is not None and state.epoch.micro_batches:
        done = state.step * started.accumulate / state.epoch.micro_batches
        whole = state.steps * started.accumulate / state.epoch.micro_batches
        lines.append(("epoch", f"{done:.2f} of {whole:.2f}, each of {state.epoch.samples:,} samples"))
    if state.eta is not None:
        lines.append(("left", f"{duration(state.eta)} of training; caching, previews and saving come on top"))
        if state.eta < NEVER:
            lines.append(("done at", f"{_clock(now + state.eta, now)}, if it trains all the time"))
    if len(columns):
        lines.append(("trained for", duration(columns.elapsed[-1])))
        clipped = sum(columns["clipped"][-RECENT:])
        lines.append(("clipped", f"{clipped:.0f} of the last {min(len(columns), RECENT)} steps"))
    if len(state.history.checks):
        lines.append(("validation", _validation(state.history.checks)))
    if state.skipped or state.damped:
        lines.append(("passed over", f"{state.skipped} steps skipped, {state.damped} damped"))
    if state.warnings:
        lines.append(("warnings", f"{state.warnings}, whole on the page of findings and warnings"))
    return lines


def _validation(checks: Columns) -> str:
    """The loss on held-out pictures: the newest, the lowest, the first."""
    losses, steps = checks["validation"], checks.steps
    best = min(range(len(losses)), key=lambda at: losses[at] if losses[at] == losses[at] else math.inf)
    said = f"loss {losses[-1]:.4g} at step {steps[-1]:,}"
    if best < len(losses) - 1:
        said += f", lowest {losses[best]:.4g} at {steps[best]:,}"
    return said if best == 0 else f"{said}, {losses[0]:.4g} at {steps[0]:,}"


def _time(state: RunState) -> list[tuple[str, str]]:
    columns = state.history.steps
    if not len(columns):
        return []
    recent = columns["seconds"][-RECENT:]
    middle, worst = statistics.median(recent), max(recent)
    lines = [
        ("a micro-batch", f"{recent[-1]:.3g} s now, {middle:.3g} s in the middle, {worst:.3g} s at worst"),
        ("samples", f"{columns['samples_per_second'][-1]:.3g} a second"),
    ]
    whole = recent[-1] * (state.started.accumulate if state.started else 1)
    spent = {name: _mean(columns[name][-RECENT:]) for name in ("data", "learn", "update")}
    if not any(math.isnan(part) for part in spent.values()) and whole > 0:
        total = max(_mean(recent) * (state.started.accumulate if state.started else 1), sum(spent.values()))
        words = {"data": "waiting for data", "learn": "forward and backward", "update": "optimizer"}
        shares = [f"{words[name]} {100 * part / total:.0f} %" for name, part in spent.items()]
        other = 100 * max(total - sum(spent.values()), 0) / total
        lines.append(("of a step", ", ".join([*shares, f"other {other:.0f} %"])))
    if state.planned is not None and state.planned.step_seconds:
        source = {"measured": "as measured here", "published": "from the card's figures"}.get(
            state.planned.rates, "a guess"
        )
        lines.append(("forecast", f"{duration(state.planned.step_seconds)} a step, {source}"))
    return lines


def _memory(state: RunState) -> list[tuple[str, str]]:
    lines, step, machine = [], state.last_step, state.machine
    if step is not None and step.memory_reserved:
        lines.append(("torch", f"{step.memory_peak / GIB:.2f} GiB peak, {step.memory_reserved / GIB:.2f} reserved"))
        if state.planned is not None and state.planned.needs:
            off = 100 * (step.memory_reserved / state.planned.needs - 1)
            lines.append(("forecast", f"{state.planned.needs / GIB:.2f} GiB, off by {off:+.0f} %"))
    if machine is None:
        return lines
    if machine.card_total:
        used, total = machine.card_used, machine.card_total
        lines.append(("card", f"{_gib(used)} of {_gib(total)} GiB in use, {_gib(total - used)} free"))
        others = used - (step.memory_reserved if step else 0)
        if others > 0:
            lines.append(("", f"{_gib(others)} GiB of it are not torch's: the context, other programs"))
    if machine.host_total:
        whole = f"{_gib(machine.host_used)} of {_gib(machine.host_total)} GiB in use"
        lines.append(("host", f"{whole}, {_gib(machine.run_memory)} by the run"))
    return lines


def _disk(state: RunState) -> list[tuple[str, str]]:
    machine, free = state.machine, state.history.box["disk_free"]
    if machine is None or not machine.disk_free:
        return []
    lines = [("free", size(machine.disk_free))]
    if seconds := seconds_to_full(state.history.box.elapsed, free):
        since = "after the run's end" if state.eta is not None and seconds > state.eta else "before the run's end"
        end = f", {since}" if state.eta is not None else ""
        lines.append(("full in", f"{duration(seconds)}, as the last hours have filled it{end}"))
    elif len(free) > 1:
        lines.append(("full in", "it does not get fuller"))
    return lines


def seconds_to_full(elapsed: Sequence[float], free: Sequence[float]) -> float | None:
    """When the disk is full if it goes on as in the last hours of what was told; None if it does not get fuller."""
    if not len(free):
        return None
    first = bisect_left(elapsed, elapsed[-1] - DRAIN_SECONDS)
    if elapsed[-1] <= elapsed[first]:
        return None
    lost = (free[first] - free[-1]) / (elapsed[-1] - elapsed[first])
    return free[-1] / lost if lost > 0 else None


def _checkpoints(state: RunState, now: float) -> list[tuple[str, str]]:
    last = [saved for saved in state.checkpoints if saved.kind == "checkpoint"][-3:]
    return [
        (f"step {saved.step:,}", f"{_ago(now - saved.time)}, {size(saved.bytes)}, written in {saved.seconds:.1f} s")
        for saved in reversed(last)
    ]


def _files(state: RunState, folder: Path) -> list[tuple[str, str]]:
    """Whole paths, to be copied."""
    lines = [("export", home_path(folder / path)) for path in state.exports]
    latest = [sample for sample in state.samples if sample.step == state.samples[-1].step]
    return [*lines, *((f"preview {sample.step:,}", home_path(folder / sample.path)) for sample in latest)]


def _ago(seconds: float) -> str:
    since = age(seconds)
    return "just now" if since == "now" else f"{since} ago"


def _clock(at: float, now: float) -> str:
    """When that is, to the minute: with its day, if it is not today."""
    there, here = time.localtime(at), time.localtime(now)
    return time.strftime("%H:%M" if there[:3] == here[:3] else "%a %d %b %H:%M", there)


def _gib(amount: int) -> str:
    return f"{amount / GIB:.2f}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
