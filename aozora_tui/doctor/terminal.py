"""What the terminal can show."""

import os
import sys
from collections.abc import Iterator, Mapping

from aozora_tui.doctor.finding import Finding

USEFUL, LEAST = (80, 24), (60, 15)


def terminal(environment: Mapping[str, str], encoding: str, size: tuple[int, int] | None) -> Iterator[Finding]:
    """`encoding` is the locale's; `size` (columns, rows), None where there is no terminal."""
    yield locale(encoding)
    term = environment.get("TERM", "")
    if size is None:
        yield Finding(topic="terminal", level="ok", text="none here: commands print plain lines")
        return
    if term in ("", "dumb"):
        remedy = "Set TERM to what your terminal is, for example xterm-256color."
        yield Finding(
            topic="terminal", level="note", text=f"TERM is {term or 'not set'}: the app stays off", remedy=remedy
        )
    else:
        yield Finding(topic="terminal", level="ok", text=f"TERM={term}{_multiplexer(environment)}")
    yield colours(environment, term)
    yield area(size)
    if environment.get("SSH_CONNECTION") and not _multiplexer(environment):
        text = "over SSH without tmux: a lost connection closes the app; runs go on"
        yield Finding(topic="connection", level="note", text=text, remedy="Use tmux if the app is to stay open too.")


def locale(encoding: str) -> Finding:
    if encoding.lower().replace("-", "") == "utf8":
        return Finding(topic="locale", level="ok", text=encoding)
    text = f"{encoding}, not UTF-8: charts and borders are drawn in ASCII"
    return Finding(topic="locale", level="note", text=text, remedy="Set LANG to a UTF-8 locale, for example C.UTF-8.")


def colours(environment: Mapping[str, str], term: str) -> Finding:
    """As Textual will see them. OpenSSH does not forward COLORTERM."""
    if environment.get("NO_COLOR"):
        return Finding(topic="colours", level="ok", text="none, as NO_COLOR asks")
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return Finding(topic="colours", level="ok", text="16 million")
    remedy = "Set COLORTERM=truecolor if your terminal shows that; SSH does not pass it on by itself."
    text = "256" if term.endswith("256color") else "16"
    return Finding(topic="colours", level="note", text=text, remedy=remedy)


def area(size: tuple[int, int]) -> Finding:
    columns, rows = size
    text = f"{columns} columns, {rows} rows"
    if columns >= USEFUL[0] and rows >= USEFUL[1]:
        return Finding(topic="size", level="ok", text=text)
    least, useful = (" x ".join(map(str, pair)) for pair in (LEAST, USEFUL))
    remedy = f"Enlarge the window: the app needs {least} and is made for {useful} or more."
    return Finding(topic="size", level="note", text=text, remedy=remedy)


def size() -> tuple[int, int] | None:
    """(columns, rows) of the terminal that stdout is, None if it is none."""
    try:
        columns, rows = os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else -1)
    except (OSError, ValueError):
        return None
    return columns, rows


def _multiplexer(environment: Mapping[str, str]) -> str:
    return ", in tmux" if environment.get("TMUX") else ", in screen" if environment.get("STY") else ""
