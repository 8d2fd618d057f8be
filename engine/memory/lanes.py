"""Queues of work on a card, ordered among each other by marks alone. On a CPU what is ordered is done at once."""

from collections.abc import Callable

import torch

Mark = torch.cuda.Event | None


class Lane:
    """Does what it is given in that order; without a `stream`, when it is given."""

    def __init__(self, stream: torch.cuda.Stream | None) -> None:
        self._stream = stream

    def run(self, work: Callable[[], object]) -> None:
        """It must not read anything back to the host."""
        if self._stream is None:
            work()
            return
        with torch.cuda.stream(self._stream):
            work()

    def mark(self) -> Mark:
        """Stands for all that was given so far. A new one each time: one that is recorded in a graph is of no use
        outside, nor the other way round."""
        return None if self._stream is None else self._stream.record_event()

    def wait(self, mark: Mark) -> None:
        """What is given from now on comes behind `mark`."""
        if self._stream is not None and mark is not None:
            self._stream.wait_event(mark)

    def finish(self) -> None:
        """Wait for all of it, here and now."""
        if self._stream is not None:
            self._stream.synchronize()


class Lanes:
    """Those of `device`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def computing(self) -> Lane:
        """The one on which the caller's own operations are: in a hook, that of the backward pass."""
        return Lane(torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None)

    def beside(self) -> Lane:
        """A new one."""
        if self._device.type != "cuda":
            return Lane(None)
        return Lane(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]
