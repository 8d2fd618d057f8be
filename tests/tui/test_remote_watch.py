"""`watch --host` as a person meets it: lines, screens, what is said when the connection goes."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import fake_engine
import fake_run
import far_side
import msgspec
import pytest
import seen
from PIL import Image
from processes import until

from aozora_tui import cli, runs
from aozora_tui.app import AozoraApp
from aozora_tui.remote import links
from aozora_tui.remote.watching import connected
from engine.contract import events, rundir

ROOT = Path(__file__).parents[2]


@pytest.fixture
def far(tmp_path, monkeypatch):
    (tmp_path / "far").mkdir()
    return far_side.fake(tmp_path / "far", monkeypatch)


@contextlib.contextmanager
def engine(run, *arguments):
    profile = run.path.parent / "p.toml"
    profile.write_text("")
    command = [sys.executable, fake_engine.__file__, *arguments, "train", str(profile), "--run", str(run.path)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        until(lambda: isinstance(events.last_event(run.events), events.Step))
        yield process
    finally:
        process.kill()
        process.wait()


def command(*arguments):
    return [sys.executable, "-m", "aozora_tui", "watch", "--host", "box", *arguments]


def watched(far, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command(*arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=environment
    )


def in_a_hurry():
    return iter([0.05] * 1000)


def test_an_ended_run_in_lines_and_its_exit_code(far):
    run = fake_run.make(far.runs, "eel-20231113-101010")
    fake_run.trained(run, 3, steps=3)
    fake_run.add(
        run, events.Finished(time=fake_run.START + 200, step=3, reason="finished", seconds=9.0, export="exports/m.st")
    )
    done = watched(far)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("step")] == ["step 1/3", "step 2/3", "step 3/3"]
    assert lines[-1] == f"export: box:{run.exports}/m.st"


def test_a_failure_there_is_an_exit_code_here(far):
    run = fake_run.make(far.runs, "eel-20231113-101010")
    fake_run.add(run, fake_run.started(run))
    fake_run.add(run, events.Failed(time=fake_run.START + 50, code="x", text="the disk is full", remedy="Make room."))
    done = watched(far, "eel", "--json")
    assert done.returncode == 1
    assert done.stdout == run.events.read_text()
    assert "the disk is full" in done.stderr


def test_a_live_run_is_followed_through_a_broken_connection_to_its_end(far):
    run = rundir.create(far.runs, "eel")
    with engine(run, "--steps", "60", "--pace", "0.05"):
        with (far.folder / "said").open("w") as errors:
            follower = subprocess.Popen(
                command("--json"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                text=True,
            )
        assert follower.stdout is not None
        with follower.stdout as out:
            first = out.readline()
            far.kill()
            rest = out.read()
        follower.wait()
    said = (far.folder / "said").read_text()
    assert follower.returncode == 0
    assert first + rest == run.events.read_text()
    assert "Connection to box lost" in said and "connected to box again; nothing is missing" in said


def test_the_runs_there_can_be_listed(far, capsys):
    for name in ("eel-20231113-101010", "cat-20231114-101010"):
        fake_run.make(far.runs, name)
    assert cli.main(["watch", "--host", "box", "--list"]) == 0
    assert capsys.readouterr().out == "cat-20231114-101010\neel-20231113-101010\n"


def test_what_cannot_be_watched_is_one_sentence(far, capsys):
    assert cli.main(["watch", "--host", "box"]) == 2
    said = f"there are no runs in box:{far.runs}: say where they are with --remote-runs\n"
    assert capsys.readouterr().err == said
    (far.folder / "cut").touch()
    assert cli.main(["watch", "--host", "box"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "box cannot be reached: ssh: connect to host box port 22: Connection refused"
    assert cli.main(["watch", "--remote-runs", "/x"]) == 2
    assert "belong to --host" in capsys.readouterr().err


@pytest.fixture
def mirror(far):
    """Of a run that lives there."""
    run = rundir.create(far.runs, "eel")
    with (
        engine(run, "--steps", "100000", "--pace", "0.02"),
        connected("box", None, tick=0.02, between=in_a_hurry) as mirror,
    ):
        yield mirror


def stands(app, word):
    until(lambda: app.screen.tick() or app.screen.word == word)


async def test_the_run_screen_shows_and_steers_it(mirror):
    app = AozoraApp(mirror, ticking=False)
    async with app.run_test(size=(120, 40)) as pilot:
        stands(app, "running")
        await pilot.pause()
        assert f"{mirror.name} on box" in seen.text(app)
        await pilot.press("p")
        stands(app, "paused")
        await pilot.pause()
        assert "paused after step" in seen.text(app)
        assert runs.newest_checkpoint(mirror) is None


async def test_a_lost_connection_is_said_on_every_screen_until_it_is_back(far, mirror):
    app, link = AozoraApp(mirror, ticking=False), links.of(mirror)
    async with app.run_test(size=(120, 40)) as pilot:
        stands(app, "running")
        await pilot.press("l")
        far.cut()
        until(lambda: "refused" in link.news())
        app.tick()
        await pilot.pause()
        assert re.search(r"Connection to box lost \d+ s ago, trying again: Connection refused", seen.words(app))
        await pilot.press("escape")
        await pilot.press("p")
        await pilot.pause()
        assert "Nothing was sent: the connection to box is lost" in seen.words(app)
        far.restore()
        until(lambda: not link.news())
        app.tick()
        await pilot.press("p")
        await pilot.pause()
        assert "onnection" not in seen.words(app)
        stands(app, "paused")


async def test_the_card_is_shown_as_the_run_tells_of_it(far):
    run = fake_run.make(far.runs, "eel-20231113-101010")
    fake_run.trained(run, 3)
    card = {"card_used": 5 << 30, "card_total": 12 << 30, "utilisation": 63, "power": 99.0, "power_limit": 200.0}
    fake_run.add(run, events.Machine(time=fake_run.START + 120, card="GPU-1", **card))
    info = msgspec.json.decode(run.info.read_bytes(), type=rundir.RunInfo)
    me = {"pid": os.getpid(), "process_start": rundir.process_start(os.getpid()), "boot_id": rundir.boot_id()}
    run.info.write_bytes(msgspec.json.encode(msgspec.structs.replace(info, **me)))
    asked = []
    with connected("box", None, tick=0.02) as mirror:
        app = AozoraApp(mirror, ticking=False, read_gpu=asked.append, clock=lambda: fake_run.START + 130)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            for part in ("running", "5.0/12.0 GiB", "63 %", "99/200 W", "n/a"):
                assert part in seen.text(app)
    assert asked == []


async def test_previews_come_when_they_are_looked_at(far):
    run = fake_run.make(far.runs, "eel-20231113-101010")
    fake_run.trained(run, 3)
    Image.new("RGB", (64, 64), "red").save(run.samples / "000003-0.png")
    sampled = events.Sampled(time=fake_run.START + 200, step=3, path="samples/000003-0.png", prompt="eel", settings={})
    fake_run.add(run, sampled)
    with connected("box", None, tick=0.02) as mirror:
        app = AozoraApp(mirror, ticking=False)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            assert list(mirror.path.glob("samples/*")) == []
            await pilot.press("v")
            await seen.work_done(app)
            await pilot.pause()
        assert (mirror.path / "samples/000003-0.png").read_bytes() == (run.samples / "000003-0.png").read_bytes()


async def test_a_run_that_is_quiet_costs_the_terminal_nothing(far):
    run = fake_run.make(far.runs, "eel-20231113-101010")
    fake_run.trained(run, 30)
    with connected("box", None, tick=0.02) as mirror:
        app = AozoraApp(mirror, ticking=False, driver_class=seen.CountingDriver, clock=lambda: fake_run.START + 900)
        async with app.run_test(headless=False, size=(80, 24)) as pilot:
            await pilot.pause()
            app.tick()
            await pilot.pause()
            app._driver.sent = 0
            app.tick()
            await pilot.pause()
            assert app._driver.sent == 0
