"""A run elsewhere: its mirror has every byte of it once, whatever happens to the connection."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading

import fake_engine
import fake_run
import far_side
import msgspec
import pytest
from processes import until

from aozora_tui import runs
from aozora_tui.remote import links
from aozora_tui.remote.line import Line, LostError
from aozora_tui.remote.link import Link
from aozora_tui.remote.losses import pauses
from aozora_tui.remote.mirror import LOG_TAIL, Mirror, claim
from aozora_tui.remote.watching import choose, connected
from engine.contract import events, places, rundir
from engine.contract.rundir import RunDir


@pytest.fixture(params=["fake", "sshd"])
def far(request, tmp_path, monkeypatch):
    folder = tmp_path / "far"
    folder.mkdir()
    if request.param == "fake":
        yield far_side.fake(folder, monkeypatch)
    else:
        with far_side.served(folder, monkeypatch) as served:
            yield served


@pytest.fixture
def near(tmp_path, monkeypatch):
    """Where only what is ours is at stake, not the connection."""
    (tmp_path / "far").mkdir()
    return far_side.fake(tmp_path / "far", monkeypatch)


@pytest.fixture
def here(tmp_path):
    return tmp_path / "here"


def made(far, name="eel-20231113-101010"):
    return fake_run.make(far.runs, name)


def commands(run):
    """Those that are whole; the others are hidden."""
    return [path for path in run.commands.iterdir() if not path.name.startswith(".")]


@contextlib.contextmanager
def engine(run, *arguments):
    """A living engine on a far run."""
    profile = run.path.parent / "p.toml"
    profile.write_text("")
    command = [sys.executable, fake_engine.__file__, *arguments, "train", str(profile), "--run", str(run.path)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# -- nothing lost, nothing doubled -------------------------------------------------------------------------------------


def test_every_event_arrives_once_though_the_connection_is_killed_in_the_middle(far, here):
    run = made(far)
    fake_run.add(run, fake_run.started(run))
    lines = b"".join(events.encode(fake_run.step(number, at=number)) for number in range(1, 401))
    cuts = iter(range(0, len(lines) + 997, 997))  # in the middle of lines, mostly
    begin = next(cuts)
    with far_side.linked(far, run, here) as link:
        tail, seen = events.Tail(link.run.events), []
        for turn, end in enumerate(cuts):
            with run.events.open("ab") as file:
                file.write(lines[begin:end])
            begin = end
            if turn in (19, 59, 99):
                until(lambda: link.run.events.stat().st_size == run.events.stat().st_size)
            if turn in (20, 60):
                far.kill()
            if turn == 100:
                far.cut()
                until(lambda: "Connection refused" in link.news())
            if turn == 140:
                far.restore()
            seen += tail.read()
        until(lambda: link.run.events.read_bytes() == run.events.read_bytes())
        seen += tail.read()
        assert link.news() == ""
    assert far.connections >= 4
    assert [event.step for event in seen if isinstance(event, events.Step)] == list(range(1, 401))
    assert tail.unreadable == 0


def test_a_half_line_waits_for_its_other_half(near, here):
    run = made(near)
    line = events.encode(fake_run.started(run))
    run.events.write_bytes(line[:50])
    with far_side.linked(near, run, here) as link:
        tail = events.Tail(link.run.events)
        assert (link.run.events.read_bytes(), tail.read()) == (line[:50], [])
        with run.events.open("ab") as file:
            file.write(line[50:])
        until(lambda: link.run.events.read_bytes() == line)
        assert len(tail.read()) == 1


def test_another_file_in_its_place_is_copied_from_its_beginning(near, here):
    run = made(near)
    fake_run.trained(run, 30)
    with far_side.linked(near, run, here) as link:
        tail = events.Tail(link.run.events)
        assert len(tail.read()) == 35
        other = run.path / "other"
        other.write_bytes(b"".join(events.encode(fake_run.step(number, at=2.0)) for number in range(500)))
        other.replace(run.events)  # longer than what was there
        until(lambda: link.run.events.read_bytes() == run.events.read_bytes())
        assert [event.step for event in tail.read()] == list(range(500))


def test_a_file_that_was_replaced_while_the_connection_was_down_is_noticed(near, here):
    run = made(near)
    fake_run.trained(run, 30)
    with far_side.linked(near, run, here) as link:
        near.cut()
        text = run.events.read_bytes().replace(b'"step":30', b'"step":31')
        run.events.write_bytes(text + text)  # in place: the same inode
        near.restore()
        until(lambda: link.run.events.read_bytes() == text + text)


def test_a_second_watching_goes_on_where_the_first_ended(near, here):
    run = made(near)
    fake_run.trained(run, 30)
    with far_side.linked(near, run, here) as link:
        first = link.run.events.stat().st_ino
    with run.events.open("ab") as file:
        file.write(events.encode(fake_run.step(31, at=1.0)))
    with far_side.linked(near, run, here) as link:
        assert link.run.events.stat().st_ino == first
        assert link.run.events.read_bytes() == run.events.read_bytes()


def test_a_long_history_comes_in_parts(near, here):
    run = made(near)
    run.events.write_bytes(b"".join(events.encode(fake_run.step(number, at=1.0)) for number in range(3000)))
    assert run.events.stat().st_size > 3 << 18
    with far_side.linked(near, run, here) as link:
        assert link.run.events.read_bytes() == run.events.read_bytes()


def test_a_long_history_arrives_though_the_connection_breaks_while_it_comes(near, here):
    run = made(near)
    run.events.write_bytes(b"".join(events.encode(fake_run.step(number, at=1.0)) for number in range(4000)))
    line, told = Line("box", asking=True), []
    link = Link(Mirror(RunDir(here)), line, str(run.path), tick=1, remote_command="", between=lambda: iter([0.01] * 99))
    try:
        link.catch_up(lambda here, there: near.kill() if near.connections < 4 else None, told.append)
        assert link.run.events.read_bytes() == run.events.read_bytes()
    finally:
        link.close()
    assert near.connections == 4 and len(told) == 3
    assert "lost 0 s ago, trying again" in told[0] and link.news() == ""


def test_of_a_long_log_the_end_comes_and_says_so(near, here):
    run = made(near)
    run.log.write_bytes(b"x" * (LOG_TAIL + 999) + b"\nlast\n")
    with far_side.linked(near, run, here) as link:
        until(lambda: link.run.log.read_bytes().endswith(b"\nlast\n"))
        assert link.run.log.read_bytes().startswith(b"[the first 1,005 bytes are only there]\nxxx")
        with run.log.open("ab") as file:
            file.write(b"more\n")
        until(lambda: link.run.log.read_bytes().endswith(b"last\nmore\n"))


def test_two_that_watch_the_same_run_have_a_folder_each():
    first, held = claim("me@box", "eel")
    second, other = claim("me@box", "eel")
    os.close(held)
    os.close(other)
    assert first.path == places.cache_folder() / "remote/me@box/eel"
    assert second.path == places.cache_folder() / "remote/me@box+2/eel"
    again, held = claim("ssh://me@box:22/../..", "eel")
    os.close(held)
    assert again.path.parent.parent == places.cache_folder() / "remote"


# -- how it stands, and commands ---------------------------------------------------------------------------------------


def test_a_run_lives_ends_and_is_told_apart_from_one_that_was_killed(far, here):
    run = rundir.create(far.runs, "eel")
    with engine(run, "--steps", "100000", "--pace", "0.01") as process:
        until(lambda: isinstance(events.last_event(run.events), events.Step))
        with far_side.linked(far, run, here) as link:
            links.add(link.run, link)
            try:
                until(lambda: runs.state_now(link.run) == "running")
                links.send(link.run, "pause")
                until(lambda: runs.state_now(link.run) == "paused")
                links.send(link.run, "resume")
                links.send(link.run, "lr", 0.5)
                until(lambda: b'"factor":0.5' in link.run.events.read_bytes())
                process.kill()
                process.wait()
                until(lambda: runs.state_now(link.run) == "crashed")
                assert link.take_said() == []
                with pytest.raises(ValueError, match=r"is not running \(crashed\)"):
                    links.send(link.run, "save")
            finally:
                links.remove(link.run)


def test_what_a_run_ends_with_is_here_before_it_is_said_to_have_ended(near, here):
    run = rundir.create(near.runs, "eel")
    with engine(run, "--steps", "30", "--pace", "0.01", "--linger", "0") as process:
        until(lambda: isinstance(events.last_event(run.events), events.Step))
        with far_side.linked(near, run, here) as link:
            until(lambda: link.state() not in rundir.LIVE_STATES)
            assert link.state() == "finished"
            assert isinstance(events.last_event(link.run.events), events.Finished)
            assert link.checkpoint() == 30
        process.wait()


def test_a_command_is_for_the_start_that_is_seen(near, here):
    run = made(near)
    fake_run.trained(run, 3)
    info = msgspec.json.decode(run.info.read_bytes(), type=rundir.RunInfo)
    me = {"pid": os.getpid(), "process_start": rundir.process_start(os.getpid()), "boot_id": rundir.boot_id()}
    run.info.write_bytes(msgspec.json.encode(msgspec.structs.replace(info, **me)))
    with far_side.linked(near, run, here) as link:
        assert link.state() == "running"
        link.send("stop", None)
        until(lambda: commands(run))
        assert rundir.take_commands(run, "t0") == ([rundir.Command(command="stop", token="t0")], [])
        run.commands.rmdir()
        run.commands.write_text("no folder")
        link.send("save", None)
        said = []
        until(lambda: said.extend(link.take_said()) or said)
        assert said == [("save of eel-20231113-101010: its folder cannot be written", "warning")]


def test_nothing_is_sent_without_a_connection_and_that_is_said(near, here):
    run = made(near)
    fake_run.trained(run, 3)
    info = msgspec.json.decode(run.info.read_bytes(), type=rundir.RunInfo)
    me = {"pid": os.getpid(), "process_start": rundir.process_start(os.getpid()), "boot_id": rundir.boot_id()}
    run.info.write_bytes(msgspec.json.encode(msgspec.structs.replace(info, **me)))
    with far_side.linked(near, run, here) as link:
        near.cut()
        until(lambda: "Connection refused" in link.news())
        assert re.match(r"Connection to box lost \d+ s ago, trying again: Connection refused$", link.news())
        with pytest.raises(ValueError, match="Nothing was sent: the connection to box is lost"):
            link.send("stop", None)
        near.restore()
        until(lambda: not link.news())
        assert list(run.commands.iterdir()) == []
        link.send("stop", None)
        until(lambda: commands(run))


def test_a_folder_that_is_gone_is_told(near, here):
    run = made(near)
    with far_side.linked(near, run, here) as link:
        run.path.rename(run.path.with_name("away"))
        until(lambda: link._seen.gone)
        with pytest.raises(FileNotFoundError, match="is gone"):
            link.state()


def test_a_picture_comes_when_it_is_asked_for_and_nothing_else_does(near, here):
    run = made(near)
    (run.samples / "a b.png").write_bytes(bytes(range(256)) * 999)
    (run.path.parent / "secret").write_text("x")
    with far_side.linked(near, run, here) as link:
        links.add(link.run, link)
        try:
            picture = link.run.path / "samples/a b.png"
            assert not picture.exists()
            assert links.bring(picture)
            assert picture.read_bytes() == bytes(range(256)) * 999
            for other in ("samples/../../secret", "samples/nothing.png", "run.lock", "samples/a\nb"):
                assert not links.bring(link.run.path / other)
            assert link.take_said() == [] and link.news() == ""
            near.cut()
            until(link.news)
            assert not links.bring(link.run.path / "samples/other.png")  # and at once
        finally:
            links.remove(link.run)


def test_nobody_waits_for_a_picture_when_the_app_ends(near, here):
    run = made(near)
    (run.samples / "a.png").write_bytes(b"x")
    with far_side.linked(near, run, here) as link:
        os.kill(int((near.folder / "pids").read_text().split()[-1]), signal.SIGSTOP)
        came = []
        waiting = threading.Thread(target=lambda: came.append(link.fetch("samples/a.png", 60)))
        waiting.start()
        until(lambda: link._wanted)
        link.release()
        waiting.join(20)
        assert came == [False]


def test_an_ended_run_is_restarted_there_by_the_program_there(near, here):
    run = made(near)
    fake_run.add(run, events.Finished(time=1.0, step=3, reason="stopped", seconds=1.0))
    said = []
    with far_side.linked(near, run, here) as link:
        link.resume()
        until(lambda: said.extend(link.take_said()) or said)
        assert "aozora-tui is not found there: say where it is, as --remote-command" in said.pop()[0]
        (near.home / ".profile").write_text(f'PATH="{near.home}:$PATH"\n')
        program = near.home / "aozora-tui"
        program.write_text('#!/bin/sh\necho "$@" >"$HOME/called"\necho it is broken >&2\nexit 1\n')
        program.chmod(0o755)
        link.resume()
        until(lambda: said.extend(link.take_said()) or said)
        assert said == [(f"resume of {run.name}: it is broken", "warning")]
        assert (near.home / "called").read_text() == f"resume --detach {run.path}\n"


# -- connecting --------------------------------------------------------------------------------------------------------


def test_ssh_may_ask_at_first_and_never_again(near, here):
    run = made(near)
    with far_side.linked(near, run, here):
        near.kill()
        until(lambda: near.connections == 2)
    first, second = near.calls
    assert "BatchMode" not in first and "BatchMode=yes" in second
    assert all("ServerAliveInterval=15" in call and call.endswith("-- box exec sh") for call in near.calls)


def test_the_pauses_between_tries_grow_to_half_a_minute():
    between = pauses()
    assert [next(between) for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize("shell", ["dash", "bash", "bash --posix"])
def test_the_far_side_is_plain_shell(tmp_path, monkeypatch, here, shell):
    (tmp_path / "far").mkdir()
    far = far_side.fake(tmp_path / "far", monkeypatch, shell)
    far.install((far.folder / "bin/ssh").read_text().replace("; $*", f"; exec {shell}"))
    run = made(far, "with space's-20231113-101010")
    fake_run.trained(run, 3)
    with far_side.linked(far, run, here) as link:
        assert link.run.events.read_bytes() == run.events.read_bytes()


@pytest.mark.parametrize("place", ["home", "settings", "data of settings", "login", "named"])
def test_the_newest_run_is_found_where_runs_are_there(near, place):
    folder, other = "", near.home / "big disk/runs"
    login = near.home / ".profile"
    settings = near.home / ".config/aozora-tui/settings.toml"
    settings.parent.mkdir(parents=True)
    match place:
        case "settings":
            settings.write_text('[look]\ntick = 2\n[folders]\n# runs = "/x"\nruns = "~/big disk/runs" # here\n[keys]\n')
        case "data of settings":
            settings.write_text(f"[folders]\ndata = '{other.parent}'\n")
        case "login":
            login.write_text(f'echo "hello"; export AOZORA_RUNS="{other}"\n')
        case "named":
            folder = str(other)
    where = near.runs if place == "home" else other
    for name in ("eel-20231113-101010", "cat-20231114-101010"):
        fake_run.trained(fake_run.make(where, name), 3)
    (where / "no run").mkdir()
    with connected("box", None, folder=folder) as run:
        assert run.name == "cat-20231114-101010"
        assert run.events.read_bytes() == (where / run.name / "events.jsonl").read_bytes()
        assert str(links.folder(run)) == f"box:{where / run.name}"
        assert links.typed(run, "watch") == "aozora-tui watch --host box cat-20231114-101010"
    assert links.of(run) is None


def test_a_run_is_named_by_its_beginning_or_its_folder(near):
    run = made(near)
    fake_run.make(near.runs, "cat-20231114-101010")
    for name in ("eel", run.name, str(run.path), f"~/.local/share/aozora-tui/runs/{run.name}"):
        with connected("box", name) as found:
            assert found.name == run.name
    with pytest.raises(ValueError, match="box: there is no folder /no/such"), connected("box", "/no/such"):
        pass


def test_what_is_meant_is_told_from_what_is_there():
    names = ["eel-20231113-101010", "eel-20231114-101010", "cat-20231112-101010"]
    assert choose(names, None, "box:/r") == "eel-20231114-101010"
    assert choose(names, "cat", "box:/r") == "cat-20231112-101010"
    with pytest.raises(ValueError, match=r"eel fits 2 runs in box:/r, write more of it: eel-20231114-101010, eel"):
        choose(names, "eel", "box:/r")
    with pytest.raises(ValueError, match="no run called dog in box:/r; there are: eel-20231114-101010, eel-2023111"):
        choose(names, "dog", "box:/r")
    with pytest.raises(ValueError, match="there are no runs in box:/r: say where they are with --remote-runs"):
        choose([], None, "box:/r")


def test_what_ssh_says_is_why_it_cannot_be_reached(near):
    (near.folder / "cut").touch()
    said = "box cannot be reached: ssh: connect to host box port 22: Connection refused"
    with pytest.raises(OSError, match=said), connected("box", None):
        pass


def test_a_host_is_no_option():
    with pytest.raises(ValueError, match="is no host"):
        Line("-oProxyCommand=touch x", asking=False)


def test_a_far_side_that_does_not_answer_is_left(near):
    made(near)
    line = Line("box", asking=True)
    os.kill(int((near.folder / "pids").read_text().split()[-1]), signal.SIGSTOP)
    try:
        with pytest.raises(LostError, match="no answer for 0 s"):
            line.ask("f ", patience=0.05)
    finally:
        line.close()


def test_after_silence_it_connects_by_itself_not_through_a_connection_that_is_shared(near, here, monkeypatch):
    run = made(near)
    monkeypatch.setattr(Line.ask, "__kwdefaults__", {"patience": 0.3})
    with far_side.linked(near, run, here) as link:
        os.kill(int((near.folder / "pids").read_text().split()[-1]), signal.SIGSTOP)
        until(lambda: near.connections > 1 and not link.news())
    assert "ControlPath=none" not in near.calls[0] and "ControlPath=none" in near.calls[1]


def test_what_answers_something_else_is_left(near, here):
    run = made(near)
    stat = near.home / "stat"
    stat.write_text("#!/bin/sh\necho s strange\n")
    stat.chmod(0o755)
    with far_side.linked(near, run, here) as link:
        near.install((near.folder / "bin/ssh").read_text().replace('PATH="$PATH"', f'PATH="{near.home}:$PATH"'))
        near.kill()
        until(lambda: "what it answers is not understood" in link.news())
        stat.unlink()
        until(lambda: not link.news())


def test_a_copy_that_cannot_be_written_is_said_to_be_that(near, here):
    run = made(near)
    fake_run.trained(run, 3)
    with far_side.linked(near, run, here) as link:
        away = link.run.path.with_name("away")
        link.run.path.rename(away)
        link.run.path.write_text("no folder")
        until(lambda: "the copy of the run here cannot be written (Not a directory)" in link.news())
        link.run.path.unlink()
        away.rename(link.run.path)
        until(lambda: not link.news())


def test_what_is_cut_short_while_it_is_sent_keeps_the_line_whole(near):
    """The far side promises a number of bytes before it reads them."""
    run = made(near)
    run.log.write_bytes(b"abc")
    line = Line("box", asking=True)
    try:
        line.ask(f"o {run.path}")
        program = near.folder / "bin/stat"
        program.write_text("#!/bin/sh\necho 9\n")
        program.chmod(0o755)
        assert line.ask("r 1 99 log.txt").data == {"log.txt": b"bc" + bytes(6)}
    finally:
        line.close()
