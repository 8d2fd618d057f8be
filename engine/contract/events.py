"""The engine's event stream: one JSON object a line. `events.jsonl` is the truth, stdout a copy.

Readers ignore unknown events and unknown fields, so that an older app can watch a newer engine.
"""

import gc
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, get_args

import msgspec
from msgspec import Meta, Struct

PROTOCOL = 1
# A longer line might be torn in a pipe (PIPE_BUF).
LONGEST_LINE = 4096
STAMP = 24  # bytes that a time and a newline add at most
_END = 1 << 13  # bytes, in which the newest event mostly is
# What foreign bytes can make the decoder raise.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Wider than any run, and narrow enough for whoever counts on with them: a line beyond is no event of ours.
Time = Annotated[float, Meta(ge=0, le=1e11)]  # Unix seconds, until the year 5138
Seconds = Annotated[float, Meta(ge=0, le=1e10)]
Number = Annotated[float, Meta(ge=-1e39, le=1e39)]  # whatever fp32 holds
Amount = Annotated[float, Meta(ge=0, le=1e39)]
Count = Annotated[int, Meta(ge=0, le=10**12)]
Several = Annotated[int, Meta(ge=1, le=10**6)]
Bytes = Annotated[int, Meta(ge=0, le=10**18)]

PhaseName = Literal[
    "demo", "scan", "cache", "load", "compile", "preflight", "train", "validate", "preview", "save", "export"
]


class Event(Struct, frozen=True, kw_only=True, gc=False, tag_field="event", tag=str.lower):
    """`time` is Unix seconds, filled in by the writer."""

    time: Time = 0.0


class Started(Event, frozen=True, kw_only=True):
    """A start or a resume: points after `step` in the same file are void."""

    protocol: Count
    run: str
    token: str
    step: Count
    steps: Count
    accumulate: Several
    batch_size: Several
    plan: str
    parameters_trained: Count
    parameters_total: Count
    device: str


class Planned(Event, frozen=True, kw_only=True):
    """The memory plan of this start, and `why` this one. Forecast bytes: `needs` of the card, of which the run may use
    `room`, and `host` memory; a step's seconds by `rates` that were "measured", "published" or "guessed". 0 and empty
    on a processor. `staying`: bytes of activations that stay on the card where stage-major would send them away."""

    plan: str
    checkpointing: bool
    keep: Count
    group: Count
    why: str
    host: Bytes
    needs: Bytes = 0
    room: Bytes = 0
    step_seconds: Seconds = 0.0
    rates: str = ""
    staying: Bytes = 0


class Epoch(Event, frozen=True, kw_only=True):
    """How long an epoch of this start is: every picture once for each of its repeats."""

    samples: Count
    micro_batches: Count


class Phase(Event, frozen=True, kw_only=True):
    name: str
    step: Count | None = None


class Compiled(Event, frozen=True, kw_only=True):
    """Blocks were compiled, for the first time or for a shape that asked for it. `seconds` are part of the phase, or of
    the step, in which they were spent."""

    seconds: Seconds


class Progress(Event, frozen=True, kw_only=True):
    phase: str
    done: Bytes
    total: Bytes
    unit: str
    rate: Amount | None = None


class Micro(Event, frozen=True, kw_only=True):
    """At most two a second: a sign of life inside a long window. Micro-batch `micro`, from 1, of the coming `step`."""

    step: Count
    micro: Count
    loss: Number
    seconds: Seconds


class Step(Event, frozen=True, kw_only=True):
    """One optimizer update. `seconds` is the mean of one micro-batch; memory is torch's, in bytes, 0 on a CPU.
    `timesteps` and `losses` are by sample; empty where they would not fit a line, as of more than 256. `updates`
    is the RMS of the change over the RMS of the weights, by group (`unet`, `text_encoder`, ...). `spent` are seconds of
    the step: "data" is standing still for want of it, "learn" forward and backward, "update" the rest."""

    step: Count
    loss: Number
    lr: Number
    grad_norm: Amount
    clipped: bool
    seconds: Seconds
    samples_per_second: Amount
    memory_peak: Bytes
    memory_reserved: Bytes
    timesteps: tuple[Count, ...] = ()
    losses: tuple[Number, ...] = ()
    updates: dict[str, Number] = {}
    spent: dict[str, Number] = {}


class Machine(Event, frozen=True, kw_only=True):
    """The box while it trains, at most every 30 s, in bytes, percent, watts and degrees Celsius. `card` is the uuid of
    the card that it trains on, "" on a processor; what its driver does not say is 0 or None. `throttled` says why it
    is slowed down ("thermal", "power", "hardware", "sync"), by itself from `temperature_limit` on. `run_memory` is the
    engine's own part of the host's. `disk_free`: where the run folder lies."""

    card: str = ""
    card_used: Bytes = 0
    card_total: Bytes = 0
    utilisation: Count | None = None
    power: Amount | None = None
    power_limit: Amount | None = None
    temperature: Count | None = None
    temperature_limit: Count | None = None
    throttled: tuple[str, ...] = ()
    run_memory: Bytes = 0
    host_used: Bytes = 0
    host_total: Bytes = 0
    disk_free: Bytes = 0


class Skipped(Event, frozen=True, kw_only=True):
    """A window whose loss or gradient was not finite: no weight, moment or counter changed."""

    step: Count
    reason: str
    names: tuple[str, ...]


class Damped(Event, frozen=True, kw_only=True):
    """A spike: the loss of `step` was above `limit`, so its gradient was scaled by `factor`."""

    step: Count
    loss: Number
    limit: Number
    factor: Number


class Steered(Event, frozen=True, kw_only=True):
    """From after `step` on the learning rate is the schedule's times `factor`, by command."""

    step: Count
    factor: Number


class Validated(Event, frozen=True, kw_only=True):
    """The mean loss after `step` on `pictures` that are held out, by the weights that are meant for others: `samples`
    of timestep and noise, the same each time. Took `seconds`."""

    step: Count
    loss: Number
    pictures: Count
    samples: Count
    seconds: Seconds


class Sampled(Event, frozen=True, kw_only=True):
    step: Count
    path: str
    prompt: str
    settings: dict[str, Any]


class Saved(Event, frozen=True, kw_only=True):
    kind: Literal["checkpoint", "export"]
    step: Count
    path: str
    bytes: Bytes
    seconds: Seconds


class Paused(Event, frozen=True, kw_only=True):
    step: Count


class Unpaused(Event, frozen=True, kw_only=True):
    step: Count


class Refused(Event, frozen=True, kw_only=True):
    """A command that was not obeyed, and why."""

    command: str
    text: str


class Warned(Event, frozen=True, kw_only=True, tag="warning"):
    code: str
    text: str
    remedy: str


class Failed(Event, frozen=True, kw_only=True):
    code: str
    text: str
    remedy: str
    where: str = ""


class Finished(Event, frozen=True, kw_only=True):
    step: Count
    reason: Literal["finished", "stopped"]
    seconds: Seconds
    export: str | None = None


AnyEvent = (
    Started
    | Planned
    | Epoch
    | Phase
    | Compiled
    | Progress
    | Micro
    | Step
    | Machine
    | Skipped
    | Damped
    | Steered
    | Validated
    | Sampled
    | Saved
    | Paused
    | Unpaused
    | Refused
    | Warned
    | Failed
    | Finished
)


class _Tagged(Struct):
    event: Any = None


_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_encoder = msgspec.json.Encoder()
_tagged = msgspec.json.Decoder(_Tagged)
_TAGS = [kind.__struct_config__.tag for kind in get_args(AnyEvent)]


def encode(event: Event) -> bytes:
    """One line with its newline. A number that is not finite is our mistake: it belongs in Skipped or Failed."""
    for name in event.__struct_fields__:
        value = getattr(event, name)
        numbers = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else (value,)
        assert all(math.isfinite(n) for n in numbers if isinstance(n, float)), f"{name} of {event} is not finite"
    return _encoder.encode(event) + b"\n"


def fitting(step: Step) -> Step:
    """The same, without its samples if they are so many that its line, once stamped, would be too long."""
    if len(_encoder.encode(step)) + STAMP <= LONGEST_LINE:
        return step
    return msgspec.structs.replace(step, timesteps=(), losses=())


def decode(line: bytes) -> AnyEvent | None:
    """The event of a line, or None if it is torn, foreign or of a later protocol."""
    try:
        return _decoder.decode(line)
    except UNREADABLE:
        return None


def decode_block(block: bytes) -> tuple[list[AnyEvent], int]:
    """The events of whole lines, and how many lines are torn: line by line only where one of them cannot be read."""
    with _no_collections():
        try:
            return _decoder.decode_lines(block), 0
        except UNREADABLE:
            lines = [line for line in block.splitlines() if line.strip()]
            events = [event for line in lines if (event := decode(line)) is not None]
            return events, sum(not is_whole(line) for line in lines) if len(events) < len(lines) else 0


@contextmanager
def _no_collections() -> Iterator[None]:
    """Thousands of new objects make the collector look through them all again and again, and there are no circles."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def is_whole(line: bytes) -> bool:
    """Whether the line is an event of ours or of a later protocol: neither torn, nor one of ours with numbers that no
    run has."""
    try:
        tag = _tagged.decode(line).event
    except msgspec.ValidationError:  # JSON, and no object
        return True
    except UNREADABLE:
        return False
    return tag not in _TAGS or decode(line) is not None


def _open(path: Path) -> BinaryIO:
    """Raises FileNotFoundError for what is no regular file as well: a FIFO would make its reader wait for ever."""
    if not path.is_file():
        raise FileNotFoundError(path)
    return path.open("rb")


class Tail:
    """Reads a growing `events.jsonl` by offset: whole lines only, a bounded amount at a call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.left = 0  # bytes that were there at the last call and were not read, but for a line that has no end yet
        self.unreadable = 0
        self._file = 0  # its inode: another file in its place is read from its beginning

    def read(self, limit: int = 4 << 20) -> list[AnyEvent]:
        """The events that were appended since the last call, at most about `limit` bytes of them."""
        try:
            with _open(self.path) as file:
                seen = os.fstat(file.fileno())
                size, before, self._file = seen.st_size, self._file, seen.st_ino
                if size < self.offset or before not in (0, seen.st_ino):
                    self.offset = 0
                self.left = 0
                if size == self.offset:
                    return []
                file.seek(self.offset)
                block = file.read(limit)
                self.left = max(size - file.tell(), 0)
        except FileNotFoundError:
            return []
        whole = block[: block.rfind(b"\n") + 1]
        if not whole and len(block) == limit:  # a line longer than we read is no event of ours
            whole = block
        self.offset += len(whole)
        if self.left:
            self.left += len(block) - len(whole)
        events, torn = decode_block(whole)
        self.unreadable += torn
        return events


def last_event(path: Path, *, but_not: tuple[type[Event], ...] = (), window: int = 1 << 18) -> AnyEvent | None:
    """The newest readable event of another type than `but_not`, without reading the whole file."""
    try:
        with _open(path) as file:
            size = os.fstat(file.fileno()).st_size
            for room in (min(_END, window), window):
                file.seek(max(0, size - room))
                lines = reversed(file.read().splitlines())
                events = (event for line in lines if (event := decode(line)) is not None)
                if (found := next((event for event in events if not isinstance(event, but_not)), None)) is not None:
                    return found
    except FileNotFoundError:
        pass
    return None
