"""A handful of pictures, and one whole run of them to compare with."""

import shutil
from pathlib import Path

import pytest

from engine.contract import rundir
from engine.contract.rundir import RunDir
from engine.run.session import Session
from tests.conftest import made_once
from tests.end_to_end.harness import FEW, copy_pictures, run_here, session_in, write_profile


@pytest.fixture
def place(tmp_path: Path, demo_folder: Path) -> Path:
    copy_pictures(demo_folder, tmp_path / "pictures")
    return tmp_path


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return session_in(tmp_path / "runs")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> tuple[Path, RunDir]:
    """An uninterrupted run of five steps over a few layers, and the profile it ran; neither is ever written to."""

    def train(folder: Path) -> None:
        copy_pictures(demo_folder, folder / "pictures")
        run_here(write_profile(folder, demo_folder, layers=FEW), folder / "runs")

    folder = made_once(tmp_path_factory, "whole", train)
    (run,) = rundir.all_runs(folder / "runs")
    return folder / "small.toml", run


@pytest.fixture
def finished(whole: tuple[Path, RunDir], tmp_path: Path) -> tuple[Path, RunDir]:
    """The same, to be gone on with: the run's folder is the test's own."""
    profile, run = whole
    return profile, RunDir(shutil.copytree(run.path, tmp_path / "finished"))


@pytest.fixture
def encoded(whole: tuple[Path, RunDir], place: Path) -> Path:
    """`place` with its pictures encoded already, where that is not what is tested."""
    profile, _ = whole
    shutil.copytree(profile.parent / "cache", place / "cache")
    return place
