"""How fast a card is: as measured on this machine by `python -m engine bench`, else as published."""

import json
import re
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

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
# Slower by far than the cards whose names they carry.
_MOBILE = re.compile(r"laptop|max-q|mobile", re.IGNORECASE)
# Of a card that can exist; not a number is none of it.
_POSSIBLE = {
    "products": (1e10, 1e18),
    "memory": (1e9, 1e15),
    "up": (1e7, 1e14),
    "down": (1e7, 1e14),
    "both": (1e7, 1e14),
}
_BOTH = 0.7  # of the link's rate, each way


def rates_of(card: str | None) -> Rates:
    """Of the card of this name under the driver and torch that are installed. None, or a card that nothing is known of,
    is taken for a common one."""
    if card is None:
        return _published(_COMMON, _COMMON, "guessed")
    if (found := _read().get(key(card))) is not None:
        return found
    known = next((part for part, *_ in _PUBLISHED if part in card), None) if not _MOBILE.search(card) else None
    return _published(card, known or _COMMON, "published" if known else "guessed")


@dataclass(frozen=True)
class Noted:
    """Where measurements stand, and where a file lies now that stood there and could not be read, if one did."""

    path: Path
    aside: Path | None = None


def keep(rates: Rates) -> Noted:
    """Note what was measured; forecasts use it from now on. Others' entries stay as they are. Raises OSError."""
    path, aside = _file(), None
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        document = _document(path)
    except FileNotFoundError:
        document = {}
    except ValueError:
        document, aside = {}, _unused(path)
        path.rename(aside)
    write_text(path, json.dumps(document | {key(rates.card): asdict(rates)}, indent=2) + "\n")
    return Noted(path, aside)


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
    """What cannot be read, or cannot be, is measured again."""
    try:
        document = _document(_file())
    except (OSError, ValueError):
        return {}
    found = {name: _entry(value) for name, value in document.items()}
    return {name: rates for name, rates in found.items() if rates}


def _document(path: Path) -> dict[str, Any]:
    """Raises ValueError for what is no JSON object."""
    try:
        # As floats whole numbers may have thousands of digits.
        document = json.loads(path.read_text(encoding="utf-8"), parse_int=float)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("it is no object")
    return document


def _entry(value: object) -> Rates | None:
    try:
        rates = msgspec.convert(value, Rates)
    except msgspec.ValidationError:
        return None
    return rates if all(low <= getattr(rates, name) <= high for name, (low, high) in _POSSIBLE.items()) else None


def _unused(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.unreadable{number or ''}") for number in range(10_000))
    return next(name for name in names if not name.exists())


def _published(card: str, part: str, source: Source) -> Rates:
    products, memory, link = next(row[1:] for row in _PUBLISHED if row[0] == part)
    return Rates(card, products * 1e12, memory * 1e9, link * 1e9, link * 1e9, _BOTH * link * 1e9, source)
