"""What every test shares: no network, the demo's files, and folders of its own for runs, caches and profiles."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# One thread a process: the suite runs beside itself on small machines, and thread pools that wait for each other crawl.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# For this process and for every engine that a test starts.
os.environ["HF_HUB_OFFLINE"] = "1"

_THIS_MACHINE = ("127.", "::1", "localhost", "0.0.0.0")


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
