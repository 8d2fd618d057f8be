"""Folders that are set in the app hold for every engine that it starts: an engine reads no settings file."""

import ast
import json
import os
import sys
import tempfile
from pathlib import Path

import fake_run
import pytest

import aozora_tui
from aozora_tui import diff_process, runs, settings, verify
from engine.contract import places

STAND_IN = """\
import json, os, pathlib, sys
names = [name for name in os.environ if name.startswith("AOZORA_")]
text = json.dumps({"where": os.getcwd(), **{name: os.environ[name] for name in names}})
pathlib.Path(os.environ["SEEN"]).write_text(text)
"""
FOLDERS = ("data", "cache", "runs", "profiles")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """An engine that writes down its environment; the settings file names every folder, the environment none."""
    for name in FOLDERS:
        monkeypatch.delenv(f"AOZORA_{name.upper()}")
    file = places.config_folder() / "settings.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[folders]\n" + "".join(f'{name} = "{tmp_path}/set/{name}"\n' for name in FOLDERS))
    before = dict(os.environ)
    settings.apply(settings.read(os.environ), os.environ)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    script = tmp_path / "engine.py"
    script.write_text(STAND_IN)
    yield (sys.executable, str(script))
    for name in FOLDERS:
        os.environ.pop(f"AOZORA_{name.upper()}", None)
    os.environ.update(before)


def launched(command, tmp_path):
    profile = tmp_path / "mine.toml"
    profile.touch()
    ended(runs.launch(profile, engine_command=command))


def resumed(command, _tmp_path):
    run = fake_run.make(places.runs_folder(), "dog-20231112-101010")
    fake_run.trained(run, 3)
    run.profile.touch()
    runs.resume(run, engine_command=command)
    ended(run)


def verified(command, _tmp_path):
    verify._run([*command, "verify", "a.toml"], lambda: False)


def compared(command, _tmp_path):
    with tempfile.TemporaryFile() as result:
        diff_process._run([*command, "diff", "a", "b"], result.fileno(), lambda _: None)


def ended(run):
    runs._children[run.path].wait()
    runs.reap()


@pytest.mark.parametrize("start", [launched, resumed, verified, compared])
def test_every_engine_is_told_of_the_folders_that_the_settings_file_names(start, stand_in, tmp_path):
    start(stand_in, tmp_path)
    seen = json.loads((tmp_path / "seen.json").read_text())
    for name in FOLDERS:
        assert seen[f"AOZORA_{name.upper()}"] == f"{tmp_path}/set/{name}"
    assert places.runs_folder() == tmp_path / "set" / "runs"  # here the same ones hold


@pytest.mark.parametrize("start", [launched, verified, compared])
def test_relative_folders_mean_the_same_to_an_engine_that_starts_elsewhere(start, stand_in, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AOZORA_CACHE", "near")
    start(stand_in, tmp_path)
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["AOZORA_CACHE"] == str(tmp_path / "near") and seen["where"] != str(tmp_path)


def test_nothing_starts_an_engine_without_its_environment():
    modules = Path(aozora_tui.__file__).parent.rglob("*.py")
    calls = [
        (path.name, {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords})
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "subprocess.Popen"
    ]
    assert {name for name, _ in calls} >= {"runs.py", "verify.py", "diff_process.py"}
    no_engine = {"line.py"}  # ssh: the other machine has folders of its own
    assert [name for name, given in calls if given.get("env") != "environment()" and name not in no_engine] == []
