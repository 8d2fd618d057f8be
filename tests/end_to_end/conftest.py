"""A handful of pictures, and one whole run of them to compare with."""

from pathlib import Path

import pytest

from engine.contract.rundir import RunDir
from engine.run.session import Session
from tests.end_to_end.harness import copy_pictures, run_here, session_in, write_profile


@pytest.fixture
def place(tmp_path: Path, demo_folder: Path) -> Path:
    copy_pictures(demo_folder, tmp_path / "pictures")
    return tmp_path


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return session_in(tmp_path / "runs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> tuple[Path, RunDir]:
    """An uninterrupted run of five steps, and the profile it ran."""
    place = tmp_path_factory.mktemp("whole")
    copy_pictures(demo_folder, place / "pictures")
    profile = write_profile(place, demo_folder)
    return profile, run_here(profile, place / "runs")
