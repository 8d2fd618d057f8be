"""The app as a process: what it imports, how it starts, how it ends."""

import os
import pty
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import seen
from textual.worker import WorkerFailed

from aozora_tui.app import AozoraApp

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("torch", "numpy", "diffusers", "transformers", "PIL", "safetensors")


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_no_screen_loads_the_engines_libraries():
    code = f"""
import sys
import aozora_tui.app
assert not any(name.startswith("aozora_tui.screens.run") for name in sys.modules), "screens are imported when shown"
from aozora_tui.screens import ask, form, help, home, layers, log, profile, run
import engine.contract.check
loaded = [name for name in {FORBIDDEN!r} if name in sys.modules]
assert not loaded, loaded
ours = sorted(name for name in sys.modules if name.startswith("engine.") and not name.startswith("engine.contract"))
assert not ours, ours
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


async def test_work_that_fails_unforeseen_is_said_and_ends_nothing():
    app = AozoraApp(ticking=False)
    async with app.run_test(size=(80, 24)) as pilot:
        work = app.screen.run_worker(lambda: {}["missing"], thread=True, exit_on_error=False)
        with pytest.raises(WorkerFailed):
            await work.wait()
        await pilot.pause()
        assert "!! That did not work: 'missing'" in seen.text(app)


def read_until(terminal, wanted, seconds=20.0):
    """What the app paints until `wanted` appears in it."""
    got, deadline = b"", time.monotonic() + seconds
    while wanted not in got:
        ready, _, _ = select.select([terminal], [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"{wanted!r} never came; got {got[-500:]!r}"
        try:
            got += os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
    return got


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(number, own_place):
    import fcntl
    import termios

    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", PYTHONPATH=str(ROOT))
        os.chdir(ROOT)
        code = "import sys; from aozora_tui.app import run_app; sys.exit(run_app(None))"
        os.execv(sys.executable, [sys.executable, "-c", code])
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        assert b"\x1b[?1049h" in read_until(terminal, b"Profiles")
        os.kill(pid, number)
        assert b"\x1b[?1049l" in read_until(terminal, b"\x1b[?1049l")
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        os.close(terminal)
