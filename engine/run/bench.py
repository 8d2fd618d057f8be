"""What forecasts of time rest on, measured on the card that is here: `python -m engine bench`. A few seconds.

Nothing heavy is imported before it is known that it is needed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract import card_rates
from engine.contract import profile as profiles
from engine.contract.card_rates import Rates
from engine.contract.problems import Problem, ProfileError

if TYPE_CHECKING:
    import torch

OK, FAILED, WRONG = 0, 1, 2
SECONDS = 0.3  # of each measurement
BLOCK = 512 << 20  # bytes that are moved: far more than any card's cache
# The two products of a feed-forward of SDXL's deep blocks, for sixteen pictures at 1024 x 1024: rows, inner, columns.
PRODUCTS = ((16384, 1280, 10240), (16384, 5120, 1280))

Work = Callable[[], object]
Say = Callable[[str], None]


def bench(path: Path | None, stdout: int) -> int:
    """Measure, print a table to the descriptor `stdout`, and note it for forecasts to come. `path` is a profile whose
    device is taken, else the first card. Exit code 2 where there is no card that answers, with a sentence on the last
    line."""
    with _Lines(stdout) as say:
        return _bench(path, say)


def _bench(path: Path | None, say: Say) -> int:
    import torch

    from engine.run.base import pick_device
    from engine.run.errors import RunError

    try:
        wanted = _device_named(path) if path else "auto"
        if wanted == "cpu":
            say(f"{path} names the processor (memory.device): there is no card to measure.")
            return WRONG
        device = pick_device(wanted)
        if device.type != "cuda":
            say("There is no NVIDIA card to measure: forecasts keep to published figures.")
            return WRONG
        rates = measure(device)
    except (ProfileError, RunError) as error:
        say(str(error))
        return WRONG
    except torch.OutOfMemoryError:
        say("The card is too full to be measured: 2 GiB have to be free. See nvidia-smi.")
        return FAILED
    except RuntimeError as error:  # a driver or a card that is broken
        reason = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
        say(f"The card does not answer ({reason}): run `aozora-tui doctor`.")
        return WRONG
    say("\n".join(table(rates)))
    return _note(rates, say)


def _note(rates: Rates, say: Say) -> int:
    try:
        noted = card_rates.keep(rates)
    except OSError as error:
        say(f"It was measured, but could not be noted: {error}")
        return FAILED
    if noted.aside:
        say(f"{noted.path} could not be read: what it held lies in {noted.aside} now")
    say(f"noted in {noted.path}: forecasts use it from now on")
    return OK


def _device_named(path: Path) -> str:
    """Raises ProfileError."""
    if path.exists() and not path.is_file():
        problem = Problem(str(path), "is not a file", "Name a profile, a .toml file.")
        raise ProfileError(str(path), [problem])
    return profiles.load(path).memory.device


def table(rates: Rates) -> list[str]:
    """As lines."""
    return [
        f"card            {card_rates.key(rates.card)}",
        f"bf16 products   {rates.products / 1e12:,.1f} TFLOP/s",
        f"its memory      {rates.memory / 1e9:,.1f} GB/s",
        f"from the host   {rates.up / 1e9:,.1f} GB/s",
        f"to the host     {rates.down / 1e9:,.1f} GB/s",
        f"both at once    {rates.both / 1e9:,.1f} GB/s each way",
    ]


def measure(device: torch.device) -> Rates:
    """Needs 2 GiB of the card. Raises torch.OutOfMemoryError."""
    import torch

    from engine.run.base import use

    use(device)
    here, there = (torch.empty(BLOCK, dtype=torch.uint8, device=device) for _ in range(2))
    host, back = (torch.empty(BLOCK, dtype=torch.uint8, pin_memory=True) for _ in range(2))
    beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def both() -> None:
        with torch.cuda.stream(beside):
            back.copy_(there, non_blocking=True)
        here.copy_(host, non_blocking=True)
        torch.cuda.current_stream(device).wait_stream(beside)
        beside.wait_stream(torch.cuda.current_stream(device))

    memory = 2 * BLOCK / _seconds(lambda: there.copy_(here), device)
    up = BLOCK / _seconds(lambda: here.copy_(host, non_blocking=True), device)
    down = BLOCK / _seconds(lambda: back.copy_(there, non_blocking=True), device)
    each = BLOCK / _seconds(both, device)
    return Rates(torch.cuda.get_device_name(device), _products(device), memory, up, down, each)


def _products(device: torch.device) -> float:
    """FLOP a second of both together."""
    import torch

    pairs = [
        (torch.randn(rows, inner, device=device).bfloat16(), torch.randn(inner, columns, device=device).bfloat16())
        for rows, inner, columns in PRODUCTS
    ]
    flop = sum(2 * rows * inner * columns for rows, inner, columns in PRODUCTS)
    return flop / _seconds(lambda: [left @ right for left, right in pairs], device)


def _seconds(work: Work, device: torch.device) -> float:
    """Of one time, when it is done over and over: cards need a moment to reach their clock."""
    import torch

    work()  # libraries load what they need
    torch.cuda.synchronize(device)
    times, taken = 1, 0.0
    while taken < SECONDS:
        times = times if not taken else max(times + 1, min(10 * times, round(1.2 * times * SECONDS / taken)))
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        for _ in range(times):
            work()
        end.record()
        torch.cuda.synchronize(device)
        taken = begin.elapsed_time(end) / 1e3
    return taken / times


class _Lines:
    """On a descriptor, each at once; whether anybody reads them is no matter."""

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8")

    def __enter__(self) -> Say:
        return self._say

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(f"{text}\n")
            self._stream.flush()
