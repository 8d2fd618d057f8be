"""How fast a card is: as measured on this machine by `python -m engine bench`, else as published."""

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

from engine.contract import places
from engine.contract.atomic import write_text

Source = Literal["measured", "published", "guessed"]
_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Rates:
    """FLOP a second of large bf16 products; bytes a second of the card's `memory`, `up` from page-locked host memory,
    `down` to it, and each way when `both` go at once."""

    card: str
    products: float
    memory: float
    up: float
    down: float
    both: float
    source: Source = "measured"


# By part of the name, more special ones first: TFLOP/s of dense bf16 products summed in fp32, GB/s of memory, GB/s of
# the link. Makers' figures, but for the H100's, which were measured and are far below its maker's.
_PUBLISHED: tuple[tuple[str, float, float, float], ...] = (
    ("H200", 772, 4100, 54.9),
    ("H100", 772, 2850, 54.9),
    ("A100", 270, 1600, 24.5),
    ("L40S", 300, 735, 24.5),
    ("RTX A6000", 140, 650, 24.5),
    ("RTX 5090", 209, 1520, 50.0),
    ("RTX 5080", 112, 815, 50.0),
    ("RTX 5070 Ti", 88, 760, 50.0),
    ("RTX 5070", 62, 570, 50.0),
    ("RTX 4090", 165, 855, 24.5),
    ("RTX 4080", 97, 610, 24.5),
    ("RTX 4070 Ti", 80, 430, 24.5),
    ("RTX 4070", 58, 430, 24.5),
    ("RTX 4060 Ti", 44, 245, 12.3),
    ("RTX 4060", 30, 230, 12.3),
    ("RTX 3090", 71, 795, 24.5),
    ("RTX 3080", 59, 645, 24.5),
    ("RTX 3070", 40, 380, 24.5),
    ("RTX 3060 Ti", 32, 380, 24.5),
    ("RTX 3060", 25.5, 306, 24.5),
)
_COMMON = "RTX 3060"
_BOTH = 0.7  # of the link's rate, each way


def rates_of(card: str | None) -> Rates:
    """Of the card of this name under the driver and torch that are installed. None, or a card that nothing is known of,
    is taken for a common one."""
    if card is None:
        return _published(_COMMON, _COMMON, "guessed")
    if (found := _read().get(key(card))) is not None:
        return found
    known = next((part for part, *_ in _PUBLISHED if part in card), None)
    return _published(card, known or _COMMON, "published" if known else "guessed")


def keep(rates: Rates) -> Path:
    """Note what was measured; forecasts use it from now on. Raises OSError."""
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True)
    document = _read() | {key(rates.card): rates}
    write_text(path, msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
    return path


def key(card: str) -> str:
    """What a measurement holds for."""
    return f"{card}, driver {driver()}, torch {_torch()}"


def driver() -> str:
    """The NVIDIA driver's version, or "unknown"."""
    try:
        found = re.search(r"\d+\.\d+(\.\d+)?", _DRIVER.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return "unknown"
    return found[0] if found else "unknown"


def _torch() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "unknown"


def _file() -> Path:
    return places.data_folder() / "cards.json"


def _read() -> dict[str, Rates]:
    """What cannot be read is measured again."""
    try:
        return msgspec.json.decode(_file().read_bytes(), type=dict[str, Rates])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _published(card: str, part: str, source: Source) -> Rates:
    products, memory, link = next(row[1:] for row in _PUBLISHED if row[0] == part)
    return Rates(card, products * 1e12, memory * 1e9, link * 1e9, link * 1e9, _BOTH * link * 1e9, source)
