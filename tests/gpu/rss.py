"""How much memory of its own a process holds: pages of mapped files do not count."""

import threading
from functools import cache
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")
_PAGES = 0.005  # seconds between looks


def own_bytes() -> int:
    """Anonymous resident memory of this process, now."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@cache
def can_be_measured() -> bool:
    """Whether this kernel counts at all: the ones that containers imitate may not."""
    before = own_bytes()
    written = bytearray(1 << 28)
    written[::4096] = bytes(len(written[::4096]))
    return own_bytes() - before > len(written) * 0.9


class PeakOfOwnMemory:
    """`with PeakOfOwnMemory() as peak: ...`, then `peak.bytes`: how far it rose above where it began."""

    def __init__(self) -> None:
        self.bytes = 0
        self._began = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakOfOwnMemory":
        self._began = own_bytes()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._done.wait(_PAGES):
            self._look()

    def _look(self) -> None:
        self.bytes = max(self.bytes, own_bytes() - self._began)
