"""What every test shares: the demo's files, and folders of its own for runs, caches and profiles."""

import os
from pathlib import Path

import pytest

# One thread a process: the suite runs beside itself on small machines, and thread pools that wait for each other crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's files, built once for all tests; never written to."""
    from engine.model.demo import build_demo

    folder = tmp_path_factory.mktemp("built") / "demo"
    build_demo(folder, lambda done, total: None)
    return folder


@pytest.fixture(scope="session")
def demo_checkpoint(demo_folder: Path) -> Path:
    return demo_folder / "aozora-demo.safetensors"
