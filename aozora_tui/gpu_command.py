"""`aozora-tui gpu`: what the cards do, once or again and again, as text or JSON. Heavy imports are inside it."""

from __future__ import annotations

from aozora_tui.context import Context
from aozora_tui.terminal import complain, say

PATIENCE = 10.0  # seconds that the driver has for an answer
LEAST, USUAL = 0.5, 2.0  # seconds between two answers


def gpu(context: Context) -> int:
    """1 if there is no card that answers."""
    import threading

    from aozora_tui.card_watch import CardWatch
    from aozora_tui.commands import to_json
    from aozora_tui.gpu_report import ask, brief_lines, document, lines
    from aozora_tui.text import printable
    from engine.contract.nvml_words import GONE

    args = context.args
    watch = CardWatch()
    while True:
        seen = ask(watch, PATIENCE)
        if args.json:
            read = say(to_json(document(seen)))
        else:
            told = brief_lines(seen) if args.watch is not None else lines(seen)
            read = all(say(line) for line in told)
        if not seen.readings and not args.json:
            complain(printable(seen.why_not or GONE))
        if args.watch is None or not seen.readings or not read:
            return 0 if seen.readings else 1
        threading.Event().wait(args.watch)


def seconds(written: str) -> float:
    """The argument of `--watch`."""
    import argparse

    try:
        found = float(written)
    except ValueError:
        found = 0.0
    if not LEAST <= found <= 86400:
        raise argparse.ArgumentTypeError(f"{written!r} is no number of seconds from {LEAST} on, as 2")
    return found
