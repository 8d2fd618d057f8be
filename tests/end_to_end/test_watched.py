"""What a real run tells of its box and its time, and that none of it can stand in its way."""

import threading
from pathlib import Path

import pytest

from engine.contract import events, nvml, rundir
from engine.contract.health import Watch
from engine.contract.rundir import RunDir
from engine.run import machine, train
from tests.end_to_end.harness import FEW, all_events, changed, of_type, run_here, write_profile


def test_a_run_tells_of_its_box_before_its_first_step_and_is_well(whole: tuple[Path, RunDir]):
    _, run = whole
    told = all_events(run)
    names = [type(event).__name__ for event in told]
    first = names.index("Machine")
    assert first < names.index("Step") and isinstance(told[first - 1], events.Phase) and told[first - 1].name == "train"
    box = told[first]
    assert (box.card, box.card_used, box.utilisation) == ("", 0, None)
    (epoch,) = of_type(run, events.Epoch)
    assert epoch.samples == 10 and 5 <= epoch.micro_batches <= 10  # five pictures, each twice
    assert 10**7 < box.run_memory < box.host_total and 0 < box.host_used < box.host_total and box.disk_free > 0
    assert not [event for event in of_type(run, events.Warned) if event.code.startswith("health-")]
    watch = Watch()
    assert [finding for event in told for finding in watch.take(event)] == [] and watch.findings == ()


def test_the_parts_of_a_steps_time_are_the_whole_of_it(whole: tuple[Path, RunDir]):
    _, run = whole
    for step in of_type(run, events.Step):
        assert list(step.spent) == ["data", "learn", "update"] and min(step.spent.values()) >= 0
        assert sum(step.spent.values()) == pytest.approx(3 * step.seconds, rel=0.02)
        assert step.spent["learn"] > 0.3 * sum(step.spent.values())
    longest = max(len(line) for line in run.events.read_bytes().splitlines(keepends=True))
    assert longest <= events.LONGEST_LINE


def test_waiting_for_pictures_is_counted_as_that(encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """A disk that takes as long for each micro-batch as a clock says: here the prefetched ones are not there yet."""
    now = [0.0]
    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    profile = write_profile(encoded, demo_folder, steps=3, accumulate=2, layers=FEW)
    original = train.Windows.window

    def slow(self, step):
        window = original(self, step)
        window._loaded = slowly(window._loaded)
        return window

    def slowly(loaded):
        for batch in loaded:
            now[0] += 5.0
            yield batch

    monkeypatch.setattr(train.Windows, "window", slow)
    run = run_here(profile, encoded / "runs")
    assert [step.spent["data"] for step in of_type(run, events.Step)] == [10.0] * 3


class Hanging(nvml.Gpus):
    """A driver that never answers."""

    asked = threading.Event()
    let_go = threading.Event()

    def read(self, uuid: str, pid: int | None = None) -> nvml.Reading | None:
        self.asked.set()
        self.let_go.wait(60)
        return None


def test_a_driver_that_hangs_stops_no_training(encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "uuid_of", lambda device: "GPU-1")
    monkeypatch.setattr(machine, "FIRST_ANSWER", 0.01)
    monkeypatch.setattr(nvml, "Gpus", Hanging)
    run = run_here(write_profile(encoded, demo_folder, steps=3, accumulate=1, layers=FEW), encoded / "runs")
    assert Hanging.asked.is_set() and all_events(run)[-1].reason == "finished"
    (box,) = of_type(run, events.Machine)
    assert (box.card, box.card_total, box.temperature) == ("GPU-1", 0, None)
    Hanging.let_go.set()


def test_a_run_stopped_and_resumed_tells_again_and_stays_well(encoded: Path, demo_folder: Path):
    profile = changed(write_profile(encoded, demo_folder, steps=40, accumulate=1, layers=FEW), save={"every": 10})
    run = rundir.create(encoded / "runs", "twice")
    run_here(profile, encoded / "runs", run=run, stop_after_step=20)
    run_here(profile, encoded / "runs", run=run)
    assert len(of_type(run, events.Machine)) >= 2 and all_events(run)[-1].reason == "finished"
    assert not any(event.code.startswith("health-") for event in of_type(run, events.Warned))
