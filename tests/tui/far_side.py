"""Another machine that is this one: behind a program called `ssh` that runs what it is given here, or behind OpenSSH's
own server on the loopback. Both can be cut off and come back."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import until

from aozora_tui.remote.line import Line
from aozora_tui.remote.link import Link
from aozora_tui.remote.mirror import Mirror
from engine.contract.rundir import RunDir

CUT = '[ -e "{folder}/cut" ] && {{ echo "ssh: connect to host box port 22: Connection refused" >&2; exit 255; }}\n'
# A login that is chatty, and an environment of its own.
FAKE = (
    "#!/bin/sh\n"
    'echo "$@" >>"{folder}/calls"\n' + CUT + "while [ $1 != -- ]; do shift; done\n"
    'shift 2\necho $$ >>"{folder}/pids"\n'
    'exec env -i HOME="{folder}/home" PATH="$PATH" SHELL=/bin/sh {shell} -c "echo Welcome to box; $*"\n'
)
REAL = (
    '#!/bin/sh\necho "$@" >>"{folder}/calls"\n'
    + CUT
    + 'echo $$ >>"{folder}/pids"\nexec {ssh} -F "{folder}/config" "$@"\n'
)
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile none
"""
CLIENT = """\
Host box
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known
  GlobalKnownHostsFile none
"""


class Far:
    """`runs` is where runs are there; `host` how this side calls it."""

    host = "box"

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.runs = self.home / ".local/share/aozora-tui/runs"
        self.runs.mkdir(parents=True)
        (folder / "bin").mkdir()
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")

    def install(self, text: str) -> None:
        program = self.folder / "bin/ssh"
        program.write_text(text)
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def cut(self) -> None:
        """The connection breaks, and cannot be made again."""
        (self.folder / "cut").touch()
        self.kill()

    def restore(self) -> None:
        (self.folder / "cut").unlink()

    def kill(self) -> None:
        """The connection breaks."""
        os.kill(int((self.folder / "pids").read_text().split()[-1]), signal.SIGKILL)

    @property
    def connections(self) -> int:
        return len((self.folder / "pids").read_text().split())


def fake(folder: Path, monkeypatch, shell: str = "sh") -> Far:
    far = Far(folder, monkeypatch)
    far.install(FAKE.format(folder=folder, shell=shell))
    return far


@contextmanager
def served(folder: Path, monkeypatch):
    """Behind a real server; skips the test where there is none, or where it cannot be started."""
    server = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    ssh = shutil.which("ssh")
    if server is None or ssh is None:
        pytest.skip("OpenSSH's server is not installed")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    far = Far(folder, monkeypatch)
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host_key.pub').read_text()}")
    (folder / "config").write_text(CLIENT.format(port=port, folder=folder, user=getpass.getuser()))
    (folder / "server").write_text(SERVER.format(port=port, folder=folder))
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([server, "-D", "-e", "-f", str(folder / "server")], stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or _listens(port))
        if process.poll() is not None:
            pytest.skip(f"OpenSSH's server does not start here: {(folder / 'server.log').read_text().strip()}")
        far.install(REAL.format(folder=folder, ssh=ssh))
        yield far
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def linked(far: Far, run: RunDir, here: Path):
    """A link that works, in a hurry, on the mirror of a far run."""
    line = Line(far.host, asking=True)
    link = Link(
        Mirror(RunDir(here / run.name)),
        line,
        str(run.path),
        tick=0.02,
        remote_command="aozora-tui",
        between=lambda: iter([0.02] * 1000),
    )
    try:
        link.catch_up(lambda here, there: None)
        link.start()
        yield link
    finally:
        link.close()
