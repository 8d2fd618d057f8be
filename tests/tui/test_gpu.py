import subprocess
import sys
from types import SimpleNamespace

import pytest

from aozora_tui.gpu import BROKEN_STARTS, SLOW_SECONDS, Gpus


class NVMLError(Exception):
    pass


def nvml_error(name):
    """An error class made as pynvml makes its own: at run time, from the name of the code."""
    return type(f"NVMLError_{name}", (NVMLError,), {})


class FakeNvml:
    """The part of pynvml that is used, with `cards` cards; questions named in `failing` raise."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    class NVMLLibraryMismatchError(Exception):
        pass

    def __init__(self, cards=1, init_error=None):
        self.cards, self.init_error = cards, init_error
        self.failing = {}
        self.calls = []
        self.processes = [SimpleNamespace(pid=42, usedGpuMemory=3 * 2**30), SimpleNamespace(pid=7, usedGpuMemory=None)]

    def answer(self, question, value):
        self.calls.append(question)
        if question in self.failing:
            raise self.failing[question]
        return value

    def nvmlInit(self):
        if self.init_error is not None:
            raise self.init_error

    def nvmlDeviceGetCount(self):
        return self.answer("count", self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.answer("handle", index)

    def nvmlDeviceGetName(self, handle):
        return self.answer("name", "NVIDIA GeForce RTX 4070")

    def nvmlDeviceGetUUID(self, handle):
        return self.answer("uuid", f"GPU-{handle}")

    def nvmlSystemGetDriverVersion(self):
        return self.answer("driver", "570.12")

    def nvmlDeviceGetMemoryInfo(self, handle):
        return self.answer("memory", SimpleNamespace(used=7 * 2**30, total=12 * 2**30, free=5 * 2**30))

    def nvmlDeviceGetUtilizationRates(self, handle):
        return self.answer("utilisation", SimpleNamespace(gpu=87, memory=40))

    def nvmlDeviceGetPowerUsage(self, handle):
        return self.answer("power", 151_500)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return self.answer("limit", 200_000)

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return self.answer("temperature", 64)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self.answer("processes", self.processes)


class FakeClock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def connect(nvml, clock=None):
    return Gpus(load=lambda: nvml, clock=clock or FakeClock())


def test_a_reading_has_every_field_in_its_unit():
    gpus = connect(FakeNvml())
    (reading,) = gpus.read_all(pid=42)
    assert (reading.index, reading.name, reading.uuid) == (0, "NVIDIA GeForce RTX 4070", "GPU-0")
    assert (reading.memory_used, reading.memory_total, reading.memory_free) == (7 * 2**30, 12 * 2**30, 5 * 2**30)
    assert (reading.utilisation, reading.power, reading.power_limit, reading.temperature) == (87, 151.5, 200.0, 64)
    assert reading.driver_version == "570.12" and reading.run_memory == 3 * 2**30
    assert gpus.why_not() is None


@pytest.mark.parametrize("pid", [None, 7, 999])
def test_a_process_the_driver_cannot_account_for_has_no_figure(pid):
    assert connect(FakeNvml()).read_all(pid=pid)[0].run_memory is None


@pytest.mark.parametrize(
    ("question", "fields"),
    [
        ("name", ["name"]),
        ("uuid", ["uuid"]),
        ("driver", ["driver_version"]),
        ("memory", ["memory_used", "memory_total", "memory_free"]),
        ("utilisation", ["utilisation"]),
        ("power", ["power"]),
        ("limit", ["power_limit"]),
        ("temperature", ["temperature"]),
        ("processes", ["run_memory"]),
    ],
)
@pytest.mark.parametrize("error", [nvml_error("NotSupported")(), FakeNvml.NVMLLibraryMismatchError("old")])
def test_what_the_driver_refuses_is_none_and_the_rest_is_there(question, fields, error):
    nvml = FakeNvml()
    nvml.failing[question] = error
    (reading,) = connect(nvml).read_all(pid=42)
    missing = [field for field in reading.__slots__ if getattr(reading, field) is None]
    assert missing == fields


def test_a_lost_card_is_left_out_and_the_others_are_read():
    nvml = FakeNvml(cards=3)
    handle_of = nvml.nvmlDeviceGetHandleByIndex

    def lost_second(index):
        if index == 1:
            raise nvml_error("GpuIsLost")
        return handle_of(index)

    nvml.nvmlDeviceGetHandleByIndex = lost_second
    assert [reading.uuid for reading in connect(nvml).read_all()] == ["GPU-0", "GPU-2"]


def test_slow_fields_are_kept_for_five_seconds():
    nvml, clock = FakeNvml(), FakeClock()
    gpus = connect(nvml, clock)
    for _ in range(5):
        gpus.read_all()
        clock.now += SLOW_SECONDS / 5 - 0.001
    assert nvml.calls.count("temperature") == nvml.calls.count("name") == 1
    assert nvml.calls.count("power") == nvml.calls.count("memory") == 5
    clock.now += 1
    gpus.read_all()
    assert nvml.calls.count("temperature") == 2


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (nvml_error("LibraryNotFound")(), "install the driver"),
        (nvml_error("DriverNotLoaded")(), "modprobe"),
        (nvml_error("LibRmVersionMismatch")(), "reboot"),
        (NVMLError("Unknown Error"), "Unknown Error"),
    ],
)
def test_a_driver_that_does_not_start_is_one_sentence_with_a_remedy(error, remedy):
    gpus = connect(FakeNvml(init_error=error))
    assert gpus.read_all() == ()
    assert remedy in gpus.why_not() and gpus.why_not().endswith(".")


def test_a_missing_package_and_a_missing_card_are_sentences_too():
    def no_package():
        raise ImportError("pynvml")

    assert "nvidia-ml-py" in Gpus(load=no_package, clock=FakeClock()).why_not()
    empty = connect(FakeNvml(cards=0))
    assert empty.read_all() == () and "nvidia-smi" in empty.why_not()


def test_a_driver_that_comes_back_is_found_again():
    nvml, clock = FakeNvml(init_error=nvml_error("DriverNotLoaded")()), FakeClock()
    gpus = connect(nvml, clock)
    assert gpus.read_all() == ()
    nvml.init_error = None
    assert gpus.read_all() == ()  # not asked again at once
    clock.now += SLOW_SECONDS
    assert len(gpus.read_all()) == 1 and gpus.why_not() is None


def test_the_library_knows_every_name_that_is_relied_on():
    import pynvml

    names = [name for name in vars(FakeNvml) if name.startswith(("nvml", "NVML"))]
    assert len(names) > 10 and [n for n in (*names, *BROKEN_STARTS) if not hasattr(pynvml, n)] == []


def test_the_library_of_this_machine_is_never_an_exception():
    gpus = Gpus()
    assert bool(gpus.read_all()) == (gpus.why_not() is None)


def test_importing_the_module_does_not_load_nvml():
    code = "import sys, aozora_tui.gpu; sys.exit('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
