"""Small things that are written the same everywhere: times, sizes, rates, tables, other people's text."""

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

GREATEST_FACTOR = 1000  # that the engine takes
# As the engine counts an update.
_GROUPS = {
    "unet": "UNet",
    "text_encoder": "text encoder 1",
    "text_encoder_2": "text encoder 2",
    "token_embedding": "token embedding",
}
_BRIEF = {"text_encoder": "text 1", "text_encoder_2": "text 2", "token_embedding": "tokens"}


def printable(text: str) -> str:
    """The text with every character that could steer a terminal written out: names of files are other people's."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def duration(seconds: float) -> str:
    """`42 s`, `3:07`, `1:02:11`, `2 d 03:10`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    if hours < 1:
        return f"{rest // 60}:{rest % 60:02}"
    if hours < 24:
        return f"{hours}:{rest // 60:02}:{rest % 60:02}"
    return f"{hours // 24} d {hours % 24:02}:{rest // 60:02}"


def age(seconds: float) -> str:
    """How long ago, coarsely, so that it seldom changes: `now`, `3 min`, `5 h`, `12 d`."""
    if seconds < 60:
        return "now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h"
    return f"{int(seconds // 86400)} d"


def rate(amount: float | None, unit: str = "") -> str:
    """`13.7 pictures/s`, `3,180/s`; empty where there is none to speak of."""
    if not amount or amount < 0.005:
        return ""
    number = f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"
    return f"{number} {unit}/s" if unit else f"{number}/s"


def size(number: int) -> str:
    """Bytes as files are sold: "6.94 GB", "812 kB"."""
    for limit, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number} bytes"


def factor(number: float) -> str:
    """A factor as a person writes it: `0.5`, `1e-4`, `2`."""
    return re.sub(r"e([+-])0*", lambda found: f"e{found[1]}".rstrip("+"), f"{number:.12g}")


def read_factor(text: str) -> float:
    """What was written as a factor on the learning rate. Raises ValueError with the reason."""
    if re.fullmatch(r"\s*\d*,\d+\s*", text):  # which of two numbers `1,000` means, nobody can know
        raise ValueError(f'"{printable(text)}" has a comma: write a point, as 0.5')
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= GREATEST_FACTOR:
        raise ValueError(f'"{printable(text)}" is not a number from 0 to {GREATEST_FACTOR:,}, as 0.5')
    return number


def scaled(number: float, first: int) -> str:
    """`learning rate x 0.5 from step 14 on`, `first` being the first step of which that is so."""
    how = f"x {factor(number)}" if number != 1 else "as scheduled again"
    return f"learning rate {how} from step {first:,} on"


def updates(
    shares: Mapping[str, float], write: Callable[[float], str] = "{:.1e}".format, *, briefly: bool = False
) -> str:
    """How much a step changed what it trains, beside the weights: `UNet 1.2e-05, text encoder 1 3.0e-06`."""
    names = {**_GROUPS, **(_BRIEF if briefly else {})}
    return ", ".join(f"{printable(names.get(name, name))} {write(share)}" for name, share in shares.items())


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equally many cells as lines, columns as wide as their widest cell, nothing after the last."""
    widths = [max(columns(cell) for cell in column) for column in zip(*rows, strict=True)]
    filled = [[cell + " " * (width - columns(cell)) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return ["  ".join(row).rstrip() for row in filled]


def columns(text: str) -> int:
    """That it takes in a terminal, where some characters are two wide."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def folded(text: str, width: int, *, indent: str = "  ") -> list[str]:
    """As lines of at most `width`, the later ones indented. Words and paths stay whole, and so does `5 %`."""
    held = text.replace(" %", "\0%")
    lines = textwrap.wrap(
        held, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False, drop_whitespace=True
    )
    return [line.replace("\0%", " %") for line in lines]


def sentence(text: str) -> str:
    """With a full stop if it ends with no sign of its own."""
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def home_path(path: Path) -> str:
    """The whole path, `~` for home."""
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)
