"""Small things that are written the same everywhere outside the app: times, sizes, tables, other people's text."""

from collections.abc import Sequence


def printable(text: str) -> str:
    """The text with every character that could steer a terminal written out: names of files are other people's."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def duration(seconds: float) -> str:
    """75 -> "1:15", 3700 -> "1:01:40", 90061 -> "25:01:01"."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def age(seconds: float) -> str:
    """How long ago, in one unit: "12 s", "5 min", "3 h", "2 d"."""
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds // 86400)} d"


def size(number: int) -> str:
    """Bytes as files are sold: "6.94 GB", "812 kB"."""
    for limit, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number} bytes"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equally many cells as lines, columns as wide as their widest cell, nothing after the last."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def sentence(text: str) -> str:
    """With a full stop if it ends with no sign of its own."""
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
