"""A driver that answers, refuses or is not there, as told."""

from types import SimpleNamespace

from engine.contract.nvml import Gpus

GIB = 2**30


class NVMLError(Exception):
    pass


def nvml_error(name):
    """An error class made as pynvml makes its own: at run time, from the name of the code."""
    return type(f"NVMLError_{name}", (NVMLError,), {})


class FakeNvml:
    """The part of pynvml that is used, with `cards` cards; questions named in `failing` raise."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_PCIE_UTIL_TX_BYTES = 0
    NVML_PCIE_UTIL_RX_BYTES = 1
    NVML_PSTATE_UNKNOWN = 32
    NVML_DEVICE_MIG_ENABLE = 1

    class NVMLLibraryMismatchError(Exception):
        pass

    def __init__(self, cards=1, init_error=None):
        self.cards, self.init_error = cards, init_error
        self.failing = {}
        self.calls = []
        self.reasons = 0x4
        self.state = 2
        self.slices: list[str] | None = None  # of the first card
        self.desktop = []
        self.processes = [SimpleNamespace(pid=42, usedGpuMemory=3 * GIB), SimpleNamespace(pid=7, usedGpuMemory=None)]

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

    def nvmlDeviceGetHandleByUUID(self, uuid):
        known = [f"GPU-{index}" for index in range(self.cards)]
        if uuid not in known:
            raise nvml_error("NotFound")
        return self.answer("handle", known.index(uuid))

    def nvmlDeviceGetIndex(self, handle):
        return self.answer("index", handle)

    def nvmlDeviceGetName(self, handle):
        return self.answer("name", "NVIDIA GeForce RTX 4070" if isinstance(handle, int) else f"NVIDIA H100 {handle}")

    def nvmlDeviceGetUUID(self, handle):
        return self.answer("uuid", f"GPU-{handle}" if isinstance(handle, int) else f"MIG-{handle}")

    def nvmlSystemGetDriverVersion(self):
        return self.answer("driver", "570.12")

    def nvmlDeviceGetMemoryInfo(self, handle):
        return self.answer("memory", SimpleNamespace(used=7 * GIB, total=12 * GIB, free=5 * GIB))

    def nvmlDeviceGetUtilizationRates(self, handle):
        return self.answer("utilisation", SimpleNamespace(gpu=87, memory=40))

    def nvmlDeviceGetPowerUsage(self, handle):
        return self.answer("power", 151_500)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return self.answer("limit", 200_000)

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return self.answer("temperature", 64)

    def nvmlDeviceGetTemperatureThreshold(self, handle, kind):
        return self.answer("slowdown", 93)

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return self.answer("clock", {self.NVML_CLOCK_SM: 1875, self.NVML_CLOCK_MEM: 10_251}[kind])

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):
        return self.answer("fastest", {self.NVML_CLOCK_SM: 3105, self.NVML_CLOCK_MEM: 10_501}[kind])

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return self.answer("reasons", self.reasons)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self.answer("old reasons", self.reasons)

    def nvmlDeviceGetFanSpeed(self, handle):
        return self.answer("fan", 55)

    def nvmlDeviceGetPerformanceState(self, handle):
        return self.answer("state", self.state)

    def nvmlDeviceGetCurrPcieLinkGeneration(self, handle):
        return self.answer("generation", 3)

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle):
        return self.answer("best generation", 4)

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle):
        return self.answer("width", 8)

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle):
        return self.answer("most lanes", 16)

    def nvmlDeviceGetPcieThroughput(self, handle, counter):
        return self.answer("throughput", {self.NVML_PCIE_UTIL_RX_BYTES: 2048, self.NVML_PCIE_UTIL_TX_BYTES: 3}[counter])

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self.answer("processes", self.processes)

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):
        return self.answer("desktop", self.desktop)

    def nvmlDeviceGetMigMode(self, handle):
        divided = self.slices is not None and handle == 0
        return self.answer("mig", [int(divided), int(divided)])

    def nvmlDeviceGetMaxMigDeviceCount(self, handle):
        return self.answer("most slices", 7)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, index):
        if index >= len(self.slices) or not self.slices[index]:
            raise nvml_error("NotFound")
        return self.answer("slice", self.slices[index])

    def nvmlSystemGetProcessName(self, pid):
        if pid == 7:
            raise nvml_error("NotFound")
        return self.answer("process name", "/usr/bin/python3")


class FakeClock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def connect(nvml, clock=None):
    return Gpus(load=lambda: nvml, clock=clock or FakeClock())
