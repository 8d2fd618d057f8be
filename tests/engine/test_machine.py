"""What the engine tells of the box while it trains, and that a driver which hangs costs it nothing."""

import os
import shutil
import threading
from pathlib import Path

import pytest
import torch

from engine.contract import events
from engine.contract.nvml_sampler import Sample
from engine.run.machine import EVERY, STALE, Lookout, uuid_of
from tests.engine.fake_nvml import GIB, FakeClock, FakeNvml, connect, nvml_error


class Answers:
    """A sampler that has said something, or nothing yet."""

    def __init__(self, sample: Sample | None) -> None:
        self.latest = sample
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def wait(self, seconds: float) -> Sample | None:
        return self.latest


def answer(at: float = 100.0, **changes: object) -> Sample:
    nvml = FakeNvml()
    nvml.failing.update(changes)
    return Sample(at, (connect(nvml).read("GPU-0"),), None)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "statm").write_text("9000000 1000 500 1 0 2 0\n")
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:  32000 kB\nMemFree: 1 kB\nMemAvailable:   20000 kB\n")
    return tmp_path / "proc"


def test_it_tells_of_card_host_and_disk_in_bytes(tmp_path: Path, proc: Path):
    sampler = Answers(answer())
    with Lookout(tmp_path, "GPU-0", sampler=sampler, clock=FakeClock(), proc=proc) as lookout:
        assert sampler.running
        told = lookout.due()
    assert not sampler.running
    assert told == events.Machine(
        card="GPU-0",
        card_used=7 * GIB,
        card_total=12 * GIB,
        utilisation=87,
        power=151.5,
        power_limit=200.0,
        temperature=64,
        temperature_limit=93,
        throttled=("power",),
        run_memory=1000 * os.sysconf("SC_PAGE_SIZE"),
        host_used=12000 * 1024,
        host_total=32000 * 1024,
        disk_free=told.disk_free,
    )
    assert told.disk_free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert len(events.encode(told)) < 500


def test_at_once_and_then_at_most_every_half_minute(tmp_path: Path):
    clock = FakeClock()
    lookout = Lookout(tmp_path, "", clock=clock)
    told = []
    for clock.now in range(0, 200, 7):
        told += [clock.now] if lookout.due() else []
    assert told == [0, 35, 70, 105, 140, 175] and EVERY == 30


@pytest.mark.parametrize("sample", [None, Sample(100.0, (), "no driver"), answer(at=99 - STALE)])
def test_a_driver_that_does_not_answer_leaves_its_fields_empty(tmp_path: Path, sample: Sample | None):
    told = Lookout(tmp_path, "GPU-0", sampler=Answers(sample), clock=FakeClock()).due()
    assert (told.card, told.card_used, told.card_total, told.throttled) == ("GPU-0", 0, 0, ())
    assert told.utilisation is told.power is told.temperature is None and told.host_total > told.run_memory > 0


def test_unified_memory_has_no_figures_of_its_own(tmp_path: Path):
    refused = nvml_error("NotSupported")()
    told = Lookout(tmp_path, "GPU-0", sampler=Answers(answer(memory=refused, reasons=refused)), clock=FakeClock()).due()
    assert (told.card_used, told.card_total, told.temperature) == (0, 0, 64)


def test_on_a_processor_no_driver_is_asked(tmp_path: Path):
    before = threading.active_count()
    with Lookout(tmp_path, uuid_of(torch.device("cpu"))) as lookout:
        assert threading.active_count() == before
        told = lookout.due()
    assert (told.card, told.card_total) == ("", 0) and told.disk_free > 0


def test_without_proc_and_without_the_folder_nothing_is_raised(tmp_path: Path):
    told = Lookout(tmp_path, "", clock=FakeClock(), proc=tmp_path / "none").due()
    assert (told.run_memory, told.host_used, told.host_total) == (0, 0, 0)
    assert Lookout(tmp_path / "gone", "", clock=FakeClock()).due() is None
