"""Which pictures are held out of the training, to measure a run by."""

from collections.abc import Sequence
from hashlib import blake2b

# Bytes of the file, width and height: known before a picture is read, and the same for its copies and under any name.
Looks = tuple[int, int, int]


def held_out(pictures: Sequence[Looks], count: int) -> list[list[int]]:
    """For each of `count` different pictures where it and its copies stand: no copy may be learnt from. The choice
    hangs on the pictures alone, so that runs can be compared, and one that comes or goes moves few of the others.

    Raises ValueError if none would be left.
    """
    if count == 0:
        return []
    places: dict[Looks, list[int]] = {}
    for place, looks in enumerate(pictures):
        places.setdefault(looks, []).append(place)
    different = sorted(places, key=_digest)
    if count >= len(different):
        held = f"{count} picture{'' if count == 1 else 's'} cannot be held out"
        raise ValueError(f"{held}: there {'is' if len(different) == 1 else 'are'} only {len(different)}")
    return [places[looks] for looks in different[:count]]


def _digest(looks: Looks) -> bytes:
    return blake2b(repr(looks).encode(), digest_size=20).digest()
