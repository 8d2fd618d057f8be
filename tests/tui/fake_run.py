"""Run folders made by writing what an engine would have written; nothing is trained."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.contract import events, rundir
from engine.contract.rundir import RunDir, RunInfo

START = 1_700_000_000.0
CARD = "NVIDIA GeForce RTX 4070"
HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666)
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def make(folder: Path, name: str, *, token: str = "t0") -> RunDir:
    """An empty run folder with its run.json, as after a start at START."""
    run = RunDir(folder / name)
    for part in (run.path, run.commands, run.checkpoints, run.samples, run.exports):
        part.mkdir(parents=True, exist_ok=True)
    info = RunInfo(
        name=name,
        profile_name=name.rpartition("-")[0],
        profile_digest="0" * 16,
        token=token,
        pid=1,
        process_start="",
        boot_id="",
        host=socket.gethostname(),
        protocol=events.PROTOCOL,
        versions={},
        created=START,
        started=START,
    )
    run.info.write_bytes(msgspec.json.encode(info))
    return run


def add(run: RunDir, *new: events.Event) -> None:
    with run.events.open("ab") as file:
        for event in new:
            file.write(events.encode(event))


def started(run: RunDir, *, step: int = 0, steps: int = 1000, at: float = START, device: str = CARD) -> events.Started:
    return events.Started(
        time=at,
        protocol=events.PROTOCOL,
        run=run.name,
        token="t0",
        step=step,
        steps=steps,
        accumulate=64,
        batch_size=1,
        plan="plain",
        parameters_trained=2_270_000_000,
        parameters_total=2_567_463_684,
        device=device,
    )


def step(number: int, *, at: float, steps: int = 1000, loss: float | None = None) -> events.Step:
    """A step of a plausible curve: a falling loss with ripples that repeat, no randomness."""
    fall = 0.09 + 0.06 * math.exp(-number / (0.25 * steps))
    ripple = 0.012 * math.sin(1.7 * number) + 0.008 * math.sin(0.53 * number + 1)
    return events.Step(
        time=at,
        step=number,
        loss=fall + ripple if loss is None else loss,
        lr=1e-5 * min(number / (0.1 * steps), 0.5 * (1 + math.cos(math.pi * number / steps))),
        grad_norm=0.6 + 0.3 * math.sin(0.9 * number) ** 2 + (0.8 if number % 97 == 0 else 0),
        clipped=number % 97 == 0,
        seconds=0.41,
        samples_per_second=2.44,
        memory_peak=int(10.6 * 2**30),
        memory_reserved=int(11.2 * 2**30),
        updates={"unet": 1.23e-5, "text_encoder": 3.1e-6},
        spent={"data": 0.31, "learn": 24.6, "update": 1.09},
    )


def with_samples(told: events.Step, *, steps: int = 1000, count: int = 12) -> events.Step:
    """The same with its samples: clean timesteps have the higher loss, and noisy ones learn sooner."""
    timesteps = tuple((told.step * 37 + 83 * part) % 1000 for part in range(count))
    share = told.step / steps
    losses = [0.04 + 0.16 * math.exp(-t / 260) + 0.05 * math.exp(-share * (1 + t / 90)) for t in timesteps]
    return msgspec.structs.replace(told, timesteps=timesteps, losses=tuple(losses))


def saved(step: int, *, at: float = START + 50) -> events.Saved:
    path = f"checkpoints/step-{step:06}"
    return events.Saved(time=at, kind="checkpoint", step=step, path=path, bytes=1 << 20, seconds=1.0)


def trained(
    run: RunDir,
    upto: int,
    *,
    steps: int = 1000,
    pace: float = 26.0,
    device: str = CARD,
    previews: bool = True,
    samples: bool = False,
) -> float:
    """Write a run that reached step `upto`, `pace` seconds each; returns the time of its last event. `previews`: it
    tells of some, whose files are not there. `samples`: with the loss of each sample."""
    new: list[events.Event] = [
        events.Phase(time=START, name="cache"),
        events.Progress(time=START + 30, phase="cache", done=412, total=412, unit="pictures", rate=13.7),
        events.Phase(time=START + 31, name="load"),
        started(run, at=START + 40, steps=steps, device=device),
        events.Phase(time=START + 40, name="train", step=0),
    ]
    at = START + 40
    for number in range(1, upto + 1):
        at += pace
        told = step(number, at=at, steps=steps)
        new.append(with_samples(told, steps=steps) if samples else told)
        if number % 100 == 0:
            path = f"checkpoints/step-{number:06}"
            new.append(
                events.Saved(time=at, kind="checkpoint", step=number, path=path, bytes=9_130_000_000, seconds=8.4)
            )
        if previews and number % 250 == 0:
            new.append(
                events.Sampled(time=at, step=number, path="samples/a.png", prompt="a lighthouse at dawn", settings={})
            )
    add(run, *new)
    return at


@contextmanager
def engine_alive(run: RunDir) -> Iterator[None]:
    """Another process holds the run's lock meanwhile, as a living engine would."""
    holder = subprocess.Popen(
        [sys.executable, "-S", "-c", HOLD, str(run.lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None and holder.stdout is not None
    try:
        holder.stdout.readline()
        assert rundir.lock_owner(run) == holder.pid
        yield
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
