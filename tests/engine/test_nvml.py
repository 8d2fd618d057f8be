"""The driver as a person meets it: answering, refusing, hanging, gone."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from engine.contract.nvml import BROKEN_STARTS, SLOW_SECONDS, THROTTLES, Gpus, Process
from engine.contract.nvml_sampler import Sampler
from tests.engine.fake_nvml import GIB, FakeClock, FakeNvml, NVMLError, connect, nvml_error


def test_a_reading_has_every_field_in_its_unit():
    gpus = connect(FakeNvml())
    (reading,) = gpus.read_all(pid=42)
    told = {name: getattr(reading, name) for name in reading.__slots__}
    assert told == {
        "index": 0,
        "name": "NVIDIA GeForce RTX 4070",
        "uuid": "GPU-0",
        "driver_version": "570.12",
        "memory_used": 7 * GIB,
        "memory_total": 12 * GIB,
        "memory_free": 5 * GIB,
        "run_memory": 3 * GIB,
        "processes": (Process(42, 3 * GIB, "/usr/bin/python3"), Process(7, None, None)),
        "utilisation": 87,
        "memory_utilisation": 40,
        "power": 151.5,
        "power_limit": 200.0,
        "temperature": 64,
        "slowdown_temperature": 93,
        "sm_clock": 1875,
        "sm_clock_max": 3105,
        "memory_clock": 10_251,
        "memory_clock_max": 10_501,
        "throttled": ("power",),
        "fan": 55,
        "performance_state": 2,
        "pcie_generation": 3,
        "pcie_generation_max": 4,
        "pcie_width": 8,
        "pcie_width_max": 16,
        "pcie_received": 2 << 20,
        "pcie_sent": 3 << 10,
        "slices": None,
    }
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
        ("utilisation", ["utilisation", "memory_utilisation"]),
        ("power", ["power"]),
        ("limit", ["power_limit"]),
        ("temperature", ["temperature"]),
        ("slowdown", ["slowdown_temperature"]),
        ("clock", ["sm_clock", "memory_clock"]),
        ("fastest", ["sm_clock_max", "memory_clock_max"]),
        ("fan", ["fan"]),
        ("state", ["performance_state"]),
        ("generation", ["pcie_generation"]),
        ("best generation", ["pcie_generation_max"]),
        ("width", ["pcie_width"]),
        ("most lanes", ["pcie_width_max"]),
        ("throughput", ["pcie_received", "pcie_sent"]),
    ],
)
@pytest.mark.parametrize("error", [nvml_error("NotSupported")(), FakeNvml.NVMLLibraryMismatchError("old")])
def test_what_the_driver_refuses_is_none_and_the_rest_is_there(question, fields, error):
    nvml = FakeNvml()
    nvml.failing[question] = error
    (reading,) = connect(nvml).read_all(pid=42)
    missing = [field for field in reading.__slots__ if getattr(reading, field) is None and field != "slices"]
    assert missing == fields


def test_who_computes_and_who_draws_are_named_once_each_and_either_may_be_unknown():
    nvml = FakeNvml()
    nvml.desktop = [SimpleNamespace(pid=42, usedGpuMemory=GIB), SimpleNamespace(pid=9, usedGpuMemory=GIB // 4)]
    assert [each.pid for each in connect(nvml).read_all()[0].processes] == [42, 7, 9]
    nvml.failing["processes"] = nvml_error("NoPermission")()
    assert [each.pid for each in connect(nvml).read_all()[0].processes] == [42, 9]
    nvml.failing["desktop"] = nvml_error("NotSupported")()
    (reading,) = connect(nvml).read_all(pid=42)
    assert reading.processes is None and reading.run_memory is None


def test_a_divided_card_names_its_parts_and_their_memory():
    nvml = FakeNvml(cards=2)
    nvml.slices = ["3g.40gb", "", "1g.10gb"]  # a hole where one was taken away
    nvml.failing["utilisation"] = nvml_error("NotSupported")()
    divided, whole = connect(nvml).read_all()
    assert [(each.index, each.name, each.uuid) for each in divided.slices] == [
        (0, "NVIDIA H100 3g.40gb", "MIG-3g.40gb"),
        (2, "NVIDIA H100 1g.10gb", "MIG-1g.10gb"),
    ]
    assert divided.slices[0].memory_used == 7 * GIB and divided.utilisation is None
    assert whole.slices is None


def test_what_goes_over_the_bus_is_counted_only_where_it_is_wanted():
    nvml = FakeNvml()
    (reading,) = Gpus(load=lambda: nvml, clock=FakeClock(), throughput=False).read_all()
    assert reading.pcie_received is reading.pcie_sent is None and reading.pcie_width == 8
    assert "throughput" not in nvml.calls


def test_a_name_in_no_encoding_is_a_process_without_a_name():
    nvml = FakeNvml()
    nvml.failing["process name"] = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
    assert connect(nvml).read_all()[0].processes[0] == Process(42, 3 * GIB, None)


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (0x0, ()),
        (0x1 | 0x2 | 0x100, ()),  # at rest, clocks that somebody set, a display's wish
        (0x20, ("thermal",)),
        (0x40 | 0x8, ("thermal", "hardware")),
        (0x80, ("power",)),
        (0x10, ("sync",)),
    ],
)
def test_reasons_for_a_slower_clock_are_words_and_rest_is_no_throttling(reasons, words):
    nvml = FakeNvml()
    nvml.reasons = reasons
    assert connect(nvml).read_all()[0].throttled == words


def test_an_older_driver_is_asked_for_its_reasons_by_their_older_name():
    nvml = FakeNvml()
    nvml.failing["reasons"] = nvml_error("FunctionNotFound")()
    assert connect(nvml).read_all()[0].throttled == ("power",)
    nvml.failing["old reasons"] = nvml_error("NotSupported")()
    assert connect(nvml).read_all()[0].throttled is None


def test_what_stands_for_unknown_is_none():
    nvml = FakeNvml()
    nvml.state = FakeNvml.NVML_PSTATE_UNKNOWN
    nvml.nvmlDeviceGetTemperatureThreshold = lambda handle, kind: 0
    (reading,) = connect(nvml).read_all()
    assert reading.performance_state is None and reading.slowdown_temperature is None


def test_a_lost_card_is_left_out_and_the_others_are_read():
    nvml = FakeNvml(cards=3)
    handle_of = nvml.nvmlDeviceGetHandleByIndex

    def lost_second(index):
        if index == 1:
            raise nvml_error("GpuIsLost")
        return handle_of(index)

    nvml.nvmlDeviceGetHandleByIndex = lost_second
    assert [reading.uuid for reading in connect(nvml).read_all()] == ["GPU-0", "GPU-2"]


@pytest.mark.parametrize("question", ["memory", "power", "temperature", "processes"])
def test_a_card_that_any_question_finds_lost_is_left_out(question):
    nvml = FakeNvml()
    gpus = connect(nvml)
    assert len(gpus.read_all()) == 1
    nvml.failing[question] = nvml_error("GpuIsLost")()
    gpus._slow.clear()
    assert gpus.read_all() == () and gpus.read("GPU-0") is None
    nvml.failing.clear()
    assert len(gpus.read_all()) == 1


def test_one_card_is_found_by_its_uuid_and_the_others_are_not_asked():
    nvml = FakeNvml(cards=8)
    gpus = connect(nvml)
    assert gpus.read("GPU-5", pid=42).index == 5 and nvml.calls.count("memory") == 1
    assert gpus.read("GPU-of another box") is None
    nvml.failing["handle"] = nvml_error("GpuIsLost")()
    assert gpus.read("GPU-5") is None
    assert connect(FakeNvml(init_error=nvml_error("DriverNotLoaded")())).read("GPU-0") is None


def test_slow_fields_are_kept_for_five_seconds():
    nvml, clock = FakeNvml(), FakeClock()
    gpus = connect(nvml, clock)
    for _ in range(5):
        gpus.read_all()
        clock.now += SLOW_SECONDS / 5 - 0.001
    slow = ("temperature", "name", "fan", "generation", "state", "process name")
    assert {nvml.calls.count(question) for question in slow} == {1} and nvml.calls.count("throughput") == 2
    assert {nvml.calls.count(question) for question in ("power", "memory", "reasons", "processes")} == {5}
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
    assert len(names) > 30 and [name for name in (*names, *BROKEN_STARTS) if not hasattr(pynvml, name)] == []
    constants = [name for name in names if isinstance(getattr(FakeNvml, name), int)]
    assert {name: getattr(pynvml, name) for name in constants} == {name: getattr(FakeNvml, name) for name in constants}
    thermal = pynvml.nvmlClocksEventReasonSwThermalSlowdown | pynvml.nvmlClocksEventReasonHwThermalSlowdown
    power = pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
    others = (pynvml.nvmlClocksEventReasonHwSlowdown, pynvml.nvmlClocksEventReasonSyncBoost)
    assert tuple(THROTTLES.values()) == (thermal, power, *others)


def test_the_library_of_this_machine_is_never_an_exception():
    gpus = Gpus()
    assert bool(gpus.read_all()) == (gpus.why_not() is None)
    sampler = Sampler(3600)
    sampler.start()
    sample = sampler.wait(60)
    assert sample is not None and bool(sample.readings) == (sample.why_not is None)
    sampler.stop()


def test_importing_the_module_does_not_load_nvml():
    code = "import sys, engine.contract.nvml; sys.exit('pynvml' in sys.modules or 'msgspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class HangingNvml(FakeNvml):
    """A driver that, once told to, does not come back from a question until it is let go."""

    def __init__(self):
        super().__init__()
        self.hangs, self.reached, self.let_go = False, threading.Event(), threading.Event()

    def nvmlDeviceGetMemoryInfo(self, handle):
        if self.hangs:
            self.reached.set()
            assert self.let_go.wait(60)
        return super().nvmlDeviceGetMemoryInfo(handle)


def test_a_sampler_tells_what_it_saw_last_while_the_driver_hangs():
    nvml, clock = HangingNvml(), FakeClock()
    sampler = Sampler(0, uuid="GPU-0", pid=42, gpus=connect(nvml, clock), clock=clock)
    assert sampler.latest is None and sampler.wait(0) is None
    sampler.start()
    assert sampler.wait(60).readings[0].run_memory == 3 * GIB
    nvml.hangs = True
    assert nvml.reached.wait(60)
    clock.now = 500.0
    assert sampler.latest.at == 100.0  # its age tells
    before = threading.active_count()
    sampler.stop()
    sampler.start()  # comes back to the screen: nobody is sent after the one that hangs
    assert threading.active_count() == before
    sampler.stop()
    nvml.let_go.set()
    thread = next((each for each in threading.enumerate() if each.name == "nvml"), None)
    if thread is not None:
        thread.join(60)
        assert not thread.is_alive()
    assert sampler.latest.at == 500.0
    nvml.hangs = False
    clock.now = 600.0
    sampler.start()
    while sampler.latest.at < 600:
        assert sampler.wait(60)
    sampler.stop()


@pytest.mark.parametrize("error", [ValueError("an unknown form"), AttributeError("nvmlDeviceGetMemoryInfo"), OSError()])
def test_a_binding_that_breaks_is_a_sentence_and_the_sampler_goes_on(error):
    nvml = FakeNvml()
    nvml.failing["memory"] = error
    sampler = Sampler(0, gpus=connect(nvml))
    sampler.start()
    sample = sampler.wait(60)
    assert sample.readings == () and type(error).__name__ in sample.why_not
    nvml.failing.clear()
    while not sampler.latest.readings:
        assert sampler.wait(60)
    sampler.stop()


def test_a_card_that_disappears_is_said():
    nvml = FakeNvml()
    sampler = Sampler(0, uuid="GPU-0", gpus=connect(nvml))
    nvml.failing["handle"] = nvml_error("GpuIsLost")()
    sampler.start()
    assert "no longer shows" in sampler.wait(60).why_not
    sampler.stop()
