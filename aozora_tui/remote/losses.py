"""A lost connection: when to try again, and why it was lost in few words."""

from collections.abc import Iterator

from aozora_tui.remote.line import LostError

LONGEST_PAUSE = 30.0


def pauses(longest: float = LONGEST_PAUSE) -> Iterator[float]:
    """Seconds before each new try: 1, 2, 4 ... 30."""
    pause = 1.0
    while True:
        yield min(pause, longest)
        pause = min(2 * pause, longest)


def reason(error: OSError) -> str:
    """For the one line that there is."""
    if not isinstance(error, LostError):
        return f"the copy of the run here cannot be written ({error.strerror or error})"
    text = str(error)
    if "Permission denied" in text or "Host key verification failed" in text:
        return f"{text} (it may want to ask you something: leave, and give the command again)"
    return text.rpartition(": ")[2] if text.startswith("ssh: ") else text  # which host it is stands there already
