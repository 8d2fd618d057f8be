"""The engine in its own process: kills, signals, streams, and two of them in one folder."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine.contract import events, rundir
from engine.contract.rundir import RunDir
from tests.end_to_end.harness import (
    all_events,
    assert_same_weights,
    engine,
    of_type,
    send,
    wait_for,
    write_profile,
)


def test_kill_minus_nine_in_the_middle_then_resume_equals_never_having_stopped(
    whole: tuple[Path, RunDir], tmp_path: Path
):
    profile, uninterrupted = whole
    run = rundir.create(tmp_path, "killed")
    process = engine("train", profile, "--run", run.path, stdout=subprocess.DEVNULL)
    wait_for(process, run, events.Step, 3)
    send(process, signal.SIGKILL)
    process.wait()
    assert rundir.state(run) == "crashed"
    again = engine("train", "--resume", run.path, stdout=subprocess.DEVNULL)
    assert again.wait() == 0 and rundir.state(run) == "finished"
    assert_same_weights(run, uninterrupted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_save_and_exit_with_their_code(tmp_path: Path, place: Path, demo_folder: Path, number, code: int):
    profile = write_profile(place, demo_folder, steps=400)
    run = rundir.create(tmp_path / "runs", "signalled")
    process = engine("train", profile, "--run", run.path, stdout=subprocess.DEVNULL)
    wait_for(process, run, events.Step, 1)
    send(process, signal.SIGHUP)  # nothing to a run
    send(process, number)
    assert process.wait() == code
    last, saved = all_events(run)[-1], of_type(run, events.Saved)[-1]
    assert isinstance(last, events.Finished) and last.reason == "stopped" and saved.step == last.step >= 1
    assert rundir.state(run) == "stopped"


def test_a_reader_that_leaves_after_three_lines_does_not_end_the_run(
    tmp_path: Path, place: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AOZORA_RUNS", str(tmp_path / "runs"))
    profile = write_profile(place, demo_folder, steps=2)
    process = engine("train", profile, stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    process.stdout.close()
    assert process.wait() == 0
    assert all("event" in json.loads(line) for line in lines)
    (run,) = rundir.all_runs(tmp_path / "runs")
    assert isinstance(all_events(run)[-1], events.Finished) and len(of_type(run, events.Step)) == 2


def test_a_wrong_profile_exits_2_with_every_problem_and_no_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AOZORA_RUNS", str(tmp_path / "runs"))
    (tmp_path / "bad.toml").write_text("[train]\nsteps = 0\nbatchsize = 2\n")
    process = engine("train", tmp_path / "bad.toml", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    assert process.returncode == 2
    assert all(path in err for path in (b"model", b"data", b"train.steps", b"train.batchsize"))
    assert json.loads(out)["event"] == "failed" and not (tmp_path / "runs").exists()
    assert b"Traceback" not in err


def test_a_second_engine_in_the_same_folder_is_refused_and_names_the_first(
    tmp_path: Path, place: Path, demo_folder: Path
):
    profile = write_profile(place, demo_folder, steps=400)
    run = rundir.create(tmp_path / "runs", "owned")
    first = engine("train", profile, "--run", run.path, stdout=subprocess.DEVNULL)
    wait_for(first, run, events.Phase)
    second = engine("train", "--resume", run.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, err = second.communicate()
    assert second.returncode == 2 and str(first.pid).encode() in err
    rundir.send(run, "stop")
    assert first.wait() == 0


def test_no_module_of_the_engine_prints(tmp_path: Path, place: Path, demo_folder: Path):
    profile = write_profile(place, demo_folder, steps=1)
    run = rundir.create(tmp_path / "runs", "quiet")
    process = engine("train", profile, "--run", run.path, stdout=subprocess.PIPE)
    out, _ = process.communicate()
    assert process.returncode == 0 and out == run.events.read_bytes()


def test_events_and_log_on_a_full_disk_do_not_end_the_training(tmp_path: Path, place: Path, demo_folder: Path):
    run = rundir.create(tmp_path / "runs", "full")
    for file in (run.events, run.log):
        file.symlink_to("/dev/full")
    process = engine("train", write_profile(place, demo_folder, steps=2), "--run", run.path, stdout=subprocess.DEVNULL)
    assert process.wait() == 2  # a folder that holds events is not started in
    run.events.unlink()
    process = engine("train", write_profile(place, demo_folder, steps=2), "--run", run.path, stdout=subprocess.DEVNULL)
    assert process.wait() == 0 and list(run.exports.iterdir())


def test_a_reader_that_stalls_on_a_socket_does_not_stop_the_engine(tmp_path: Path, place: Path, demo_folder: Path):
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    run = rundir.create(tmp_path / "runs", "stalled")
    process = engine("train", write_profile(place, demo_folder, steps=4), "--run", run.path, stdout=theirs)
    assert process.wait() == 0 and len(of_type(run, events.Step)) == 4
    ours.close()
    theirs.close()


def test_closed_streams_do_not_matter(tmp_path: Path, place: Path, demo_folder: Path):
    run = rundir.create(tmp_path / "runs", "closed")
    profile = write_profile(place, demo_folder, steps=1)
    command = f"exec {sys.executable} -m engine train {profile} --run {run.path} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
    assert isinstance(all_events(run)[-1], events.Finished)


def test_a_folder_that_holds_a_run_is_not_started_in_again(tmp_path: Path, whole: tuple[Path, RunDir]):
    profile, run = whole
    process = engine("train", profile, "--run", run.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    assert process.returncode == 2 and b"--resume" in err and json.loads(out)["code"] == "run-folder"
