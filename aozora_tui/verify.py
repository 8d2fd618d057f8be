"""What only torch knows of a profile: asked of the engine, in a process of its own, before a run is started."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from aozora_tui.cards import cards, with_leanest
from aozora_tui.engine_process import ENGINE, PACKAGES, environment
from aozora_tui.text import printable
from engine.contract import nvml
from engine.contract.check import Checked, check_file
from engine.contract.problems import Problem

ASKING = "asking torch about the optimizer ..."
SECONDS = 120.0
_POLL = 0.2
_WHERE = "optimizer.import_path"


class _Answer(msgspec.Struct, frozen=True):
    problems: tuple[Problem, ...]


def check_for_start(
    path: Path,
    *,
    engine_command: Sequence[str] | None = None,
    asking: Callable[[str], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Checked:
    """The whole check of the profile in `path`, and where that finds no error, and the optimizer is a package's, what
    torch says to it. `asking` is called before the seconds that this takes; `should_stop` ends them."""
    found = cards(nvml.read_all())
    checked = with_leanest(check_file(path, found), path.parent, found)
    if not checked.ok or checked.profile is None or checked.profile.optimizer.kind != "imported":
        return checked
    asking(ASKING)
    command = [*(engine_command or ENGINE), "verify", str(path.absolute())]
    answers = _ask(command, should_stop)
    return replace(checked, problems=(*checked.problems, *(one for one in answers if one not in checked.problems)))


def could_not_ask(checked: Checked) -> Problem | None:
    """The problem that says that torch could not be asked, if there is one."""
    return next((problem for problem in checked.problems if problem.text.startswith(_UNKNOWN)), None)


_UNKNOWN = "torch could not be asked about it"


def _ask(command: Sequence[str], should_stop: Callable[[], bool]) -> tuple[Problem, ...]:
    try:
        output, errors, code = _run(command, should_stop)
    except OSError as error:
        return (_unknown(str(error)),)
    except TimeoutError:
        return (_unknown(f"no answer within {SECONDS:.0f} seconds"),)
    try:
        if code in (0, 2):
            return msgspec.json.decode(output, type=_Answer).problems
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    last = [line.strip() for line in errors.decode("utf-8", "replace").splitlines() if line.strip()][-1:]
    return (_unknown(last[0] if last else f"it ended with exit code {code} and without a word"),)


def _unknown(reason: str) -> Problem:
    return Problem(_WHERE, f"{_UNKNOWN}: {printable(reason)}".rstrip("."), "The run will tell.", "warning")


def _run(command: Sequence[str], should_stop: Callable[[], bool]) -> tuple[bytes, bytes, int]:
    """(stdout, stderr, exit code). In our own process group: Ctrl-C at the keyboard reaches it as well. Raises
    TimeoutError."""
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, cwd=PACKAGES, env=environment()
    )
    deadline = time.monotonic() + SECONDS
    try:
        while not should_stop() and time.monotonic() < deadline:
            try:
                output, errors = child.communicate(timeout=_POLL)
            except subprocess.TimeoutExpired:
                continue
            return output, errors, child.returncode
        raise TimeoutError
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
