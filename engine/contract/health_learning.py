"""Signs of health that are seen in the steps themselves."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from itertools import chain, islice
from operator import attrgetter
from statistics import fmean, median

from engine.contract.health_past import BLOCK, GROUP, Block, Past, Point, noise
from engine.contract.health_rules import Evidence

# Plateau: judged after a fall only. The loss of a fine-tuning that never fell says nothing.
PLATEAU_STEPS = 1024  # the last of them, or this share of all, if that is more
PLATEAU_SHARE = 0.3
PLATEAU_FALL = 0.05  # the loss must have fallen by this before, and by this many times what chance may do
PLATEAU_SIGMAS = 4.0
PLATEAU_GAIN = 0.02  # their second half gained less than this on the first,
PLATEAU_OF_PACE = 1 / 3  # and less than this part of what the pace of the fall had given
PLATEAU_RATE = 0.3  # of the highest rate: below it nobody expects more, as at the end of a cosine
# Divergence: the last 32 steps, and more surely the last 256, against the best part of the run.
DIVERGENCE_RISE = 0.25
DIVERGENCE_SIGMAS = 8.0  # many: the noise is only estimated, and looked at ten thousand times
DIVERGENCE_BEST_SIGMAS = 3.0  # so much the best of many is better by chance
DIVERGENCE_BLOCKS = (2, 16)
DIVERGENCE_LEAST = 9  # blocks, before which nothing is known of the noise
# Spikes: far from the median, by the spread of 256 steps and at least threefold.
SPIKE_BLOCKS = 16
SPIKE_SIGMAS = 6.0  # a normal distribution has one in a thousand million there, a heavy-tailed one a few in a thousand
SPIKE_LEAST = 3.0
SPIKE_SPREAD = 1e3  # so wide a spread has no spikes
ONE_SIGMA = 0.8413  # the share of a normal distribution below its first standard deviation
SPIKE_SHARE, SPIKE_SHARE_OVER = 0.02, 0.01
# Clipping: of the last 128 steps.
CLIP_BLOCKS = 8
CLIP_SHARE, CLIP_SHARE_OVER = 0.8, 0.5
CLIP_WARMUP = 1.02  # a rate that rises so much over them is still warming up, when gradients are large
# A rate this small against the highest one so far is none. Schedules that fall to nothing do so at their end.
ZERO_RATE = 1e-12
ZERO_STEPS = 8
SCHEDULE_END = 0.9
# Skipped steps: so many in the last 256.
SKIP_LEAST = 3
SKIP_STEPS = 256
SKIP_NAMES = 3
SKIP_HURRY = 16  # so many steps for as many is worse


def plateau(past: Past, holds: bool) -> Evidence | None:
    """The loss fell, and now, at a rate that still matters, it does not."""
    points = past.curve.points
    window = _last(points, max(PLATEAU_STEPS, PLATEAU_SHARE * past.step))
    before = points[: len(points) - len(window)]
    if len(window) < PLATEAU_STEPS // (BLOCK * GROUP) or len(before) < 4:
        return None
    if min(point.lr for point in window) < PLATEAU_RATE * past.peak:
        return None
    half = len(window) // 2
    start, early, late = (fmean([each.loss for each in part]) for part in (before[:4], window[:half], window[-half:]))
    fall, gain = start - early, early - late
    pace = fall / (window[half // 2].last - before[1].last)
    limit = min(PLATEAU_GAIN, PLATEAU_OF_PACE * pace * (window[half].last - window[0].last))
    spread = past.curve.spread(noise([block.loss for block in past.blocks]))
    uncertain = spread * math.sqrt(2 / half)
    if holds and (fall <= 0 or gain - 2 * uncertain > limit):
        return None
    # What the medians are by chance must not be taken for a plain.
    sure = fall > max(PLATEAU_FALL, PLATEAU_SIGMAS * spread / 2) and gain + 2 * uncertain <= limit >= 2 * uncertain
    if not (holds or sure):
        return None
    first = before[-1].last + 1
    return Evidence(
        f"the loss no longer falls: its median in the last {window[-1].last - first + 1} steps went from "
        f"{math.exp(early):.4g} to {math.exp(late):.4g} (within {2 * uncertain:.1%}), after a fall of "
        f"{-math.expm1(-fall):.0%}",
        "Compare previews of now and then: if they no longer get better, stop and take the export; or let the rate "
        "fall with `aozora-tui lr 0.3`.",
        "notice",
        since=first,
    )


def divergence(past: Past, holds: bool) -> Evidence | None:
    """The loss is far above what it was at its best, and rises."""
    blocks, best = past.blocks, past.curve.best
    if best is None or len(blocks) < DIVERGENCE_LEAST:
        return None
    losses = [block.loss for block in blocks]
    least = math.log1p(DIVERGENCE_RISE)
    levels = [(count, fmean(losses[-count:])) for count in DIVERGENCE_BLOCKS if len(losses) >= 2 * count]
    if all(now - best.loss < least / 2 for _, now in levels):  # spares the noise, as nearly always
        return None
    sigma = noise(losses)
    chance = DIVERGENCE_BEST_SIGMAS * past.curve.spread(sigma)
    for count, now in levels:
        limit = max(least, DIVERGENCE_SIGMAS * sigma / math.sqrt(count) + chance)
        rise = now - best.loss
        if rise > limit / 2 if holds else rise > limit and now > fmean(losses[-2 * count : -count]):
            return _diverged(count * BLOCK, now, best)
    return None


def _told(number: float, digits: int = 4) -> str:
    """Without an exponent as long as anybody can read it."""
    return f"{number:.{digits}g}" if number < 1000 or number >= 1e9 else f"{number:,.0f}"


def _diverged(steps: int, now: float, best: Point) -> Evidence:
    return Evidence(
        f"the loss diverges: in the last {steps} steps it is about {_told(math.exp(now))}, "
        f"{_told(math.exp(now - best.loss), 2)} times the best, {_told(math.exp(best.loss))} at step {best.last}",
        "Lower the rate with `aozora-tui lr 0.3`. If it does not come down again, stop, and go on from a checkpoint of "
        "before with a lower optimizer.learning_rate.",
        "danger",
    )


def spikes(past: Past, holds: bool) -> Evidence | None:
    """Too many losses are far above the others, now as before."""
    if len(past.blocks) < SPIKE_BLOCKS:
        return None
    losses = [*chain.from_iterable(block.losses for block in _last_blocks(past, SPIKE_BLOCKS))]
    ordered = sorted(losses)
    middle, above, most = (ordered[int(share * len(ordered))] for share in (0.5, ONE_SIGMA, 1 - 1e-9))
    if middle <= 0 or most < SPIKE_LEAST * middle:
        return None
    # By the spread above the median alone, of logarithms: below it lie the timesteps that are easy.
    limit = middle * max(SPIKE_LEAST, min(above / middle, SPIKE_SPREAD) ** SPIKE_SIGMAS)
    half = len(losses) // 2
    found = [sum([loss > limit for loss in part]) / half for part in (losses[:half], losses[half:])]
    if min(found) < SPIKE_SHARE and not (holds and fmean(found) >= SPIKE_SHARE_OVER):
        return None
    return Evidence(
        f"{round(sum(found) * half)} of the last {len(losses)} losses are spikes: above {limit:.4g}, where the median "
        f"is {middle:.4g}; the highest is {most:.4g}",
        "Look at the pictures of those steps, lower the rate, accumulate more, or set train.damping.",
    )


def clipping(past: Past, holds: bool) -> Evidence | None:
    """Nearly every gradient is clipped, so that its limit says how large a step is."""
    if len(past.blocks) < CLIP_BLOCKS:
        return None
    if not (holds or past.blocks[-1].clipped):  # spares the sum, as nearly always
        return None
    last = _last_blocks(past, CLIP_BLOCKS)
    steps = CLIP_BLOCKS * BLOCK
    count = sum(block.clipped for block in last)
    if count < (CLIP_SHARE_OVER if holds else CLIP_SHARE) * steps:
        return None
    if not holds and last[-1].rates[-1] > CLIP_WARMUP * last[0].rates[0]:
        return None
    usual = median(chain.from_iterable(block.norms for block in last))
    return Evidence(
        f"{count} of the last {steps} steps were clipped: the gradient's norm is {usual:.3g} in the middle",
        f"If that is not meant, raise train.max_grad_norm above {usual:.2g}, or accumulate more.",
        "notice",
    )


def zero_rate(past: Past, _: bool) -> Evidence | None:
    """Nothing is learnt, though the schedule is not at its end."""
    since = past.zero_since
    if since is None or past.step - since + 1 < ZERO_STEPS or past.step >= SCHEDULE_END * past.steps:
        return None
    left = past.steps - past.step
    text = f"the learning rate is 0 since step {since}, and {left} steps are left: nothing is learnt"
    if past.factor == 0:
        return Evidence(text, "It was commanded: `aozora-tui lr 1` lets it learn again.", since=since)
    return Evidence(text, "Stop it, or look at [schedule] in the run's profile.toml and resume.", since=since)


def skipped(past: Past, holds: bool) -> Evidence | None:
    """Losses or gradients that are not finite, again and again."""
    last = [skip for skip in past.skips if skip.step > past.step - SKIP_STEPS]
    if len(last) < SKIP_LEAST and not (holds and last):
        return None
    named = Counter(name for skip in last for name in set(skip.names))
    again = [name for name, times in named.items() if times == len(last) > 1]
    again = again if len(again) <= SKIP_NAMES else []  # of few pictures all are in every step
    hurried = len(last) >= SKIP_LEAST and last[-1].step - last[-SKIP_LEAST].step < SKIP_HURRY
    where = f", each time with {' and '.join(again)}" if again else ""
    return Evidence(
        f"{len(last)} of the last {SKIP_STEPS} steps were skipped: {last[-1].reason}{where}",
        "Take those pictures out of the folder." if again else "Lower the rate, or train in fp32 (model.precision).",
        "danger" if hurried else "warning",
        since=last[0].step,
    )


def _last(points: list[Point], steps: float) -> list[Point]:
    """The points of at least so many last steps."""
    if not points:
        return []
    return points[bisect_right(points, points[-1].last - steps, key=attrgetter("last")) :]


def _last_blocks(past: Past, count: int) -> list[Block]:
    return list(islice(past.blocks, len(past.blocks) - count, None))
