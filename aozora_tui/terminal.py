"""The terminal, or what stands in its place: is it one, what can it show, and does anybody still read."""

import codecs
import locale
import os
import shutil
import sys
from io import TextIOWrapper
from typing import TextIO


def on_terminal() -> bool:
    """Whether the app can be shown: it reads stdin and paints on stderr; a dumb terminal would show only rubbish."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return os.environ.get("TERM", "dumb") != "dumb" and all(stream and stream.isatty() for stream in streams)


def tolerate_any_letter() -> None:
    """Write letters that the locale lacks as escapes: a prompt in Japanese must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def ascii_only() -> bool:
    """Whether signs beyond ASCII would not arrive: the locale says so, or the person did."""
    if said := os.environ.get("AOZORA_ASCII"):
        return said != "0"
    try:
        return codecs.lookup(locale.getpreferredencoding(False)).name != "utf-8"
    except LookupError:
        return True


def say(text: str) -> bool:
    """One line on stdout, at once; False if nobody reads there any more."""
    return _write(sys.stdout, text)


def complain(text: str) -> None:
    """One line on stderr. Names in it may be other people's."""
    from aozora_tui.text import printable

    _write(sys.stderr, "\n".join(map(printable, text.split("\n"))))


def fitted(text: str, stream: TextIO | None, *, indent: str) -> list[str]:
    """One line as many, folded between words, where `stream` is a terminal; as it is where a program reads."""
    if stream is None or not stream.isatty():
        return [text]
    from aozora_tui.text import folded

    return folded(text, max(shutil.get_terminal_size().columns, 40), indent=indent)


def _write(stream: TextIO | None, text: str) -> bool:
    if stream is None:  # closed by whoever started us
        return True
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError:
        # Python flushes once more at exit, and that must not turn a success into an error.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        return False
    return True
