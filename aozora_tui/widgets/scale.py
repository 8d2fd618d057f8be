"""Axes without a screen: numbers as short text, round ticks, and ranges that do not twitch with every point."""

import math
from itertools import pairwise

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
ROUND_FACTORS = (1.0, 2.0, 5.0, 10.0)
NEGLIGIBLE = 1e-290  # below this a span counts as none: arithmetic on its steps would underflow
KEEP_SPAN = 0.3  # a range stays while the data fill at least this share of it


def short(value: float, digits: int = 4) -> str:
    """`value` to `digits` significant places: `0.1234`, `12.34`, `1.234k`, `1.500e-5`; `not finite` for NaN and inf."""
    if not math.isfinite(value):
        return "not finite"
    value = float(f"{value:.{digits - 1}e}")  # first, so that 999.96 becomes 1.000k and not 1000
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e15:
        return _exponent(f"{value:.{digits - 1}e}")
    for factor, prefix in PREFIXES:
        if size >= factor:
            return f"{value / factor:.{max(0, digits - 1 - int(math.log10(size / factor)))}f}{prefix}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(size))) if size >= 1 else digits}f}"


def whole(value: float) -> str:
    """A step number: `1,500` up to six digits, then shortened: `1.25M`."""
    return f"{value:,.0f}" if abs(value) < 1e6 else short(value, 3)


def nice_step(span: float, count: int) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that cuts `span` into at most `count` pieces."""
    rough = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in ROUND_FACTORS if factor * power >= rough * (1 - 1e-9))


def linear_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Round values from `low` to `high`, about `count` of them."""
    step = nice_step(high - low, count)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))


def log_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Powers of ten from `low` to `high`, with their 2 and 5 fold where there is room for these; low must be > 0."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [float(f"{factor}e{decade}") for decade in decades for factor in (1, 2, 5)]
    inside = [tick for tick in fine if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
    if len(inside) <= max(count, 2):
        return tuple(inside)
    powers = [tick for tick in inside if f"{tick:e}".startswith("1.0000")]
    return tuple(powers[:: math.ceil(len(powers) / max(count, 1))])


def tick_labels(ticks: tuple[float, ...]) -> tuple[str, ...]:
    """One label a tick, with as many decimals as tell neighbours apart and no more."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    if largest == 0 or largest < 1e-3 or largest >= 1e15:
        return tuple("0" if tick == 0 else _trimmed(tick) for tick in ticks)
    factor, prefix = next(((f, p) for f, p in PREFIXES if largest >= 10 * f), (1.0, ""))
    steps = [abs(after - before) / factor for before, after in pairwise(ticks)]
    even = len(steps) > 0 and max(steps) < 1.001 * min(steps)
    if not even:
        return tuple(_trimmed(tick) for tick in ticks)
    decimals = max(0, -math.floor(math.log10(min(steps)) + 1e-9))
    return tuple("0" if tick == 0 else f"{tick / factor:.{decimals}f}{prefix}" for tick in ticks)


def settle(previous: tuple[float, float] | None, low: float, high: float, *, log: bool = False) -> tuple[float, float]:
    """The y range for data from `low` to `high`: `previous` while it still fits them, else one with round ends.

    A range that moved with every new extreme would repaint the whole chart each time. With `log`, low must be > 0.
    """
    if previous is not None and previous[0] <= low and high <= previous[1]:
        filled = math.log(high / low) / math.log(previous[1] / previous[0]) if log else _share(low, high, previous)
        if filled >= KEEP_SPAN or high - low <= 1e-6 * abs(high):
            return previous
    return _round_decades(low, high) if log else _round_ends(low, high)


def reach(previous: float | None, last: float) -> float:
    """The end of an x axis of unknown length: `previous` while it suffices, else the next round number."""
    if previous is not None and 0.1 * previous <= last <= previous:  # far below: these are other data
        return previous
    return nice_step(last, 1) if last > NEGLIGIBLE else 1.0


def _share(low: float, high: float, span: tuple[float, float]) -> float:
    return (high - low) / (span[1] - span[0])


def _round_ends(low: float, high: float) -> tuple[float, float]:
    size = max(abs(low), abs(high))
    if size < NEGLIGIBLE:
        return 0.0, 1.0
    if high - low <= size * 1e-6:  # a constant: in the middle, with zero in sight
        return (0.0, 2 * high) if high > 0 else (2 * low, 0.0)
    if 0 <= low < KEEP_SPAN * high:  # near zero is as good as zero, and zero does not move
        low = 0.0
    step = nice_step(high - low, 5)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _round_decades(low: float, high: float) -> tuple[float, float]:
    floor_power, ceiling_power = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.floor(math.log10(high))
    bottom = max((f * floor_power for f in ROUND_FACTORS if f * floor_power <= low), default=low)
    top = min((f * ceiling_power for f in ROUND_FACTORS if f * ceiling_power >= high), default=high)
    return (bottom, top) if top > bottom * 1.5 else (bottom / 2, top * 2)


def _trimmed(value: float) -> str:
    size = abs(value)
    factor, prefix = next(((f, p) for f, p in PREFIXES if f <= size < 1e15), (1.0, ""))
    if 0 < size < 1e-3:  # the `g` format would write 0.0001 among 1e-6 and 1e-5
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return _exponent(f"{value / factor:.4g}") + prefix


def _exponent(text: str) -> str:
    """`1.5e-05` as `1.5e-5`; text without an exponent as it is."""
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else text
