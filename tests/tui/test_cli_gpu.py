"""`aozora-tui gpu` over a simulated libnvidia-ml: no card is needed."""

import json
import subprocess
import sys

import fake_run
import pytest

from aozora_tui import cli, gpu_report
from aozora_tui.card_watch import CardWatch
from engine.contract import places
from tests.engine.fake_nvml import GIB, FakeClock, FakeNvml, connect, nvml_error


@pytest.fixture
def library(monkeypatch):
    """Stands for the binding that is imported: two cards, of which the first is divided."""
    nvml = FakeNvml(cards=2)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return nvml


def test_every_card_is_told_of_once_and_runs_by_their_names(library, capsys):
    run = fake_run.make(places.runs_folder(), "eel-20231113-101010")
    fake_run.trained(run, 4)
    library.processes[0].pid = 1  # as run.json of the run has it
    with fake_run.engine_alive(run):
        assert cli.main(["gpu"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "GPU 0  NVIDIA GeForce RTX 4070, driver 570.12, GPU-0"
    assert "  memory      7.0 of 12.0 GiB in use: 3.0 by runs, 4.0 by others; 5.0 free" in told
    assert "  process     run eel-20231113-101010  pid 1  3.0 GiB  python3" in told
    assert sum(line.startswith("GPU ") for line in told) == 2


def test_the_document_has_what_the_driver_tells_and_null_for_what_it_does_not(library, capsys):
    library.slices = ["1g.10gb"]
    library.failing["fan"] = nvml_error("NotSupported")()
    assert cli.main(["gpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    first, second = found["cards"]
    assert first["memory_used"] == 7 * GIB and first["fan"] is None and first["throttled"] == ["power"]
    assert first["slices"][0]["name"] == "NVIDIA H100 1g.10gb" and second["slices"] is None
    assert first["processes"][0] == {"pid": 42, "bytes": 3 * GIB, "name": "/usr/bin/python3", "run": None}
    assert found["problem"] is None and "run_memory" not in first


@pytest.mark.parametrize(
    ("error", "remedy"),
    [("LibRmVersionMismatch", "reboot"), ("LibraryNotFound", "install the driver"), ("DriverNotLoaded", "modprobe")],
)
def test_no_driver_is_one_sentence_and_an_exit_code(library, capsys, error, remedy):
    library.init_error = nvml_error(error)()
    assert cli.main(["gpu"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and remedy in said.err and len(said.err.splitlines()) == 1
    assert cli.main(["gpu", "--json"]) == 1
    said = capsys.readouterr()
    assert said.err == "" and remedy in json.loads(said.out)["problem"]
    assert cli.main(["gpu", "--watch"]) == 1


def test_a_driver_that_hangs_is_given_up_with_a_sentence():
    class Hanging(FakeNvml):
        def nvmlInit(self):
            import threading

            threading.Event().wait()

    clock = FakeClock()
    seen = gpu_report.ask(CardWatch(connect(Hanging(), clock), clock=clock), 0.01)
    assert seen.readings == () and "has not answered" in seen.why_not and "nvidia-smi" in seen.why_not


def test_watching_is_a_line_a_card_until_nobody_reads_or_the_cards_are_gone(library, capsys):
    counted = library.nvmlDeviceGetCount

    def gone_after_two():
        if library.calls.count("count") >= 2:
            library.failing["handle"] = nvml_error("GpuIsLost")()
        return counted()

    library.nvmlDeviceGetCount = gone_after_two
    assert cli.main(["gpu", "--watch", "0.5"]) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == 4 and all("87 %  7.0/12.0 GiB  152/200 W  64 C  slow: power" in x for x in lines)
    assert "no longer shows this card" in said.err


@pytest.mark.parametrize("written", ["0", "soon", "nan", "-1"])
def test_a_pace_that_is_none_is_refused(written, capsys):
    assert cli.main(["gpu", f"--watch={written}"]) == 2
    assert "is no number of seconds" in capsys.readouterr().err


def test_it_needs_neither_torch_nor_textual():
    code = "import sys; from aozora_tui import cli; cli.main(['gpu']); sys.exit(any(m in sys.modules for m in "
    code += "('torch', 'textual', 'numpy', 'rich')))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr
