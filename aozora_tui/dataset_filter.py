"""What the list of pictures can be searched by. No Textual."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aozora_tui.dataset_survey import Placed

# What finds pictures that are not as they should be.
FAULTS: dict[str, Callable[[Placed], bool]] = {
    "is:uncaptioned": lambda placed: not placed.picture.captioned,
    "is:cropped": lambda placed: placed.cropped,
    "is:enlarged": lambda placed: placed.placement.upscaled,
}


def searched(placed: Placed) -> str:
    """Name, caption, bucket and what is the matter, in small letters."""
    marks = " ".join(mark for mark, holds in FAULTS.items() if holds(placed))
    return f"{placed.name}\n{placed.picture.caption}\n{size_of(placed)}\n{marks}".lower()


def next_fault(texts: Sequence[str], now: str) -> str | None:
    """What to search for after `now`: the next fault that one of the `searched` has, "" after the last; None if there
    is no fault at all."""
    found = [mark for mark in FAULTS if any(mark in text for text in texts)]
    if not found:
        return None
    after = found.index(now) + 1 if now in found else 0
    return found[after] if after < len(found) else ""


def size_of(placed: Placed) -> str:
    """Of its bucket."""
    return f"{placed.bucket.width}x{placed.bucket.height}"
