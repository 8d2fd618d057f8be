"""Work recorded once and replayed: a UNet's pass is thousands of small kernels, and a card that has to be told of each
by Python waits for it most of the time.

A replay computes what was recorded, at the addresses where it was recorded: it reads its inputs where they then were,
and writes its results there. Whoever records holds what lies at these addresses for as long as there are replays.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

Work = Callable[[], None]

T = TypeVar("T")

_OFTEN = 2  # times that something small has to be asked for before it is made
_GROWN = 32 << 20  # bytes of torch's cache that graphs cannot use, which recording puts up with


class Recorder(Protocol):
    """What records work that reads nothing back to the host. With `tries_first` work of each kind has to be done once
    step by step before it is recorded: it makes something then that cannot be made while one records, as compiled
    code. Its memory comes on top of that of the recordings that are there."""

    @property
    def tries_first(self) -> bool: ...

    def record(self, work: Work) -> Work:
        """What does `work`, which is not done now: its inputs need not be there. What `work` allocates belongs to the
        recording, and to all later ones of this recorder: their replays must not interleave."""
        ...


class CudaRecorder:
    """Records CUDA graphs on the current stream, which must not be the device's default one: nothing can be recorded
    there. All share one pool of memory, so that together they need what the largest of them does."""

    def __init__(self, device: torch.device, *, tries_first: bool = False) -> None:
        self.tries_first = tries_first
        if torch.cuda.current_stream(device) == torch.cuda.default_stream(device):
            raise ValueError("nothing can be recorded on the default stream")
        self._device = device
        self._reserved = 0  # bytes after the last recording
        self._pool = torch.cuda.graph_pool_handle()
        # torch forgets a pool when its last graph goes, and then knows its handle no more.
        self._anchor = self.record(lambda: torch.zeros(1, device=device))

    def record(self, work: Callable[[], object]) -> Work:
        # A graph that was dropped may still run.
        torch.cuda.synchronize(self._device)
        # What was not recorded has left memory in torch's cache that graphs cannot use. To give it back takes
        # longer than to record a unit: only where there is more than after the last recording.
        if torch.cuda.memory_reserved(self._device) > self._reserved + _GROWN:
            torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        # thread_local: what other threads ask of the card meanwhile, as the one that reads ahead, does no harm.
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        try:
            work()
        except BaseException:
            with contextlib.suppress(RuntimeError):  # of what ended too early; why it did is the news
                graph.capture_end()
            raise
        graph.capture_end()
        self._reserved = torch.cuda.memory_reserved(self._device)
        replay: Work = graph.replay
        return replay


class Kept(Generic[T]):
    """What was made for the `most` keys asked for most often. For another it is made each time: no slower than step by
    step, and one that comes and goes does not displace those that stay."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: dict[Hashable, T] = {}
        self._asked: Counter[Hashable] = Counter()
        self._sizes: dict[Hashable, int] = {}
        self._passing: T | None = None

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        self._asked[key] += 1
        if key in self._made:
            return self._made[key]
        # The one before may be at work still: it goes when the next was made, which waits for the card.
        self._passing = made = make()
        if len(self._made) >= self._most:
            rarest = min(self._made, key=self._asked.__getitem__)
            if self._asked[key] <= self._asked[rarest]:
                return made
            del self._made[rarest]
        self._made[key] = made
        return made

    def often(self, key: Hashable, make: Callable[[], T], *, size: int) -> T | None:
        """None for what is to go without: what is small, and rarely asked for. What it needs then comes on top, which
        is why what is more than half as large as the largest goes first, and never without."""
        self._sizes[key] = size
        half = max(self._sizes.values()) / 2
        if size > half:
            return self._large(key, make, half)
        self._asked[key] += 1
        if key in self._made:
            return self._made[key]
        if self._asked[key] < _OFTEN:
            return None
        if len(self._made) >= self._most:
            going = self._first_to_go(half)
            if self._sizes[going] > half or not self._displaces(key, going):
                return None
            del self._made[going]
        made = self._made[key] = make()
        return made

    def note(self, key: Hashable, *, size: int) -> None:
        """It would have been asked for."""
        self._sizes[key] = size
        self._asked[key] += 1

    def drop(self) -> None:
        self._made.clear()
        self._sizes.clear()
        self._passing = None

    def _large(self, key: Hashable, make: Callable[[], T], half: float) -> T:
        self._asked[key] += 1
        if key in self._made:
            return self._made[key]
        self._passing = made = make()
        if len(self._made) >= self._most:
            going = self._first_to_go(half)
            if self._sizes[going] > half and not self._displaces(key, going):
                return made
            del self._made[going]
        self._made[key] = made
        return made

    def _first_to_go(self, half: float) -> Hashable:
        return min(self._made, key=lambda key: (self._sizes[key] > half, self._asked[key]))

    def _displaces(self, key: Hashable, going: Hashable) -> bool:
        """By far, or two that are equally frequent would take turns, each of which costs seconds."""
        return self._asked[key] > 2 * self._asked[going]


class Arena:
    """Memory at fixed addresses, a piece for each purpose: what recorded work reads and writes, whichever recording it
    is whose turn it is."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pieces: dict[str, Tensor] = {}

    def view(self, purpose: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Of the piece, or of a new and larger one: the old one goes with the last recording that has a view of it."""
        size = torch.Size(shape).numel() * dtype.itemsize
        piece = self._pieces.get(purpose)
        if piece is None or len(piece) < size:
            piece = self._pieces[purpose] = torch.empty(size, dtype=torch.uint8, device=self._device)
        return piece[:size].view(dtype).view(torch.Size(shape))
