"""Which part of an x axis is looked at, and where on it values are read. No Textual."""

from __future__ import annotations

from dataclasses import dataclass

FINEST = 1e-6  # of the whole axis: there is nothing to be seen in less


@dataclass
class Looking:
    """`window` None is the whole axis, from 0 to `whole`. `following` keeps it at the newest value."""

    window: tuple[float, float] | None = None
    cursor: float | None = None
    following: bool = False

    def range(self, whole: float) -> tuple[float, float]:
        return self.window or (0.0, whole)

    def forget(self) -> None:
        """The axis is another one."""
        self.window, self.cursor, self.following = None, None, False

    def move(self, by: int, *, whole: float, begin: float, dots: int) -> None:
        """The cursor, by dot columns of a plot that has so many. The first time it goes to where it is to `begin`."""
        start, stop = self.range(whole)
        if self.cursor is None:
            self.cursor = max(min(stop, begin), start)
        else:
            self.cursor = min(max(self.cursor + by * (stop - start) / max(dots - 1, 1), start), stop)

    def zoom(self, factor: float, whole: float) -> None:
        """Look at so much more or less, about the cursor when going in."""
        start, stop = self.range(whole)
        width = (stop - start) * factor
        if width >= whole:
            self.window, self.following = None, False
        elif width > FINEST * whole:
            middle = self.cursor if self.cursor is not None and factor < 1 else (start + stop) / 2
            self._look_from(middle - width / 2, width, whole)

    def pan(self, share: float, whole: float) -> None:
        """By a share of the window, left if negative."""
        if self.window is not None:
            start, stop = self.window
            self.following = False
            self._look_from(start + share * (stop - start), stop - start, whole)

    def follow(self, newest: float, whole: float) -> None:
        """Stay with the newest value from now on; of a whole axis the last tenth is looked at."""
        start, stop = self.range(whole)
        width = stop - start if self.window is not None else max(newest / 10, whole / 1000)
        self.window, self.following, self.cursor = (newest - width, newest), True, None

    def keep_up(self, newest: float) -> None:
        """There may be newer values."""
        if self.following and self.window is not None:
            self.window = (newest - (self.window[1] - self.window[0]), newest)

    def _look_from(self, start: float, width: float, whole: float) -> None:
        start = min(max(start, 0.0), whole - width)
        self.window = (start, start + width)
