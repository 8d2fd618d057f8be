"""The engine in its own process: kills, signals, streams, and two of them in one folder.

A process takes seconds to start, so several promises are looked at on one.
"""

import json
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.contract import events, rundir
from engine.contract.rundir import RunDir
from tests.end_to_end.harness import (
    FEW,
    all_events,
    assert_same_weights,
    copy_pictures,
    engine,
    of_type,
    send,
    wait_for,
    wait_for_run,
    write_profile,
)


def test_kill_minus_nine_in_the_middle_then_resume_equals_never_having_stopped(
    whole: tuple[Path, RunDir], tmp_path: Path
):
    """And nothing prints while the training begins and while a run is restored, trained to its end, drawn and exported;
    and a reader that leaves is nothing to the run."""
    profile, uninterrupted = whole
    run = rundir.create(tmp_path, "killed")
    process = engine("train", profile, "--run", run.path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while json.loads(lines[-1])["event"] != "step":
        lines.append(process.stdout.readline())
    process.stdout.close()
    assert run.events.read_bytes().startswith(b"".join(lines)), "no module of the engine prints"
    wait_for(process, run, events.Saved)  # a checkpoint
    send(process, signal.SIGKILL)
    process.wait()
    assert rundir.state(run) == "crashed"
    before = run.events.stat().st_size
    again = engine("train", "--resume", run.path, stdout=subprocess.PIPE)
    out, _ = again.communicate()
    assert again.returncode == 0 and rundir.state(run) == "finished"
    assert_same_weights(run, uninterrupted)
    assert out and out == run.events.read_bytes()[before:].removeprefix(b"\n"), "no module of the engine prints"


def assert_stopped_and_saved(run: RunDir, after: int) -> None:
    """At a step beyond `after`."""
    last, saved = all_events(run)[-1], of_type(run, events.Saved)[-1]
    assert isinstance(last, events.Finished) and last.reason == "stopped" and saved.step == last.step > after
    assert rundir.state(run) == "stopped"


@dataclass(frozen=True)
class Interrupted:
    """What is left of an engine, and what a second one in its folder said."""

    run: RunDir
    pid: int
    exit_code: int
    heard: bytes
    second: subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Interrupted:
    """An engine that makes its own run folder and whose stdout is a socket that nobody reads. A second one is tried,
    then it is hung up on, and interrupted."""
    place = tmp_path_factory.mktemp("interrupted")
    copy_pictures(demo_folder, place / "pictures")
    profile = write_profile(place, demo_folder, steps=400, accumulate=1, layers=FEW)
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with pytest.MonkeyPatch.context() as patch, theirs:
        patch.setenv("AOZORA_RUNS", str(place / "runs"))
        process = engine("train", profile, stdout=theirs)
    run = wait_for_run(process, place / "runs")
    wait_for(process, run, events.Phase)
    other = engine("train", "--resume", run.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = other.communicate()
    wait_for(process, run, events.Step, 6)
    send(process, signal.SIGHUP)
    send(process, signal.SIGINT)
    code = process.wait()
    with ours, ours.makefile("rb") as stream:
        heard = stream.read()
    return Interrupted(run, process.pid, code, heard, subprocess.CompletedProcess([], other.returncode, out, err))


def test_sigint_saves_and_exits_130_and_sighup_is_nothing_to_a_run(interrupted: Interrupted):
    assert interrupted.exit_code == 130
    assert_stopped_and_saved(interrupted.run, after=5)


def test_a_reader_that_stalls_on_a_socket_does_not_stop_the_engine(interrupted: Interrupted):
    written = interrupted.run.events.read_bytes()
    assert written.startswith(interrupted.heard[:500]) and 500 < len(interrupted.heard) < len(written)
    assert len(of_type(interrupted.run, events.Step)) >= 6


def test_a_second_engine_in_the_same_folder_is_refused_and_names_the_first(interrupted: Interrupted):
    second = interrupted.second
    assert second.returncode == 2 and str(interrupted.pid).encode() in second.stderr
    assert json.loads(second.stdout)["code"] == "in-use"


def test_a_log_on_a_full_disk_and_closed_streams_are_nothing_to_a_run_and_sigterm_saves_and_exits_0(
    interrupted: Interrupted, tmp_path: Path
):
    run = RunDir(shutil.copytree(interrupted.run.path, tmp_path / "full"))
    stopped = all_events(run)[-1].step
    taken = len(of_type(run, events.Step))
    run.log.unlink()
    run.log.symlink_to("/dev/full")
    command = f"exec {sys.executable} -m engine train --resume {run.path} <&- >&- 2>&-"
    process = subprocess.Popen(["sh", "-c", command])
    wait_for(process, run, events.Step, taken + 2)
    send(process, signal.SIGTERM)
    assert process.wait() == 0
    assert_stopped_and_saved(run, after=stopped)


def test_an_event_file_that_is_there_already_is_not_added_to(tmp_path: Path, place: Path, demo_folder: Path):
    """Not even one that cannot be read as events: here a full disk."""
    run = rundir.create(tmp_path / "runs", "full")
    run.events.symlink_to("/dev/full")
    profile = write_profile(place, demo_folder, steps=1, accumulate=1)
    assert engine("train", profile, "--run", run.path, stdout=subprocess.DEVNULL).wait() == 2


def test_a_wrong_profile_exits_2_with_every_problem_and_no_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AOZORA_RUNS", str(tmp_path / "runs"))
    (tmp_path / "bad.toml").write_text("[train]\nsteps = 0\nbatchsize = 2\n")
    process = engine("train", tmp_path / "bad.toml", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    assert process.returncode == 2
    assert all(path in err for path in (b"model", b"data", b"train.steps", b"train.batchsize"))
    assert json.loads(out)["event"] == "failed" and not (tmp_path / "runs").exists()
    assert b"Traceback" not in err


def test_a_folder_that_holds_a_run_is_not_started_in_again(whole: tuple[Path, RunDir]):
    profile, run = whole
    process = engine("train", profile, "--run", run.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    assert process.returncode == 2 and b"--resume" in err and json.loads(out)["code"] == "run-folder"
