"""Runs seen from outside, with real processes of a fake engine."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_engine
import pytest
from processes import until

from aozora_tui import follow, runs
from engine.contract import events, places, rundir

FAKE = Path(fake_engine.__file__)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    for name in ("DATA", "CACHE", "RUNS", "PROFILES"):
        monkeypatch.setenv(f"AOZORA_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield
    for run in rundir.all_runs(places.runs_folder()):
        if owner := rundir.lock_owner(run):
            os.kill(owner, signal.SIGKILL)
    until(lambda: all(child.poll() is not None for child in runs._children.values()))
    runs.reap()


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "cat.toml"
    path.write_text("# not read by the fake\n")
    return path


def engine(*options):
    return [sys.executable, str(FAKE), *map(str, options)]


def started(run):
    until(lambda: isinstance(events.last_event(run.events), events.Step))


def ended(run):
    until(lambda: runs.exit_code(run) is not None)


def followed(run, **options):
    said = []
    ending = follow.follow(run, lambda line: said.append(line) or True, **options)
    return said, ending


def written(folder, name, *told, tail=b""):
    run = rundir.create(folder, name, now=0)
    run.events.write_bytes(b"".join(map(events.encode, told)) + tail)
    run.info.write_bytes(fake_engine.info(run, "t"))
    return run


# -- launching ---------------------------------------------------------------------------------------------------------


def test_launch_runs_an_engine_to_its_end(profile):
    run = runs.launch(profile, engine_command=engine())
    ended(run)
    assert rundir.state(run) == "finished"
    assert run.profile.read_text() == profile.read_text()
    assert runs.reap() == {run.name: 0}
    assert runs.reap() == {}


def test_an_ended_engine_is_no_zombie_after_reap(profile):
    run = runs.launch(profile, engine_command=engine())
    pid = runs._children[run.path].pid
    ended(run)
    runs.reap()
    assert not Path(f"/proc/{pid}").exists()


def test_the_engine_has_a_session_of_its_own_and_no_terminal(profile):
    run = runs.launch(profile, engine_command=engine("--steps", 10_000, "--pace", 0.01))
    started(run)
    pid = rundir.lock_owner(run)
    assert os.getsid(pid) == pid != os.getsid(0)
    assert [str(Path(f"/proc/{pid}/fd/{n}").readlink()) for n in (0, 1, 2)] == ["/dev/null", "/dev/null", str(run.log)]


def test_the_engine_outlives_a_killed_app(profile):
    code = (
        "import sys; from pathlib import Path; from aozora_tui import runs;"
        "print(runs.launch(Path(sys.argv[1]), engine_command=sys.argv[2:]).path, flush=True); sys.stdin.read()"
    )
    command = engine("--steps", 10_000, "--pace", 0.01)
    app = subprocess.Popen(
        [sys.executable, "-c", code, str(profile), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with app:
        run = rundir.RunDir(Path(app.stdout.readline().decode().strip()))
        started(run)
        os.killpg(app.pid, signal.SIGHUP)
        os.killpg(app.pid, signal.SIGKILL)
    before = events.last_event(run.events).step
    until(lambda: events.last_event(run.events).step > before + 3)
    assert runs.summary(run).state == "running"


def test_folders_given_relative_to_here_are_the_same_for_the_engine(profile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AOZORA_RUNS", "nearby")
    environment = 'import os, sys; sys.stderr.write(os.environ["AOZORA_RUNS"])'
    run = runs.launch(profile, engine_command=[sys.executable, "-c", environment])
    ended(run)
    assert run.log.read_text() == str(tmp_path / "nearby")
    assert run.path.parent == tmp_path / "nearby"


def test_wait_until_started_returns_for_a_live_and_for_a_dead_engine(profile):
    live = runs.launch(profile, engine_command=engine("--steps", 10_000, "--pace", 0.01))
    assert runs.wait_until_started(live, 20)
    assert runs.state_now(live) in ("starting", "running")
    dead = runs.launch(profile, engine_command=engine("--mute"))
    assert not runs.wait_until_started(dead, 20)
    assert runs.summary(dead).state == "crashed"
    assert runs.log_tail(dead) == ["MemoryError: the fake engine could not begin"]
    assert {run.name for run in (live, dead)} == {summary.name for summary in runs.list_summaries(places.runs_folder())}


def test_a_run_that_died_at_once_is_crashed_after_reap_too(profile):
    run = runs.launch(profile, engine_command=engine("--mute"))
    ended(run)
    runs.reap()
    assert runs.summary(run).state == "crashed"


def test_an_engine_that_let_go_of_its_lock_is_not_starting(profile):
    run = runs.launch(profile, engine_command=engine("--linger", 60))
    until(lambda: isinstance(events.last_event(run.events), events.Finished) and rundir.lock_owner(run) is None)
    assert runs.child_is_running(run)
    assert runs.state_now(run) == "finished"
    runs.terminate(run)


def test_two_runs_obey_their_own_commands_only(profile):
    one, two = (runs.launch(profile, engine_command=engine("--steps", 10_000, "--pace", 0.01)) for _ in "ab")
    assert one.path != two.path
    started(one)
    started(two)
    rundir.send(one, "stop")
    ended(one)
    assert rundir.state(one) == "stopped"
    assert rundir.state(two) == "running"


# -- restarting --------------------------------------------------------------------------------------------------------


def test_a_crashed_run_is_seen_and_resumed_from_its_checkpoint(profile):
    run = runs.launch(profile, engine_command=engine("--steps", 10_000, "--pace", 0.01))
    started(run)
    os.kill(rundir.lock_owner(run), signal.SIGKILL)
    ended(run)
    summary = runs.summary(run)
    assert summary.state == "crashed"
    assert summary.remedy == f"It had saved no checkpoint: `aozora-tui resume {run.name}` begins it again."
    fake_engine.save(run, 2)
    assert runs.summary(run).remedy == f"`aozora-tui resume {run.name}` goes on from its last checkpoint."
    assert runs.newest_checkpoint(run) == 2
    runs.resume(run, engine_command=engine("--steps", 5))
    ended(run)
    told = events.Tail(run.events).read()
    resumed = [event for event in told if isinstance(event, events.Started)][1]
    assert resumed.step == 2
    after = told[told.index(resumed) :]
    assert [event.step for event in after if isinstance(event, events.Step)] == [3, 4, 5]
    assert runs.summary(run).state == "finished"


def test_a_run_without_a_checkpoint_restarts_from_the_start(profile):
    run = runs.launch(profile, engine_command=engine("--fail-at", 2))
    ended(run)
    summary = runs.summary(run)
    assert (summary.state, summary.failure, summary.remedy) == ("failed", "the loss is not finite", "Lower it.")
    assert runs.newest_checkpoint(run) is None
    runs.resume(run, engine_command=engine())
    ended(run)
    assert rundir.state(run) == "finished"


def test_an_incomplete_checkpoint_does_not_count(tmp_path):
    run = rundir.create(tmp_path, "cat")
    (run.checkpoints / "step-000009").mkdir()
    (run.checkpoints / "step-000012.tmp").mkdir()
    (run.checkpoints / "step-000012.tmp" / "manifest.json").write_text("{}")
    fake_engine.save(run, 4)
    assert runs.newest_checkpoint(run) == 4


def test_a_live_run_is_not_started_twice(profile):
    run = runs.launch(profile, engine_command=engine("--steps", 10_000, "--pace", 0.01))
    with pytest.raises(ValueError, match=r"is starting already|is running already: `aozora-tui watch`"):
        runs.resume(run, engine_command=engine())
    started(run)
    rundir.send(run, "pause")
    until(lambda: rundir.state(run) == "paused")
    with pytest.raises(ValueError, match="is paused already: `aozora-tui resume` lets it go on"):
        runs.resume(run, engine_command=engine())


def test_a_finished_run_is_not_restarted(profile):
    run = runs.launch(profile, engine_command=engine())
    ended(run)
    with pytest.raises(ValueError, match=r"has finished: start a new run"):
        runs.resume(run)


def test_a_run_that_never_began_is_not_restarted(profile):
    run = runs.launch(profile, engine_command=engine("--mute"))
    ended(run)
    with pytest.raises(ValueError, match="has no profile"):
        runs.resume(run)


def test_a_run_of_another_machine_is_not_restarted(tmp_path):
    run = written(tmp_path / "runs", "cat", fake_engine.one_step(1))
    info = rundir.read_info(run)
    run.info.write_bytes(rundir.msgspec.json.encode(rundir.msgspec.structs.replace(info, host="far-away")))
    with pytest.raises(ValueError, match="was started on far-away"):
        runs.resume(run)


# -- summaries ---------------------------------------------------------------------------------------------------------


def test_a_summary_counts_from_the_last_event(tmp_path):
    first = fake_engine.started(rundir.RunDir(tmp_path), "t", 0, 48)
    run = written(tmp_path / "runs", "cat", first, fake_engine.one_step(7))
    summary = runs.summary(run, now=events.last_event(run.events).time + 90)
    assert (summary.step, summary.steps, summary.age) == (7, 48, 90)
    assert summary.loss == pytest.approx(0.5 / 7)
    assert summary.folder == str(run.path)
    assert b'"state":"crashed"' in rundir.msgspec.json.encode(summary)


def test_a_pid_that_another_process_has_now_does_not_make_a_run_live(tmp_path):
    run = written(tmp_path / "runs", "cat", fake_engine.one_step(7))
    assert rundir.read_info(run).pid == os.getpid()  # a live process, but none that holds the lock
    assert runs.summary(run).state == "crashed"


def test_a_torn_last_line_is_passed_over(tmp_path):
    run = written(tmp_path / "runs", "cat", fake_engine.one_step(7), tail=b'{"event":"step","step":8,"lo')
    assert runs.summary(run).step == 7


def test_a_resume_voids_the_loss_of_later_steps(tmp_path):
    again = fake_engine.started(rundir.RunDir(tmp_path), "t", 2, 48)
    run = written(tmp_path / "runs", "cat", fake_engine.one_step(7), again)
    assert (runs.summary(run).step, runs.summary(run).loss) == (2, None)


def test_the_number_of_steps_is_found_in_a_long_file(tmp_path):
    first = fake_engine.started(rundir.RunDir(tmp_path), "t", 0, 48)
    run = written(tmp_path / "runs", "cat", first, *(fake_engine.one_step(n) for n in range(1, 2000)))
    assert run.events.stat().st_size > 3 << 16
    assert (runs.summary(run).step, runs.summary(run).steps) == (1999, 48)


def test_an_empty_folder_of_a_run_is_a_summary_too(tmp_path):
    run = rundir.create(tmp_path / "runs", "cat")
    summary = runs.summary(run, now=run.path.stat().st_mtime + 5)
    assert (summary.state, summary.step, summary.steps, summary.loss, summary.last_event) == (
        "starting",
        0,
        0,
        None,
        None,
    )
    assert summary.age == pytest.approx(5)


def test_one_bad_folder_hides_no_other_run_from_the_list(tmp_path):
    folder = tmp_path / "runs"
    good = written(folder, "cat", fake_engine.one_step(7))
    pipe = written(folder, "dog")
    pipe.events.unlink()
    os.mkfifo(pipe.events)
    wrong = rundir.create(folder, "eel", now=0)
    wrong.info.mkdir()
    (folder / os.fsdecode(b"name-\xff") / "commands").mkdir(parents=True)
    found = {summary.name: summary for summary in runs.list_summaries(folder)}
    assert found[good.name].state == "crashed"
    assert found[pipe.name].state == found[wrong.name].state == found["name-\\udcff"].state == "unreadable"
    assert "events.jsonl is a pipe or device, not a file" in found[pipe.name].failure
    assert "run.json is a folder, not a file" in found[wrong.name].failure
    assert rundir.msgspec.json.encode(list(found.values()))
    assert runs.live(folder) == []
    with pytest.raises(OSError, match=r"events\.jsonl is a pipe"):
        follow.follow(pipe, lambda line: True)


# -- following ---------------------------------------------------------------------------------------------------------


def test_following_shows_every_line_to_the_end(profile):
    run = runs.launch(profile, engine_command=engine("--steps", 3, "--pace", 0.02))
    said, ending = followed(run)
    assert [line.split("  ")[0] for line in said[1:4]] == ["step 1/3", "step 2/3", "step 3/3"]
    assert said[-1] == f"export: {run.exports / 'model.safetensors'}"
    assert (ending.state, ending.exit_code, follow.report(run, ending)) == ("finished", 0, [])


def test_a_line_longer_than_the_limit_is_cut_out(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\n" + b"x" * 25 + b"\ntwo\n\nthree\ntorn")
    tail = follow.LineTail(path)
    read = [line for _ in range(9) for line in tail.read(limit=10)]
    assert read == [b"one", b"two", b"", b"three"]
    with path.open("ab") as file:
        file.write(b" no more, for it is too long\nfour\n")
    assert [line for _ in range(9) for line in tail.read(limit=10)] == [b"four"]


def test_following_in_json_gives_the_engine_s_own_lines(profile):
    run = runs.launch(profile, engine_command=engine("--die-at", 2, "--torn"))
    said, _ = followed(run, json=True)
    assert "".join(f"{line}\n" for line in said).encode() == run.events.read_bytes().rpartition(b"\n")[0] + b"\n"


def test_json_passes_on_what_is_not_known_here(tmp_path):
    foreign = b'{"event":"dreamt","of":"sheep"}\n'
    end = events.encode(events.Finished(step=1, reason="finished", seconds=1.0, time=time.time() + 60))
    run = written(tmp_path / "runs", "cat", tail=foreign + b"torn{\n" + end)
    said, ending = followed(run, json=True)
    assert said == [foreign.decode().strip(), end.decode().strip()]
    assert ending.state == "finished"


def test_a_crash_while_following_is_told_with_its_remedy(profile):
    run = runs.launch(profile, engine_command=engine("--die-at", 2, "--torn"))
    _, ending = followed(run)
    report = follow.report(run, ending)
    assert (ending.state, ending.exit_code) == ("crashed", 1)
    assert report[-1] == f"  `aozora-tui resume {run.name}` goes on from the start, for it has no checkpoint yet."


def test_a_reader_of_another_s_run_sees_its_crash(tmp_path):
    run = written(tmp_path / "runs", "cat", fake_engine.one_step(1))
    assert followed(run)[1].state == "crashed"


def test_a_restart_that_dies_before_its_first_word_is_not_taken_for_the_old_end(profile):
    run = runs.launch(profile, engine_command=engine("--steps", 10_000, "--pace", 0.01))
    started(run)
    rundir.send(run, "stop")
    ended(run)
    assert rundir.state(run) == "stopped"
    offset = run.events.stat().st_size
    runs.resume(run, engine_command=engine("--mute"))
    _, ending = followed(run, offset=offset)
    assert (ending.state, ending.exit_code) == ("crashed", 1)


def test_a_failure_is_left_to_the_report(profile):
    run = runs.launch(profile, engine_command=engine("--fail-at", 2))
    said, ending = followed(run)
    assert not [line for line in said if "failed" in line]
    assert follow.report(run, ending) == [f"{run.name} failed: the loss is not finite.", "  Lower it."]
    assert ending.exit_code == 1


def test_following_ends_when_nobody_reads_and_the_run_goes_on(profile):
    run = runs.launch(profile, engine_command=engine("--steps", 10_000, "--pace", 0.01))
    ending = follow.follow(run, lambda line: False)
    assert (ending.state, ending.exit_code) == ("unread", 0)
    assert rundir.lock_owner(run) is not None


def test_asking_to_stop_works_from_the_first_moment_on(profile):
    for wait in (lambda run: None, started):
        run = runs.launch(profile, engine_command=engine("--steps", 10_000, "--pace", 0.01))
        wait(run)
        follow.ask_to_stop(run)
        ended(run)
        assert runs.exit_code(run) in (0, -signal.SIGTERM)
        with contextlib.suppress(ValueError):
            follow.ask_to_stop(run)  # too late is no error
