"""What happens to a caption between the cache and the network."""

from engine.contract.seeding import fraction


def is_dropped(seed: int, position: int, probability: float) -> bool:
    """Whether the sample drawn at `position` is trained without its caption: context and pooled vector both."""
    return fraction(seed, "dropout", position) < probability
