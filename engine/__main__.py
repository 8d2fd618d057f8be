"""`python -m engine train PROFILE`: one run, JSON lines on stdout, exit code 0, 1, 2 or 130.

`python -m engine diff A B`: one JSON document on stdout when it is done, JSON lines of progress on stderr.
`python -m engine verify PROFILE`: one JSON document on stdout, exit code 0, or 2 if a run would be refused.
`python -m engine bench [PROFILE]`: what the card can do, as a table, noted for forecasts; exit code 2 without a card.
"""

import argparse
import contextlib
import gc
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine import __version__
from engine.contract import events, places, profile, rundir
from engine.contract.atomic import write_text
from engine.contract.problems import Problem, ProfileError
from engine.contract.rundir import RunDir, RunInfo
from engine.contract.sections import Profile

if TYPE_CHECKING:
    from engine.run.session import Emitter, Session

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    if options.command == "diff":
        return _diff(options)
    if options.command == "verify":
        return _verify(options)
    if options.command == "bench":
        return _bench(options)
    _have_memory_in_one_piece()
    from engine.run.session import Emitter, Session

    emitter = Emitter(_claim_stdout())
    try:
        settings, run = _open(options)
        lock = rundir.acquire(run)
    except ProfileError as error:
        return _refuse(emitter, "profile", str(error), "Correct it and start again.")
    except rundir.LockedError as error:
        return _refuse(emitter, "in-use", str(error), "One engine works in a run folder.")
    except OSError as error:
        return _refuse(emitter, "run-folder", str(error), "Check the folder, or set AOZORA_RUNS.")
    info = _describe(run, options, settings)
    try:
        run.make_parts()
        _redirect_stderr(run)
        emitter.attach(run.events)
        _write_info(run, info)
        if not run.profile.exists():
            write_text(run.profile, profile.dump(settings))
    except OSError as error:
        remedy = "Make room there, mend its permissions, or set AOZORA_RUNS."
        emitter.emit(events.Failed(code="run-folder", text=f"{run.path} cannot be used: {error}", remedy=remedy))
        return FAILED
    session = Session(run, emitter, info.token)
    session.listen()
    code = _execute(session, settings)
    with contextlib.suppress(OSError):  # the disk may be full; the last event has said how it ended
        _write_info(run, msgspec.structs.replace(info, exit=code))
    os.close(lock)
    return code


def _have_memory_in_one_piece() -> None:
    """Before torch is imported: segments of the card's memory that can grow leave fewer holes. What the user has set
    stays. By the older of two names: torch 2.9 obeys no other, later ones both."""
    if sys.platform == "linux" and not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """What is imported here stays to the end: to look through it for garbage again and again as it grows is a quarter
    of a start's time, and no later collection has to look through it."""
    if not gc.isenabled() or "torch" in sys.modules:  # a caller's own business; nothing is left to import
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engine", description="The training engine; JSON lines on stdout.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train a profile, or go on with a run")
    train.add_argument("profile", nargs="?", type=Path, help="a profile's .toml file")
    where = train.add_mutually_exclusive_group()
    where.add_argument("--run", type=Path, metavar="FOLDER", help="use this run folder (made by the caller)")
    where.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with this run from its last checkpoint")
    diff = commands.add_parser("diff", help="how two checkpoints differ: one JSON document")
    diff.add_argument("a", type=Path, metavar="A", help="a .safetensors file, or a diffusers folder")
    diff.add_argument("b", type=Path, metavar="B", help="the other, compared with A")
    diff.add_argument("--all", action="store_true", help="examine the rank of every changed matrix")
    trial = commands.add_parser("verify", help="what only torch can tell of a profile: one JSON document")
    trial.add_argument("profile", type=Path, help="a profile's .toml file")
    card = commands.add_parser("bench", help="measure the card, for forecasts of time")
    card.add_argument("profile", nargs="?", type=Path, help="a profile's .toml file, for its device")
    options = parser.parse_args(arguments)
    if options.command != "train":
        return options
    if (options.profile is None) == (options.resume is None):
        parser.error("give a PROFILE, or --resume FOLDER")
    options.name = options.profile.stem if options.profile else ""
    return options


def _diff(options: argparse.Namespace) -> int:
    stdout = _claim_stdout()
    try:
        from engine.run.diff import diff

        return diff(options.a, options.b, stdout, every=options.all)
    except KeyboardInterrupt:
        return INTERRUPTED


def _verify(options: argparse.Namespace) -> int:
    stdout = _claim_stdout()
    try:
        from engine.run.verify import verify

        return verify(options.profile, stdout)
    except KeyboardInterrupt:
        return INTERRUPTED


def _bench(options: argparse.Namespace) -> int:
    stdout = _claim_stdout()
    try:
        from engine.run.bench import bench

        return bench(options.profile, stdout)
    except KeyboardInterrupt:
        return INTERRUPTED


def _claim_stdout() -> int:
    """Keep fd 1 for events and point it at stderr: a stray print of any library must not reach the stream."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed by whoever started us: the next file opened would take its place
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept


def _open(options: argparse.Namespace) -> tuple[Profile, RunDir]:
    if options.resume:
        run = RunDir(options.resume.absolute())
        return profile.load(run.profile), run
    settings = profile.resolved(profile.load(options.profile), options.profile.absolute().parent)
    if options.run:
        run = RunDir(options.run.absolute())
        if run.profile.exists() or run.events.exists():
            raise FileExistsError(f"{run.path} holds a run already: go on with --resume, or name a new folder")
        return settings, run
    return settings, rundir.create(places.runs_folder(), options.profile.stem)


def _redirect_stderr(run: RunDir) -> None:
    """Library chatter belongs in the run's log, also when nobody reads this process's stderr any more."""
    log = os.open(run.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    sys.stderr.flush()
    os.dup2(log, 2)
    os.dup2(log, 1)
    os.close(log)


def _describe(run: RunDir, options: argparse.Namespace, settings: Profile) -> RunInfo:
    """A run that goes on keeps what was said of its profile when it began."""
    before = rundir.read_info(run)
    name, path = options.name or run.name, str(options.profile.absolute()) if options.profile else ""
    now = time.time()
    pid = os.getpid()
    return RunInfo(
        name=run.name,
        profile_name=before.profile_name if before else _as_text(name),
        profile_path=before.profile_path if before else path if path == _as_text(path) else "",
        profile_digest=profile.digest(settings),
        token=rundir.new_token(),
        pid=pid,
        process_start=rundir.process_start(pid),
        boot_id=rundir.boot_id(),
        host=rundir.this_host(),
        protocol=events.PROTOCOL,
        versions={"aozora-tui": __version__} | {name: metadata.version(name) for name in ("torch", "diffusers")},
        created=before.created if before else now,
        started=now,
    )


def _as_text(name: str) -> str:
    """Names of files may be bytes that are no text, which JSON cannot hold."""
    return name.encode(errors="replace").decode()


def _write_info(run: RunDir, info: RunInfo) -> None:
    write_text(run.info, msgspec.json.format(msgspec.json.encode(info)).decode())


def _execute(session: "Session", settings: Profile) -> int:
    with _importing():
        import torch

        from engine.data.cache import CacheError
        from engine.run.errors import LESS_HOST_MEMORY, LESS_MEMORY, RunError
        from engine.run.job import execute

    try:
        execute(session, settings)
    except ProfileError as error:
        session.emit(_wrong_profile(error.problems))
        return WRONG
    except (RunError, CacheError) as error:
        session.emit(events.Failed(code=error.code, text=error.text, remedy=error.remedy))
        return FAILED
    except torch.OutOfMemoryError as error:
        _log_traceback()
        session.emit(events.Failed(code="out-of-memory", text=f"the card is full: {error}"[:600], remedy=LESS_MEMORY))
        return FAILED
    except MemoryError as error:
        _log_traceback()
        text = str(error) or "the host has too little memory"
        session.emit(events.Failed(code="host-memory", text=text[:600], remedy=LESS_HOST_MEMORY))
        return FAILED
    except (ValueError, OSError) as error:
        _log_traceback()
        session.emit(events.Failed(code="failed", text=str(error), remedy=f"Details are in {session.run.log}."))
        return FAILED
    except Exception as error:  # noqa: BLE001 - the one place: whatever it is, the last event says it
        _log_traceback()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        text = f"{type(error).__name__}: {error}"[:1000]
        session.emit(events.Failed(code="bug", text=text, remedy=f"See {session.run.log}.", where=where))
        return FAILED
    return INTERRUPTED if session.stopping == "SIGINT" else OK


def _wrong_profile(problems: Sequence[Problem]) -> events.Failed:
    if len(problems) == 1:
        (only,) = problems
        return events.Failed(code="profile", text=only.text, remedy=only.remedy, where=only.path)
    return events.Failed(code="profile", text=" ".join(map(str, problems)), remedy="Correct them and start again.")


def _refuse(emitter: "Emitter", code: str, text: str, remedy: str) -> int:
    emitter.emit(events.Failed(code=code, text=text, remedy=remedy))
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")
    return WRONG


def _log_traceback() -> None:
    with contextlib.suppress(OSError):  # a full disk must not hide the failure that is about to be told
        traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main())
