"""What the five lines of `watch --inline` say: pure, from a run's state."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from aozora_tui.run_state import RunState
from aozora_tui.runs import Standing
from aozora_tui.text import age, duration, printable, rate, sentence
from engine.contract.rundir import LIVE_STATES

Part = tuple[str, str]  # text, and a style: "", bold, faint, good, warning, bad, live
RECENT_STEPS = 240
GIB = 2**30
_WORD_STYLES = {"finished": "good", "failed": "bad", "crashed": "bad", "paused": "warning", "elsewhere": "warning"}
_BARS, _PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-=+*%#"


def lines_of(
    state: RunState, title: str, word: Standing, *, width: int, now: float, trouble: str, ascii_only: bool
) -> list[list[Part]]:
    """Always five: what, how far, how well, what it uses, what is new. `now` is Unix seconds; `trouble` goes before
    whatever else is new."""
    found = [
        _fitting(_what(state, title, word, now), width, ascii_only),
        _how_far(state, word, width, ascii_only),
        _how_well(state, width, ascii_only),
        _fitting(_machine(state, ascii_only), width, ascii_only) if word in LIVE_STATES else [],
        _news(state, word, trouble),
    ]
    return [[(printable(text), style) for text, style in line] for line in found]


def _fitting(parts: list[Part], width: int, ascii_only: bool) -> list[Part]:
    """Figures are there whole or not at all; a name that leads may be cut for those that matter most."""
    (first, style), rest = parts[0], parts[1:]
    if style == "bold":
        room = max(width - sum(len(text) for text, _ in rest[:2]), 8)
        end = "..." if ascii_only else "…"
        first = first if len(first) <= room else first[: room - len(end)] + end
    found, used = [(first, style)], len(first)
    for text, style in rest:
        used += len(text)
        if used > width:
            break
        found.append((text, style))
    return found


def _what(state: RunState, title: str, word: Standing, now: float) -> list[Part]:
    parts = [(title, "bold"), (f"  {word}", _WORD_STYLES.get(word, "live"))]
    if state.steps:
        parts.append((f"  step {state.step:,}/{state.steps:,}", ""))
    if word in LIVE_STATES and state.eta is not None:
        parts.append((f"  {duration(state.eta)} left", ""))
    if word in LIVE_STATES and word != "paused" and (silent := state.silent(now)) is not None:
        parts.append((f"  silent for {age(silent)}", "warning"))
    return parts


def _how_far(state: RunState, word: Standing, width: int, ascii_only: bool) -> list[Part]:
    live = word in LIVE_STATES
    phase = (state.phase if live and word != "paused" else word) or word
    words, short, progress = "", "", state.progress
    if live and state.phase == "train" and state.started is not None:
        short = f"{state.micros_done}/{state.started.accumulate}"
        words = f"micro-batch {short}"
    elif live and progress is not None:
        words = f"{progress.done:,}/{progress.total:,} {progress.unit}  {rate(progress.rate)}".rstrip()
    if state.share is None:
        return [(f"{phase:<9} {words}", "")]
    tail = f" {100 * state.share:5.1f} %  {words if width >= 50 else short}"
    full, empty = ("#", "-") if ascii_only else ("█", "░")
    room = min(max(width - 10 - len(tail), 4), 60)
    filled = min(round(state.share * room), room)
    return [(f"{phase:<9} ", ""), (full * filled, "live"), (empty * (room - filled), "faint"), (tail, "")]


def _how_well(state: RunState, width: int, ascii_only: bool) -> list[Part]:
    step = state.last_step
    if step is None:
        return [("no step yet", "faint")]
    said = [f"  lr {step.lr:.2e}", f"  grad {step.grad_norm:.2f}{' !' if step.clipped else ''}"]
    said.append(f"  {step.samples_per_second:.3g} samples/s")
    room = min(width - sum(map(len, said)) - 14, 40)
    curve = sparkline(state.history.steps["loss"][-RECENT_STEPS:], room, ascii_only=ascii_only) if room >= 8 else ""
    parts = [(f"loss {step.loss:.4f}", ""), (f" {curve}" if curve else "", "live"), *((text, "") for text in said)]
    return _fitting(parts, width, ascii_only)


def sparkline(values: Sequence[float], columns: int, *, ascii_only: bool = False) -> str:
    """The mean of each equal share of the values, from the least to the greatest of them."""
    known = [value for value in values if math.isfinite(value)]
    count = min(columns, len(known))
    if count < 2:
        return ""
    edges = [at * len(known) // count for at in range(count + 1)]
    means = [sum(known[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    least, span = min(means), max(means) - min(means)
    signs = _PLAIN_BARS if ascii_only else _BARS
    return "".join(signs[round((mean - least) / span * (len(signs) - 1)) if span else 0] for mean in means)


def _machine(state: RunState, ascii_only: bool) -> list[Part]:
    seen = state.machine
    if seen is None:
        return [("its machine has not been heard of yet", "faint")]
    parts: list[Part] = []
    if seen.card_total:
        parts.append((f"VRAM {seen.card_used / GIB:.1f}/{seen.card_total / GIB:.1f} GiB", ""))
    if seen.utilisation is not None:
        parts.append((f"  GPU {seen.utilisation} %", ""))
    if seen.power is not None:
        limit = f"/{seen.power_limit:.0f}" if seen.power_limit else ""
        parts.append((f"  {seen.power:.0f}{limit} W", ""))
    if seen.temperature is not None:
        parts.append((f"  {seen.temperature} {'C' if ascii_only else '°C'}", ""))
    if seen.throttled:
        parts.append((f"  slowed down ({', '.join(seen.throttled)})", "warning"))
    if seen.host_total:
        parts.append((f"  host {seen.host_used / GIB:.1f}/{seen.host_total / GIB:.1f} GiB", ""))
    if seen.disk_free:
        parts.append((f"  disk {seen.disk_free / 1e9:,.0f} GB free", ""))
    return [(parts[0][0].lstrip(), parts[0][1]), *parts[1:]] if parts else [("", "")]


def _news(state: RunState, word: Standing, trouble: str) -> list[Part]:
    if trouble:
        return [(trouble, "warning")]
    if word in LIVE_STATES and state.findings:
        finding = state.findings[-1]
        return [(f"! {sentence(finding.text)} {finding.remedy}", "warning")]
    if not state.notes:
        return [("", "")]
    note = state.notes[-1]
    return [(note.text, {"warning": "warning", "error": "bad", "good": "good"}.get(note.kind, ""))]
