"""Every random draw of a run starts here: a number that depends on the seed, the purpose and the position alone."""

from hashlib import blake2b

BITS = 63


def derive(seed: int, stream: str, position: int) -> int:
    """A number in [0, 2**63), fit for `torch.Generator.manual_seed`. `stream` names the purpose ("noise", "order"),
    so that draws for different purposes at one position are independent. 0 is a seed like any other."""
    # The two integers come first: no choice of stream name can imitate another (seed, position).
    text = f"{seed}:{position}:{stream}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def fraction(seed: int, stream: str, position: int) -> float:
    """A number in [0, 1), the coin of that draw."""
    # 53 bits: what a float holds exactly, so that the result never rounds up to 1.
    return (derive(seed, stream, position) >> (BITS - 53)) / 2.0**53
