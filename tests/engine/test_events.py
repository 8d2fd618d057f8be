"""Lines that survive torn writes, later protocols and dead readers; a run folder that tells who works in it."""

import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from engine.contract import events, rundir
from engine.contract.curves import rate
from engine.contract.rundir import LockedError, RunDir, RunInfo
from engine.contract.sections import Schedule
from engine.run.session import Emitter, Session


def info(run: RunDir, **changes: object) -> RunInfo:
    facts = RunInfo(
        name=run.name,
        profile_name="p",
        profile_digest="d",
        token="t1",
        pid=1,
        process_start="",
        boot_id="",
        host=socket.gethostname(),
        protocol=1,
        versions={},
        created=0.0,
        started=0.0,
    )
    return msgspec.structs.replace(facts, **changes)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return rundir.create(tmp_path / "runs", "my profile!")


def test_every_event_survives_its_line():
    for event in (
        events.Phase(name="scan"),
        events.Micro(step=1, micro=2, loss=0.5, seconds=0.1),
        events.Failed(code="c", text="t", remedy="r"),
        events.Finished(step=3, reason="stopped", seconds=1.0),
    ):
        line = events.encode(event)
        assert line.count(b"\n") == 1 and events.decode(line) == event


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_never_becomes_a_metric(value: float):
    with pytest.raises(AssertionError, match="not finite"):
        events.encode(events.Micro(step=1, micro=2, loss=value, seconds=0.1))


def test_readers_ignore_unknown_events_and_fields_and_count_torn_lines(tmp_path: Path):
    file = tmp_path / "events.jsonl"
    known = events.encode(events.Phase(name="scan"))
    file.write_bytes(known + b'{"event":"later","x":1}\n' + known.replace(b"{", b'{"more":[1],', 1) + b'{"event":"ph\n')
    tail = events.Tail(file)
    assert [type(event).__name__ for event in tail.read()] == ["Phase", "Phase"] and tail.unreadable == 1


def test_tail_waits_for_the_end_of_a_line_and_reads_in_bounds(tmp_path: Path):
    file = tmp_path / "events.jsonl"
    tail = events.Tail(file)
    assert tail.read() == []
    line = events.encode(events.Phase(name="scan"))
    file.write_bytes(line * 3 + line[:10])
    assert len(tail.read(limit=len(line) + 5)) == 1
    assert len(tail.read()) == 2
    with file.open("ab") as out:
        out.write(line[10:])
    assert len(tail.read()) == 1 and tail.read() == []


def test_emitter_ends_a_torn_line_before_it_goes_on(tmp_path: Path):
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'{"event":"phase","na')
    emitter = Emitter(None)
    emitter.attach(file)
    emitter.emit(events.Phase(name="load"))
    tail = events.Tail(file)
    assert [event.name for event in tail.read()] == ["load"] and tail.unreadable == 1


def test_an_unread_pipe_and_a_closed_one_cost_lines_but_never_the_engine(tmp_path: Path):
    reader, writer = os.pipe()
    emitter = Emitter(writer)
    emitter.attach(tmp_path / "events.jsonl")
    for step in range(2000):  # far more than a pipe holds
        emitter.emit(events.Micro(step=step, micro=0, loss=0.5, seconds=0.1))
    os.set_blocking(reader, False)
    piped = os.read(reader, 1 << 20).splitlines()
    assert all(events.decode(line) is not None for line in piped[:-1]) and 100 < len(piped) < 2000
    os.close(reader)
    emitter.emit(events.Phase(name="save"))
    emitter.emit(events.Phase(name="load"))
    assert len(events.Tail(tmp_path / "events.jsonl").read()) == 2002


def test_a_full_disk_does_not_end_the_engine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    emitter = Emitter(None)
    emitter.attach(Path("/dev/full"))
    emitter.emit(events.Phase(name="save"))
    assert "No space left" in capsys.readouterr().err
    with Path("/dev/full").open("w", buffering=1) as log:
        monkeypatch.setattr("sys.stderr", log)
        emitter.emit(events.Phase(name="save"))
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), log.fileno())  # or closing it would raise what is tested here


@pytest.mark.parametrize("line", [b'{"event":"warning","code":"\xff"}', b"[" * 100_000, b'{"name":"\xff"}'])
def test_foreign_bytes_are_no_event_and_no_error(tmp_path: Path, line: bytes):
    file = tmp_path / "events.jsonl"
    known = events.encode(events.Phase(name="scan"))
    file.write_bytes(line + b"\n" + known)
    assert [event.name for event in events.Tail(file).read()] == ["scan"]
    assert events.last_event(file) == events.Phase(name="scan")


def test_a_line_longer_than_the_reader_takes_is_passed_over(tmp_path: Path):
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"x" * 5000 + b"\n" + events.encode(events.Phase(name="scan")))
    tail = events.Tail(file)
    found = [event for _ in range(8) for event in tail.read(limit=1000)]
    assert [event.name for event in found] == ["scan"]


def test_what_is_no_file_is_no_stream(run: RunDir):
    os.mkfifo(run.events)
    run.info.mkdir()
    run.lock.mkdir()
    assert events.Tail(run.events).read() == [] and rundir.read_info(run) is None
    assert rundir.state(run, now=time.time() + 60) == "crashed"


def test_run_names_are_unique_and_safe(tmp_path: Path):
    first = rundir.create(tmp_path, "../my: profile", now=0.0)
    second = rundir.create(tmp_path, "../my: profile", now=0.0)
    assert first.path.parent == second.path.parent == tmp_path and second.name == f"{first.name}-2"
    (tmp_path / "my pictures").mkdir()  # somebody's own: no run, and not to be resumed
    assert [r.name for r in rundir.all_runs(tmp_path)] == [second.name, first.name]


def test_a_run_is_found_by_name_beginning_or_being_newest(tmp_path: Path):
    with pytest.raises(ValueError, match="no runs"):
        rundir.find(tmp_path, None)
    old, new = rundir.create(tmp_path, "a", now=1e9), rundir.create(tmp_path, "b", now=2e9)
    assert rundir.find(tmp_path, None) == new and rundir.find(tmp_path, "a-") == old
    rundir.create(tmp_path, "a", now=1.5e9)
    with pytest.raises(ValueError, match="fits 2 runs"):
        rundir.find(tmp_path, "a-")
    with pytest.raises(ValueError, match="no run called"):
        rundir.find(tmp_path, "c")


HOLD = (
    "import sys, pathlib; from engine.contract import rundir;"
    "rundir.acquire(rundir.RunDir(pathlib.Path(sys.argv[1]))); print('held', flush=True); sys.stdin.read()"
)


def test_one_engine_a_folder_and_the_kernel_frees_it_at_any_death(run: RunDir):
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout and owner.stdout.readline() == b"held\n"
    assert rundir.lock_owner(run) == owner.pid
    with pytest.raises(LockedError, match=str(owner.pid)):
        rundir.acquire(run)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    assert rundir.lock_owner(run) is None
    os.close(rundir.acquire(run))


def test_states_follow_from_lock_and_last_event(run: RunDir):
    now = time.time()
    assert rundir.state(run, now=now) == "starting" and rundir.state(run, now=now + 60) == "crashed"
    run.info.write_bytes(msgspec.json.encode(info(run)))
    for event, expected in (
        (events.Micro(step=1, micro=2, loss=0.5, seconds=0.1), "crashed"),
        (events.Finished(step=1, reason="finished", seconds=1.0), "finished"),
        (events.Finished(step=1, reason="stopped", seconds=1.0), "stopped"),
        (events.Failed(code="c", text="t", remedy="r"), "failed"),
    ):
        run.events.write_bytes(events.encode(event))
        assert rundir.state(run) == expected
    run.info.write_bytes(msgspec.json.encode(info(run, started=5.0)))  # resumed after that failure, then killed
    assert rundir.state(run) == "crashed"
    run.info.write_bytes(msgspec.json.encode(info(run, started=9e9, exit=0)))  # the clock was set back in between
    run.events.write_bytes(events.encode(events.Finished(step=1, reason="finished", seconds=1.0)))
    assert rundir.state(run) == "finished"


def test_a_run_of_another_host_is_left_alone_while_it_speaks(run: RunDir):
    run.info.write_bytes(msgspec.json.encode(info(run, host="another-box", started=1000.0)))
    run.events.write_bytes(events.encode(events.Phase(name="train", time=2000.0)))
    assert rundir.state(run, now=2060.0) == "elsewhere"
    assert rundir.state(run, now=2000.0 + 3600) == "crashed"  # a box that was renamed must get its runs back


@pytest.mark.parametrize(
    "after",
    [
        events.Refused(command="x", text="y"),
        events.Warned(code="c", text="t", remedy=""),
        events.Steered(step=1, factor=0.5),
        events.Machine(),
    ],
)
def test_a_paused_run_stays_paused_whatever_is_refused(run: RunDir, after: events.Event):
    run.events.write_bytes(events.encode(events.Paused(step=1)) + events.encode(after))
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout and owner.stdout.readline() == b"held\n"
    assert rundir.state(run) == "paused"
    owner.communicate()


def test_commands_reach_only_the_start_they_name(run: RunDir):
    with pytest.raises(ValueError, match="not running"):
        rundir.send(run, "stop")
    run.info.write_bytes(msgspec.json.encode(info(run)))
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout and owner.stdout.readline() == b"held\n"
    rundir.send(run, "save")
    rundir.send(run, "stop")
    commands, refused = rundir.take_commands(run, "t1")
    assert [command.command for command in commands] == ["save", "stop"] and not refused
    rundir.send(run, "stop")
    (run.commands / "nonsense.json").write_text("{")
    (run.commands / "folder").mkdir()
    obeyed, refused = rundir.take_commands(run, "a later start")
    assert obeyed == [] and len(refused) == 3
    assert rundir.take_commands(run, "a later start") == ([], [])
    owner.communicate()


def test_session_obeys_commands_and_refuses_stale_ones_aloud(run: RunDir):
    emitter = Emitter(None)
    emitter.attach(run.events)
    session = Session(run, emitter, "t1")
    for number, (command, token) in enumerate([("pause", "t1"), ("save", "t1"), ("stop", "t0")]):
        (run.commands / f"{number}.json").write_bytes(msgspec.json.encode(rundir.Command(command=command, token=token)))
    session.poll(now=True)
    assert session.paused and session.save_requested and not session.should_stop()
    assert [type(event).__name__ for event in events.Tail(run.events).read()] == ["Refused"]


def test_learning_rate_rises_in_equal_parts_and_never_spends_a_step_at_zero():
    schedule = Schedule(shape="cosine", warmup=0.1, minimum=0.0)
    rates = [rate(schedule, step, 100) for step in range(100)]
    assert rates[:11] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0])
    assert rates[55] == pytest.approx(0.5) and min(rates) > 0 and rates[-1] == pytest.approx(3.046e-4, rel=1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_linear_and_constant_rates():
    assert rate(Schedule(shape="linear", warmup=0.0, minimum=0.1), 50, 100) == pytest.approx(0.55)
    assert {rate(Schedule(shape="constant", warmup=0.0), step, 7) for step in range(7)} == {1.0}
