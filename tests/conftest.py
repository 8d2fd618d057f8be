"""What every test shares: no network, the demo's files, and folders of its own for runs, caches and profiles."""

import fcntl
import gc
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# One thread a process: the suite runs beside itself on small machines, and thread pools that wait for each other crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# For this process and for every engine that a test starts.
os.environ["HF_HUB_OFFLINE"] = "1"

# The files that take longest: begun first, or the last one running would be waited for alone.
_LONGEST = (
    "test_demo",
    "test_profile_fields",
    "test_engine",
    "test_engine_process",
    "test_ring_plan",
    "test_learning",
    "test_recorded",
    "test_cli",
    "test_profile_screen",
    "test_stage_major",
    "test_plans",
    "test_profile_keys",
    "test_run_screen",
    "test_out_of_memory",
    "test_compare",
    "test_photographs",
    "test_cli_diff",
    "test_tokenizers",
    "test_golden",
    "test_screens",
    "test_forms",
    "test_verify_optimizer",
    "test_verify",
    "test_conditioner",
    "test_export_diffusers",
    "test_loading",
    "test_conditioning",
    "test_planning",
    "test_randomness",
    "test_home",
    "test_updates_land",
    "test_cheaper",
)

_MOST_GARBAGE = 300_000  # objects that a test may leave, or several together

_THIS_MACHINE = ("127.", "::1", "localhost", "0.0.0.0")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: a test that waits for a screen or an engine leaves its core to another."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """The tests and the libraries that they import stay to the end: no search for garbage looks through them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Garbage is looked for between tests: in the middle of them it would be a quarter of the time of those that draw.
    Not by `gc.disable`: the app and the engine take that for a start that goes on, and would end it."""
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        return (yield)
    finally:
        if gc.get_count()[0] > _MOST_GARBAGE:
            gc.collect()
        gc.set_threshold(*before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """A connection to another machine, or asking for its address, fails the test that tries; no `except Exception` in
    between can hide it."""
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex", "sendto"):
        patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
    resolve = socket.getaddrinfo

    def resolve_here(host: Any, *arguments: Any, **options: Any) -> Any:
        _refuse_others(host)
        return resolve(host, *arguments, **options)

    patch.setattr(socket, "getaddrinfo", resolve_here)
    yield
    patch.undo()


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, *arguments: Any) -> Any:
        if self.family != socket.AF_UNIX:
            _refuse_others(arguments[-1][0])
        return method(self, *arguments)

    return guarded


def _refuse_others(host: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name and not name.startswith(_THIS_MACHINE):
        pytest.fail(f"a test may not reach {name}")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` that all of the suite's processes share: the first to ask has `make` fill it, while the others
    wait. Never written to afterwards. A folder that a failed or killed maker left is made anew."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, made = shared / name, shared / f"{name}.made"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's files, built once for all tests; never written to."""

    def build(folder: Path) -> None:
        from engine.model.demo import build_demo

        build_demo(folder / "demo", lambda done, total: None)

    return made_once(tmp_path_factory, "built", build) / "demo"


@pytest.fixture(scope="session")
def demo_checkpoint(demo_folder: Path) -> Path:
    return demo_folder / "aozora-demo.safetensors"
