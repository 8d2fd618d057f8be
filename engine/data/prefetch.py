"""Loading ahead in one background thread."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

Loaded = TypeVar("Loaded")


class Prefetch(Iterator[Loaded], Generic[Loaded]):
    """`load(number)` for each of `numbers`, in order, at most `depth` ahead of the consumer.

    What `load` raises is raised by `next` when its turn comes, and ends the iteration. `close`, or leaving the `with`
    block, waits for the thread.
    """

    def __init__(self, load: Callable[[int], Loaded], numbers: Iterable[int], depth: int) -> None:
        if depth < 1:
            raise ValueError(f"nothing can be loaded {depth} ahead")
        self._load = load
        self._numbers = iter(numbers)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._ahead: deque[Future[Loaded]] = deque()
        for _ in range(depth):
            self._submit()

    def __next__(self) -> Loaded:
        if not self._ahead:
            self.close()
            raise StopIteration
        try:
            loaded = self._ahead.popleft().result()
        except BaseException:
            self.close()
            raise
        self._submit()
        return loaded

    def close(self) -> None:
        """Ends the iteration; may be called again."""
        self._numbers = iter(())
        self._ahead.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self) -> None:
        for number in self._numbers:
            self._ahead.append(self._thread.submit(self._load, number))
            return
