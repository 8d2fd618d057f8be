"""Signs of health of the box: data, heat, memory, disk, and what a power cut would cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise
from statistics import median

from engine.contract.events import Machine
from engine.contract.health_past import Past
from engine.contract.health_rules import Evidence, gib, hours

# Data: of the time of at least so many steps and seconds.
DATA_SHARE, DATA_SHARE_OVER = 0.25, 0.15
DATA_STEPS = 64
DATA_SECONDS = 60.0
# Heat: at so many looks in a row, 30 s apart; over after as many.
HEAT_LOOKS = 4
HEAT_NEAR, HEAT_NEAR_OVER = 3, 8  # degrees below the temperature at which the card slows itself down
# Spill: a card this full for so many looks, and steps that take so much longer than when it was not.
FULL = 0.97
FULL_LOOKS = 3
SLOWER, SLOWER_OVER = 1.5, 1.2
USUAL_BLOCKS = 4
OVER_ROOM = 1.02
# Disk: what a checkpoint needs (it asks for a tenth more than its tensors); a drain that lasts.
CHECKPOINT_MARGIN, CHECKPOINT_MARGIN_OVER = 1.1, 1.25
DRAIN_SECONDS = 3600
DRAIN_BYTES = 256 << 20
DRAIN_STEADY = 0.1  # of it at least from each quarter of the time to the next: a file that was copied there is no drain
DRAIN_FEW = 8  # all but one in so many looks of the last quarter show less than those of the first
DRAIN_OVER = 1.5
# Checkpoint: so much later than usual, or none in so long; in time of training.
OVERDUE = 2.0
OVERDUE_LEAST = 30 * 60
OVERDUE_UNKNOWN = 6 * 3600
GAPS_KNOWN = 2


def starvation(past: Past, holds: bool) -> Evidence | None:
    """The device waits for pictures."""
    data = spent = 0.0
    steps = 0
    for block in reversed(past.blocks):
        data, spent, steps = data + block.data, spent + block.spent, steps + block.last - block.first + 1
        if spent >= DATA_SECONDS and steps >= DATA_STEPS:
            break
    else:
        return None
    if data < (DATA_SHARE_OVER if holds else DATA_SHARE) * spent:
        return None
    return Evidence(
        f"{data / spent:.0%} of the last {steps} steps' time went by waiting for data: {hours(data)} of {hours(spent)}",
        "Put the cache (data.cache) on a local or faster disk, and see what else reads from it or keeps the "
        "processor busy.",
    )


def heat(past: Past, holds: bool) -> Evidence | None:
    """The card slows itself down because it is too hot, or is about to."""
    last = _looks(past, HEAT_LOOKS)
    near = HEAT_NEAR_OVER if holds else HEAT_NEAR
    hot = [_is_hot(look, near) for look in last]
    if len(last) < HEAT_LOOKS or not (any(hot) if holds else all(hot)):
        return None
    now = last[-1]
    slowed = any("thermal" in look.throttled for look in last)
    celsius = f"at {now.temperature} C" if now.temperature is not None else "too hot"
    limit = f", where {now.temperature_limit} C is its limit" if now.temperature_limit is not None else ""
    what = "is slowed down by heat" if slowed else "is close to being slowed down by heat"
    return Evidence(
        f"the card {what}: {celsius}{limit}",
        "See to its fans, dust and airflow, or lower its power limit (`nvidia-smi -pl`), which costs less speed.",
    )


def spill(past: Past, holds: bool) -> Evidence | None:
    """The card is full, and steps got slower: drivers for Windows and WSL then use the host's memory instead."""
    since = past.full_since
    if since is None or not past.blocks:
        return None
    last = _looks(past, FULL_LOOKS)
    if len(last) < FULL_LOOKS or last[0].time < since:
        return None
    block, now = past.blocks[-1], last[-1]
    room = past.planned.room if past.planned else 0
    over_room = room > 0 and block.reserved > OVER_ROOM * room
    usual = median(past.usual_seconds) if len(past.usual_seconds) >= USUAL_BLOCKS else None
    slower = block.seconds / usual if usual and block.began >= since else 0.0
    if not over_room and slower < (SLOWER_OVER if holds else SLOWER):
        return None
    how = f"steps take {slower:.1f} times as long as before" if slower >= SLOWER_OVER else "more than it has room for"
    forecast = f", of {gib(room)} it was to take" if over_room else ""
    return Evidence(
        f"the card is full ({gib(now.card_used)} of {gib(now.card_total)}) and {how}: this run holds "
        f"{gib(block.reserved)}{forecast}; the driver may be using the host's memory instead",
        "End other programs on the card, or set memory.limit lower and resume. On Windows, forbid the system memory "
        "fallback in the NVIDIA control panel.",
    )


def disk(past: Past, holds: bool) -> Evidence | None:
    """The next checkpoint has no room, or the disk will be full before the run ends. To be asked when past.settled."""
    if not past.machines or not past.started or past.step >= past.steps:
        return None
    free = past.machines[-1].disk_free
    needed = past.saved_bytes
    if free < (CHECKPOINT_MARGIN_OVER if holds else CHECKPOINT_MARGIN) * needed:
        return Evidence(
            f"the disk has {gib(free)} left, and the next checkpoint needs about {gib(CHECKPOINT_MARGIN * needed)}",
            "Make room where the run folder lies; without it no step is kept.",
            "danger" if free < CHECKPOINT_MARGIN * needed else "warning",
        )
    drain, remaining = _drain(past), past.remaining
    if drain <= 0 or remaining is None:
        return None
    lasts = (free - CHECKPOINT_MARGIN * needed) / drain
    if lasts > remaining * (DRAIN_OVER if holds else 1):
        return None
    return Evidence(
        f"the disk fills: {gib(free)} are left and {gib(3600 * drain)} an hour go, enough for {hours(lasts)}, and the "
        f"run needs {hours(remaining)}",
        "See what writes there (the run itself takes little but for its checkpoints), or make room.",
    )


def overdue(past: Past, _: bool) -> Evidence | None:
    """A power cut would cost more than usual."""
    since = past.trained - past.saved_at
    longest = max(past.gaps, default=0.0)
    limit = max(OVERDUE * longest, OVERDUE_LEAST if len(past.gaps) >= GAPS_KNOWN else OVERDUE_UNKNOWN)
    if not past.started or since <= limit:
        return None
    last = f"since the last checkpoint, of step {past.saved_step}" if past.gaps else "and no checkpoint yet"
    usual = f"; the longest before was {hours(longest)}" if len(past.gaps) >= GAPS_KNOWN else ""
    return Evidence(
        f"{hours(since)} of training {last}{usual}: a power cut would cost them",
        "Save now with `aozora-tui save`, or set save.every lower in the run's profile.toml and resume.",
    )


def _is_hot(look: Machine, near: int) -> bool:
    if "thermal" in look.throttled:
        return True
    if look.temperature is None or look.temperature_limit is None:
        return False
    return look.temperature >= look.temperature_limit - near


def _looks(past: Past, count: int) -> Sequence[Machine]:
    return list(islice(past.machines, max(0, len(past.machines) - count), None))


def _drain(past: Past) -> float:
    """Bytes a second by which the free disk falls, checkpoints left out; 0 if it does not, or not steadily."""
    levels = past.levels
    seconds = levels[-1][0] - levels[0][0]
    if seconds < DRAIN_SECONDS or levels[0][1] - levels[-1][1] < DRAIN_BYTES / 2:  # spares the rest, as nearly always
        return 0.0
    free = [level for _, level in levels]
    quarter = len(free) // 4
    parts = [sorted(free[-(n + 1) * quarter : len(free) - n * quarter]) for n in reversed(range(4))]
    few = quarter // DRAIN_FEW
    fall = median(parts[0]) - median(parts[3])
    if fall < DRAIN_BYTES or parts[0][few] <= parts[3][-1 - few]:  # others' files come and go
        return 0.0
    if min(median(a) - median(b) for a, b in pairwise(parts)) < DRAIN_STEADY * fall:
        return 0.0
    return fall / (seconds * 3 / 4)
