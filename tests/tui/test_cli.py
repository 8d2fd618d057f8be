"""The commands as a script or a person without a terminal meets them: exit codes, lines, streams."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fake_engine
import pytest
from processes import until

from aozora_tui import cli
from engine.contract import events, places, rundir

ROOT = Path(__file__).parents[2]
RUNNER = "import sys; from aozora_tui.cli import main; sys.exit(main(sys.argv[2:], engine=sys.argv[1].split('|')))"
SLOW = ("--steps", "10000", "--pace", "0.01")
GOOD = """\
[model]
base = "{data}/demo/aozora-demo.safetensors"
[[data.folders]]
path = "{data}/demo/pictures"
"""


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    for name in ("DATA", "CACHE", "RUNS", "PROFILES"):
        monkeypatch.setenv(f"AOZORA_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    yield
    for run in rundir.all_runs(places.runs_folder()):
        if owner := rundir.lock_owner(run):
            os.kill(owner, signal.SIGKILL)


@pytest.fixture
def profile(tmp_path):
    (tmp_path / "profiles").mkdir()
    path = tmp_path / "profiles" / "cat.toml"
    path.write_text(GOOD)
    return path


def command(*arguments, engine=()):
    fake = "|".join([sys.executable, fake_engine.__file__, *engine])
    return [sys.executable, "-c", RUNNER, fake, *map(str, arguments)]


def call(*arguments, engine=(), **options):
    """A command to its end: in a process of its own if it follows a run, and takes signals and starts an engine."""
    if arguments[0] not in ("train", "watch", "resume", "demo") and not options:
        return call_here(*arguments, engine=engine)
    return subprocess.run(
        command(*arguments, engine=engine),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def call_here(*arguments, engine):
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([*map(str, arguments)], engine=[sys.executable, fake_engine.__file__, *engine])
    said = [stream.buffer.getvalue().decode() for stream in (out, err) if not stream.flush()]
    return subprocess.CompletedProcess(arguments, code, *said)


def begin(*arguments, engine=()):
    return subprocess.Popen(
        command(*arguments, engine=engine),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def only_run():
    (run,) = rundir.all_runs(places.runs_folder())
    return run


def detached(profile, *engine):
    done = call("train", profile, "--detach", engine=engine)
    assert done.returncode == 0, done.stderr
    run = rundir.find(places.runs_folder(), done.stdout.strip())
    until(lambda: isinstance(events.last_event(run.events), events.Step))
    return run


# -- train -------------------------------------------------------------------------------------------------------------


def test_train_prints_a_line_a_step_and_the_export(profile):
    done = call("train", profile)
    run = only_run()
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[0].startswith(f"{run.name} started: 3 steps")
    assert [line.split("  ")[0] for line in lines[1:4]] == ["step 1/3", "step 2/3", "step 3/3"]
    assert lines[-1] == f"export: {run.exports / 'model.safetensors'}"
    assert done.stderr == ""


def test_train_in_json_is_the_event_file(profile):
    done = call("train", "cat", "--json")
    assert done.stdout == only_run().events.read_text()
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()][-1] == "finished"


def test_a_dumb_terminal_gets_plain_lines(profile):
    screen, terminal = os.openpty()
    environment = {**os.environ, "TERM": "dumb"}
    app = subprocess.Popen(command("train", profile), stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    assert app.wait(30) == 0
    os.close(terminal)
    shown = os.read(screen, 1 << 16).decode()
    os.close(screen)
    assert "\x1b" not in shown
    assert shown.splitlines()[-1].startswith("export: ")


def test_a_locale_without_the_letters_gets_escapes(profile):
    odd = profile.with_name("猫.toml")
    odd.write_text(profile.read_text())
    done = call("train", odd, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.startswith("\\u732b-")


def test_a_wrong_profile_starts_nothing_and_names_every_problem(profile):
    profile.write_text(GOOD + '[train]\nsteps = 0\nbatchsize = 2\n[model2]\nx = 1\n[save]\nevery = "a"\n')
    done = call("train", profile)
    assert (done.returncode, done.stdout) == (2, "")
    for path in ("train.steps", "train.batchsize", "model2", "save.every"):
        assert f"  error: {path}: " in done.stderr
    assert "The least allowed is 1." in done.stderr
    assert rundir.all_runs(places.runs_folder()) == []


def test_a_failed_run_exits_1_with_text_and_remedy_on_stderr(profile):
    done = call("train", profile, engine=("--fail-at", "2"))
    assert done.returncode == 1
    assert done.stderr == f"{only_run().name} failed: the loss is not finite.\n  Lower it.\n"


def test_a_crash_exits_1_with_the_log_and_the_remedy(profile):
    done = call("train", profile, engine=("--mute",))
    assert done.returncode == 1
    assert "MemoryError: the fake engine could not begin" in done.stderr


def test_a_profile_that_the_engine_refuses_exits_2(profile):
    for switches in ((), ("--detach",)):
        done = call("train", profile, *switches, engine=("--refuse",))
        assert (done.returncode, done.stdout) == (2, "")
        assert "could not start:\n  cat.toml: 1 problem(s)\n" in done.stderr


IMPORTED = '[optimizer]\nkind = "imported"\nimport_path = "torch.optim.Adam"\n'


def test_what_torch_finds_wrong_starts_no_run(profile):
    profile.write_text(GOOD + IMPORTED)
    for words in (("train", "cat"), ("train", "cat", "--detach"), ("check", "cat")):
        done = call(*words, engine=("--torch-says", "has no argument called beta"))
        assert (done.returncode, done.stdout) == (2, "")
        assert "  error: optimizer.arguments: has no argument called beta. Correct it.\n" in done.stderr
    document = json.loads(call("check", "cat", "--json", engine=("--torch-says", "x")).stdout)
    assert document["ok"] is False and document["problems"][0]["text"] == "x"
    assert rundir.all_runs(places.runs_folder()) == []
    done = call("train", "cat")
    assert (done.returncode, done.stderr) == (0, "")


def test_torch_is_asked_about_imported_optimizers_only_and_after_the_check(profile):
    assert call("check", "cat", engine=("--torch-says", "x")).returncode == 0
    profile.write_text(GOOD + IMPORTED + "[train]\nsteps = 0\n")
    done = call("check", "cat", engine=("--torch-says", "x"))
    assert done.returncode == 2 and "optimizer" not in done.stderr


def test_a_torch_that_does_not_answer_is_a_warning_and_the_run_starts(profile):
    profile.write_text(GOOD + IMPORTED)
    done = call("train", "cat", engine=("--torch-dies",))
    assert done.returncode == 0 and "step 3/3" in done.stdout
    said = "torch could not be asked about it: ImportError: no torch here. The run will tell."
    assert f"  warning: optimizer.import_path: {said}\n" in done.stderr


def test_ctrl_c_saves_stops_and_exits_130(profile):
    app = begin("train", profile, engine=SLOW)
    until(lambda: rundir.all_runs(places.runs_folder()) and events.last_event(only_run().events))
    app.send_signal(signal.SIGINT)
    out, err = app.communicate(timeout=30)
    assert app.returncode == 130
    assert out.splitlines()[-1].startswith("stopped at step ")
    assert "it saves first" in err
    assert "Traceback" not in err
    assert list(only_run().checkpoints.iterdir())


def test_sigterm_saves_stops_and_exits_0(profile):
    app = begin("train", profile, engine=SLOW)
    until(lambda: rundir.all_runs(places.runs_folder()) and events.last_event(only_run().events))
    app.send_signal(signal.SIGTERM)
    out, _ = app.communicate(timeout=30)
    assert app.returncode == 0
    assert "stopped at step " in out


def test_a_second_ctrl_c_leaves_at_once_and_the_engine_stops_by_itself(profile):
    app = begin("train", profile, engine=("--steps", "10000", "--pace", "1.5"))
    until(lambda: rundir.all_runs(places.runs_folder()) and events.last_event(only_run().events))
    app.send_signal(signal.SIGINT)
    assert "it saves first" in app.stderr.readline()
    app.send_signal(signal.SIGINT)
    assert app.wait(10) == 130
    assert "Traceback" not in app.communicate()[1]
    until(lambda: rundir.state(only_run()) == "stopped")


def test_two_ctrl_c_at_once_still_stop_the_engine(profile):
    app = begin("train", profile, engine=SLOW)
    until(lambda: rundir.all_runs(places.runs_folder()) and events.last_event(only_run().events))
    app.send_signal(signal.SIGSTOP)
    app.send_signal(signal.SIGINT)
    app.send_signal(signal.SIGCONT)
    app.send_signal(signal.SIGINT)
    app.communicate(timeout=30)
    assert app.returncode == 130
    until(lambda: rundir.state(only_run()) == "stopped")


def test_a_reader_that_goes_away_ends_the_lines_not_the_run(profile):
    app = begin("train", profile, engine=SLOW)
    assert app.stdout.readline()
    app.stdout.close()
    assert app.wait(20) == 0
    err = app.stderr.read()
    app.stderr.close()
    assert "goes on" in err
    assert "Error" not in err
    assert rundir.state(only_run()) == "running"


def test_detach_prints_the_name_and_returns_while_the_run_lives(profile):
    run = detached(profile, *SLOW)
    assert rundir.state(run) == "running"
    said = json.loads(call("train", profile, "--detach", "--json").stdout)
    assert Path(said["folder"]).name == said["run"] != run.name


def test_detach_tells_of_an_engine_that_cannot_start(profile):
    done = call("train", profile, "--detach", engine=("--mute",))
    assert (done.returncode, done.stdout) == (1, "")
    assert "MemoryError" in done.stderr


# -- watch and commands ------------------------------------------------------------------------------------------------


def test_ctrl_c_in_watch_leaves_the_run_alone(profile):
    run = detached(profile, *SLOW)
    watcher = begin("watch", "cat")
    assert watcher.stdout.readline().startswith(run.name)
    watcher.send_signal(signal.SIGINT)
    _, err = watcher.communicate(timeout=20)
    assert watcher.returncode == 0
    assert f"{run.name} goes on: `aozora-tui stop {run.name}` stops it" in err
    assert rundir.state(run) == "running"


def test_watch_of_a_crashed_run_exits_1_with_the_remedy(profile):
    run = detached(profile, *SLOW)
    watcher = begin("watch")
    assert watcher.stdout.readline()
    os.kill(rundir.lock_owner(run), signal.SIGKILL)
    _, err = watcher.communicate(timeout=20)
    assert watcher.returncode == 1
    assert f"aozora-tui resume {run.name}" in err
    assert call("watch", "--json").returncode == 1


def test_stop_needs_no_name_when_one_run_is_live(profile):
    run = detached(profile, *SLOW)
    assert call("stop").stdout == f"asked {run.name} to save and stop\n"
    until(lambda: rundir.state(run) == "stopped")
    done = call("stop")
    assert done.returncode == 1
    assert "no run is live" in done.stderr
    assert call("watch", run.name).returncode == 0


def test_two_live_runs_must_be_named(profile):
    one, two = detached(profile, *SLOW), detached(profile, *SLOW)
    done = call("stop")
    assert done.returncode == 2
    assert one.name in done.stderr
    assert two.name in done.stderr
    assert call("stop", two.name).returncode == 0
    until(lambda: rundir.state(two) == "stopped")
    assert rundir.state(one) == "running"


def test_pause_and_resume_a_live_run(profile):
    run = detached(profile, *SLOW)
    call("pause")
    until(lambda: rundir.state(run) == "paused")
    assert call("resume").stdout == f"asked {run.name} to go on\n"
    until(lambda: rundir.state(run) == "running")
    refused = call("resume", run.name)
    assert refused.returncode == 1
    assert "is running already" in refused.stderr


def test_lr_scales_the_rate_of_the_run_that_is_live(profile):
    run = detached(profile, *SLOW)

    def factors():
        told = [events.decode(line) for line in run.events.read_bytes().splitlines()]
        return [event.factor for event in told if isinstance(event, events.Steered)]

    assert call("lr", "0.5").stdout == f"asked {run.name} to scale its learning rate by 0.5\n"
    until(lambda: factors() == [0.5])
    assert call("lr", "1", run.name).stdout == f"asked {run.name} to learn at its scheduled rate again\n"
    until(lambda: factors() == [0.5, 1.0])


def test_lr_takes_the_run_first_too_and_says_what_0_means(profile):
    run = detached(profile, *SLOW)
    assert call("lr", run.name, "0.25").stdout == f"asked {run.name} to scale its learning rate by 0.25\n"
    until(lambda: '"factor":0.25' in run.events.read_text())
    assert f" {'running x0.25'} " in call("runs").stdout
    assert [entry["factor"] for entry in json.loads(call("runs", "--json").stdout)] == [0.25]
    said = call("lr", "0").stdout
    assert said == f"asked {run.name} to learn nothing until its rate is raised: `aozora-tui lr 1 {run.name}`\n"


def test_lr_of_a_run_that_ended_says_how_to_change_the_rate(profile):
    run = detached(profile, *SLOW)
    call("stop")
    until(lambda: rundir.state(run) == "stopped")
    done = call("lr", run.name, "0.5")
    assert done.returncode == 1 and "nobody" not in done.stderr
    assert f"lower optimizer.learning_rate in {run.profile}" in done.stderr
    call("resume", run.name, "--plain")
    done = call("lr", "0.5", run.name)
    assert done.returncode == 1 and "has finished" in done.stderr


def test_lr_refuses_what_is_no_factor_and_needs_a_live_run(capsys):
    for wrong in ("-1", "1001", "nan", "half"):
        assert cli.main(["lr", wrong]) == 2
        assert "is not a number from 0 to 1,000, as 0.5" in capsys.readouterr().err
    assert cli.main(["lr", "cat", "0,5"]) == 2
    assert '"0,5" has a comma' in capsys.readouterr().err
    assert cli.main(["lr"]) == 2
    assert cli.main(["lr", "0.5"]) == 1
    assert "no run is live" in capsys.readouterr().err


def test_resume_restarts_the_newest_run_and_says_from_where(profile):
    run = detached(profile, *SLOW)
    call("stop")
    until(lambda: rundir.state(run) == "stopped")
    done = call("resume", "--detach", engine=SLOW)
    assert done.returncode == 0
    assert f"{run.name} goes on from the checkpoint of step " in done.stdout
    until(lambda: rundir.state(run) == "running")


def test_resume_tells_of_an_engine_that_cannot_start(profile):
    run = detached(profile, *SLOW)
    call("stop")
    until(lambda: rundir.state(run) == "stopped")
    for switches in ((), ("--detach",)):
        done = call("resume", *switches, engine=("--mute",))
        assert done.returncode == 1
        assert "MemoryError" in done.stderr


def test_resume_follows_to_the_end_as_train_does(profile):
    run = detached(profile, *SLOW)
    call("stop")
    until(lambda: rundir.state(run) == "stopped")
    before = run.events.stat().st_size
    done = call("resume", "--json", engine=("--steps", "20000"))
    assert done.returncode == 0
    assert done.stdout == run.events.read_bytes()[before:].decode()
    assert rundir.state(run) == "finished"


def test_a_command_to_a_finished_run_is_refused(profile):
    call("train", profile)
    done = call("save", "cat")
    assert done.returncode == 1
    assert "is not running (finished)" in done.stderr


@pytest.mark.parametrize("name", ["save", "sample"])
def test_a_command_that_the_engine_refuses_exits_1_with_the_reason(profile, name):
    run = detached(profile, *SLOW)
    done = call(name)
    assert done.returncode == 1 and f"{run.name} refused to {name}: step " in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["check", "nowhere", "--json"], 2),
        (["train", "cat", "--json"], 2),
        (["watch", "nowhere", "--json"], 2),
        (["resume", "--json"], 2),
        (["inspect", "profiles/cat.toml", "--json"], 1),
        (["layers", "profiles/none.safetensors", "--json"], 1),
        (["inspect", "--json"], 2),
    ],
)
def test_what_goes_wrong_is_an_object_where_json_was_asked_for(profile, words, code):
    profile.write_text(GOOD + "[train]\nsteps = 0\n")
    done = call_here(*words, engine=())
    assert done.returncode == code and done.stderr
    assert isinstance(json.loads(done.stdout)["error"], str)


def test_runs_lists_every_run_with_its_state(profile):
    assert "there are no runs" in call("runs").stdout
    call("train", profile)
    run = detached(profile, *SLOW)
    os.kill(rundir.lock_owner(run), signal.SIGKILL)
    until(lambda: rundir.lock_owner(run) is None)
    lines = call("runs").stdout.splitlines()
    assert lines[0].split() == ["RUN", "STATE", "STEP", "LOSS", "LAST", "SIGN", "FOLDER"]
    assert sorted(line.split()[1] for line in lines[1:3]) == ["crashed", "finished"]
    assert f"`aozora-tui resume {run.name}`" in lines[3]
    listed = json.loads(call("runs", "--json").stdout)
    assert {entry["name"]: entry["state"] for entry in listed}[run.name] == "crashed"
    assert {(entry["step"], entry["steps"]) for entry in listed if entry["state"] == "finished"} == {(3, 3)}


# -- check, inspect, arguments: in this process ------------------------------------------------------------------------


def test_check_gives_one_document(profile, capsys):
    assert cli.main(["check", str(profile), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "profile": str(profile),
        "ok": True,
        "problems": [],
        "forecast": None,  # the demo's checkpoint is not built yet
    }


def test_check_before_the_demo_is_built_says_so_and_complains_of_nothing(profile, capsys):
    profile.write_text(GOOD.replace("[[data", 'tokenizer = "{data}/demo/tokenizer"\n[[data'))
    assert cli.main(["check", "cat"]) == 0
    done = capsys.readouterr()
    assert done.err == "" and "missing" not in done.out and "Hugging Face" not in done.out
    assert "cost           known once the demo's files are there" in done.out


def test_check_of_a_wrong_profile_exits_2(profile, capsys):
    profile.write_text(GOOD + "[train]\nsteps = 0\n")
    assert cli.main(["check", "cat"]) == 2
    assert "train.steps" in capsys.readouterr().err
    assert cli.main(["check", "cat", "--json"]) == 2
    assert [problem["path"] for problem in json.loads(capsys.readouterr().out)["problems"]] == ["train.steps"]


def test_a_profile_is_found_by_path_or_name(profile, capsys):
    assert cli.main(["check", "profiles/cat.toml"]) == 0
    assert cli.main(["check", "cat.toml"]) == 0
    capsys.readouterr()
    assert cli.main(["check", "catt"]) == 2
    assert "did you mean cat?" in capsys.readouterr().err
    assert cli.main(["check", "elsewhere/cat.toml"]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert cli.main(["check", "profiles"]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_without_a_terminal_the_app_says_so(capsys, monkeypatch):
    assert cli.main([]) == 2
    assert "needs a terminal" in capsys.readouterr().err


def test_wrong_arguments_exit_2_and_help_exits_0(capsys):
    assert cli.main(["dance"]) == 2
    assert cli.main(["train"]) == 2
    assert cli.main(["--help"]) == 0
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("aozora-tui ")


def test_display_switches_count_before_and_after_the_command(profile, monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", "1")
    names = ("TEXTUAL_FPS", "AOZORA_ASCII", "TEXTUAL_THEME")
    for name in names:
        monkeypatch.setenv(name, "")
    cli.main(["--ascii", "watch", "--slow-link"])
    assert [os.environ[name] for name in names] == ["5", "1", "ansi-dark"]


def test_headless_commands_load_neither_textual_nor_torch(profile):
    heavy = "{'textual', 'rich', 'torch', 'numpy', 'diffusers', 'transformers', 'PIL'}"
    for words in (
        ["runs"],
        ["check", "cat"],
        ["doctor"],
        ["watch"],
        ["stop"],
        ["tag", "a", "b"],
        ["note", "a", "b"],
        ["clone", "a"],
        ["runs", "--sort", "size", "--tag", "b"],
        ["diff", "a", "b"],
        ["layers", "a"],
        ["lr", "1"],
        ["settings"],
        ["settings", "--example"],
        ["schema"],
    ):
        code = (
            f"import sys; from aozora_tui.cli import main; main({words!r}); sys.exit(str({heavy} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[-1] == "set()", words
