"""Running the real engine on a handful of the demo's pictures, in this process or in its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch
from safetensors.torch import load_file

from engine.contract import events, rundir
from engine.contract.profile import load, resolved
from engine.contract.rundir import RunDir
from engine.contract.sections import Profile
from engine.run.job import execute
from engine.run.session import Emitter, Session

# Enough of the UNet where a run is the point and not what it trains: a step in a third of the time.
FEW = ("conv_in", "mid_block.*", "conv_out")
PROFILE = """
[model]
base = "{base}"
tokenizer = "{demo}/tokenizer"
precision = "{precision}"
[data]
resolution = 96
bucket_step = 32
cache = "{cache}"
[[data.folders]]
path = "{pictures}"
repeats = 2
[objective]
ip_noise_gamma = 0.1
timesteps = "noisier_half"
conditional_dropout = 0.3
[layers]
train = {layers}
[train]
steps = {steps}
accumulate = {accumulate}
batch_size = 2
[optimizer]
learning_rate = 1e-3
[memory]
device = "cpu"
threads = 1
checkpointing = false
[preview]
prompts = ["a red circle"]
width = 64
height = 64
sampler_steps = 2
at_start = false
[save]
every = 2
keep = 2
"""


def copy_pictures(demo: Path, folder: Path, count: int = 5) -> Path:
    """A few of the demo's pictures with their captions, free to be edited."""
    folder.mkdir(parents=True)
    for picture in sorted((demo / "pictures").glob("*.png"))[:count]:
        shutil.copy(picture, folder)
        shutil.copy(picture.with_suffix(".txt"), folder)
    return folder


def write_profile(
    folder: Path,
    demo: Path,
    *,
    steps: int = 5,
    accumulate: int = 3,
    precision: str = "fp32",
    layers: Sequence[str] = ("*",),
    name: str = "small",
) -> Path:
    """A profile over `folder`/pictures, its cache beside it."""
    path = folder / f"{name}.toml"
    text = PROFILE
    for key, value in {
        "base": demo / "aozora-demo.safetensors",
        "demo": demo,
        "cache": folder / "cache",
        "pictures": folder / "pictures",
        "steps": steps,
        "accumulate": accumulate,
        "precision": precision,
        "layers": json.dumps(layers),
    }.items():
        text = text.replace("{" + key + "}", str(value))
    path.write_text(text)
    return path


def changed(profile: Path | Profile, **sections: dict[str, object]) -> Profile:
    """The profile with some settings of some sections changed."""
    settings = profile if isinstance(profile, Profile) else resolved(load(profile), profile.parent)
    for section, values in sections.items():
        part = msgspec.structs.replace(getattr(settings, section), **values)
        settings = msgspec.structs.replace(settings, **{section: part})
    return settings


class StopAt(Session):
    """A session in which somebody asks to stop at a certain point."""

    looks_left: int  # until somebody asks; below 0 nobody does

    def watch(self, look: Callable[[events.Event], None]) -> None:
        """Have each event looked at as soon as it has been written."""
        emit = self.emit

        def emit_and_look(event: events.Event) -> None:
            emit(event)
            look(event)

        self.emit = emit_and_look

    def stop_after(self, step: int | None) -> Callable[[events.Event], None]:
        """Somebody asks to stop as soon as a step has been taken."""

        def look(event: events.Event) -> None:
            if isinstance(event, events.Step) and event.step == step:
                self.stopping = "command"

        return look

    def stop_in(self, phase: str, looks: int) -> Callable[[events.Event], None]:
        """Somebody asks to stop at the n-th time the engine looks in a phase; "" is from the start."""
        self.looks_left = -1 if phase else looks

        def look(event: events.Event) -> None:
            if isinstance(event, events.Phase) and event.name == phase and self.looks_left < 0:
                self.looks_left = looks

        return look

    def poll(self, *, now: bool = False) -> None:
        super().poll(now=now)
        self.looks_left -= 1
        if self.looks_left == 0:
            self.stopping = "command"


def run_here(
    profile: Path | Profile,
    runs: Path,
    *,
    run: RunDir | None = None,
    stop_in: str = "",
    stop_at: int = -1,
    stop_after_step: int | None = None,
    watch: Callable[[events.Event], None] = lambda event: None,
    session_of: list[StopAt] | None = None,
) -> RunDir:
    """One start of the engine in this process; the same as `python -m engine train` without its process."""
    settings = profile if isinstance(profile, Profile) else resolved(load(profile), profile.parent)
    run = run or rundir.create(runs, "small")
    emitter = Emitter(None)
    emitter.attach(run.events)
    session = StopAt(run, emitter, rundir.new_token())
    session.watch(session.stop_in(stop_in, stop_at))
    session.watch(session.stop_after(stop_after_step))
    session.watch(watch)
    if session_of is not None:
        session_of.append(session)
    execute(session, settings)
    return run


def session_in(runs: Path, name: str = "small") -> Session:
    """Of a new run, for a part of the engine on its own."""
    run = rundir.create(runs, name)
    emitter = Emitter(None)
    emitter.attach(run.events)
    return Session(run, emitter, rundir.new_token())


def engine(*arguments: str | Path, **options: object) -> subprocess.Popen[bytes]:
    """`python -m engine ...` in its own process, one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "engine", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, **options)  # type: ignore[call-overload]


def all_events(run: RunDir) -> list[events.AnyEvent]:
    return events.Tail(run.events).read(1 << 30)


def of_type(run: RunDir, kind: type) -> list:
    return [event for event in all_events(run) if isinstance(event, kind)]


def exported(run: RunDir) -> dict[str, torch.Tensor]:
    (path,) = run.exports.glob("*.safetensors")
    return load_file(path)


def wait_for(process: subprocess.Popen[bytes], run: RunDir, kind: type, count: int = 1) -> None:
    """Blocks until the engine wrote `count` events of a kind."""
    _wait(process, lambda: len(of_type(run, kind)) >= count)
    log = run.log.read_text()[-2000:] if run.log.is_file() else ""
    assert len(of_type(run, kind)) >= count, f"the engine ended with {process.poll()}: {log}"


def wait_for_run(process: subprocess.Popen[bytes], runs: Path) -> RunDir:
    """The run that an engine makes in `runs`, as soon as it has its event file."""
    _wait(process, lambda: any(run.events.exists() for run in rundir.all_runs(runs)))
    (run,) = rundir.all_runs(runs)
    return run


def _wait(process: subprocess.Popen[bytes], seen: Callable[[], bool]) -> None:
    """By waiting on the process in short turns, until it ends at the latest."""
    for _ in range(2400):
        if seen():
            return
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        return


def send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)


def weights_of(run: RunDir) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in exported(run).items() if name.startswith("model.diffusion_model.")}


def assert_same_weights(one: RunDir, other: RunDir) -> None:
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys() and ours
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
