"""Comparing two checkpoints in a process of its own, for an app that must not load torch."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import msgspec
import torch

from engine.contract import events
from engine.contract.safetensors_header import CheckpointError
from engine.model.compare import Progress, compare

OK, FAILED = 0, 1
_REPORT_SECONDS = 0.2


def diff(a: Path, b: Path, stdout: int, *, every: bool) -> int:
    """Write the `Comparison` to the descriptor `stdout`, as one JSON document and a line break, and return the exit
    code. Progress goes to stderr as `progress` events; a failure, there too, as one sentence and exit code 1. If nobody
    reads there any more, nobody wants the result."""
    # Several threads gain little here, where memory is the limit, and lose much beside a training that wants the cores.
    torch.set_num_threads(1)
    try:
        found = compare(a, b, _reporter(), every=every)
    except (CheckpointError, OSError) as error:
        with contextlib.suppress(OSError):
            _write(2, f"{error}\n".encode())
        return FAILED
    _write(stdout, msgspec.json.encode(found) + b"\n")
    return OK


def _reporter() -> Progress:
    """At most five lines a second, and one at the end of each phase."""
    began: dict[str, float] = {}
    ended: set[str] = set()
    reported = 0.0

    def report(phase: str, done: int, total: int, unit: str) -> None:
        nonlocal reported
        now = time.monotonic()
        start = began.setdefault(phase, now)
        over = done >= total and phase not in ended
        if not over and now - reported < _REPORT_SECONDS:
            return
        reported = now
        if over:
            ended.add(phase)
        rate = done / (now - start) if now > start else None
        event = events.Progress(time=time.time(), phase=phase, done=done, total=total, unit=unit, rate=rate)
        _write(2, events.encode(event))

    return report


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
