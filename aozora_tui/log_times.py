"""When the lines of a log were written: it has no times of its own, but the run says now and then how long it is."""

from array import array
from bisect import bisect_left


class LogTimes:
    """Marks (bytes, time): by `time`, Unix seconds, the log had so many bytes. Later marks win: a log that was begun
    anew is shorter."""

    def __init__(self) -> None:
        self._bytes: array[int] = array("Q")
        self._times: array[float] = array("d")

    def add(self, size: int, time: float) -> None:
        while self._bytes and self._bytes[-1] > size:
            self._bytes.pop()
            self._times.pop()
        # The first time that a length is told is when it came to be.
        if not self._bytes or self._bytes[-1] < size:
            self._bytes.append(size)
            self._times.append(time)

    def at(self, offset: int) -> float | None:
        """When what ends at this offset had been written at the latest; None after the last mark."""
        place = bisect_left(self._bytes, offset)
        return self._times[place] if place < len(self._times) else None
