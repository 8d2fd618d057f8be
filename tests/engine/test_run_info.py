"""What a run's folder says of its start."""

import json
from pathlib import Path

import msgspec
import pytest

from engine.__main__ import _describe, _parse, _write_info
from engine.contract import rundir
from engine.contract.profile import parse
from engine.contract.rundir import RunDir

TEXT = '[model]\nbase = "base.safetensors"\n[[data.folders]]\npath = "pictures"\n'


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return rundir.create(tmp_path / "runs", "mine")


def describe(run: RunDir, *arguments: str) -> rundir.RunInfo:
    settings = parse(TEXT, "p")[0]
    assert settings is not None
    info = _describe(run, _parse(["train", *arguments]), settings)
    _write_info(run, info)
    assert rundir.read_info(run) == info
    return info


def test_a_run_says_which_profile_it_is_of_and_a_resumed_one_still_does(run: RunDir, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = describe(run, "mine.toml", "--run", str(run.path))
    assert first.profile_path == str(tmp_path / "mine.toml") and first.profile_name == "mine"
    monkeypatch.chdir("/")
    again = describe(run, "--resume", str(run.path))
    assert (again.profile_path, again.profile_name) == (first.profile_path, "mine") and again.token != first.token


def test_a_run_of_an_older_version_is_read_and_can_be_resumed(run: RunDir):
    info = describe(run, "mine.toml", "--run", str(run.path))
    known = json.loads(msgspec.json.encode(info))
    del known["profile_path"]
    run.info.write_text(json.dumps(known))
    found = rundir.read_info(run)
    assert found is not None and found.profile_path == ""
    assert describe(run, "--resume", str(run.path)).profile_path == ""


def test_a_profile_whose_name_is_no_text_can_be_run(run: RunDir):
    """A name of bytes that are no UTF-8 cannot be written into JSON: such a run goes by its own name."""
    info = describe(run, "/x/m\udcffne.toml", "--run", str(run.path))
    assert info.profile_path == "" and info.profile_name == "m?ne"
