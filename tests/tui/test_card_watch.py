"""Asking the driver in the background: a simulated libnvidia-ml that answers late, never, or not at all."""

import threading

import pytest

from aozora_tui.card_watch import LEAST_SECONDS, STALE, CardWatch
from tests.engine.fake_nvml import GIB, FakeClock, FakeNvml, connect, nvml_error


class SlowNvml(FakeNvml):
    """The simulated library, which answers a question about memory only when it is let go."""

    def __init__(self):
        super().__init__()
        self.go = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)

    def nvmlDeviceGetMemoryInfo(self, handle):
        self.asked.release()
        assert self.go.acquire(timeout=60)
        return super().nvmlDeviceGetMemoryInfo(handle)


def test_a_look_never_waits_and_the_next_one_has_the_answer():
    nvml, clock = SlowNvml(), FakeClock()
    watch = CardWatch(connect(nvml, clock), clock=clock)
    assert watch.look().at is None
    assert nvml.asked.acquire(timeout=60)
    clock.now += 7
    seen = watch.look()
    assert seen.readings == () and seen.silent == 7 and seen.why_not is None
    assert watch.readings(42) == ()
    nvml.go.release()
    assert watch.wait(60)
    seen = watch.look()
    assert seen.readings[0].memory_used == 7 * GIB and seen.at == clock.now and seen.silent == 0


def test_a_driver_that_hangs_is_asked_no_second_time_and_its_old_answer_is_none_in_the_end():
    nvml, clock = SlowNvml(), FakeClock()
    watch = CardWatch(connect(nvml, clock), clock=clock)
    nvml.go.release()
    watch.look()
    assert watch.wait(60) and len(watch.readings(42)) == 1
    for _ in range(5):
        clock.now += 2.1
        seen = watch.look()
    assert len(seen.readings) == 1 and seen.silent == pytest.approx(4 * 2.1)
    assert nvml.asked.acquire(timeout=60) and nvml.asked.acquire(timeout=60)
    assert not nvml.asked.acquire(blocking=False)
    clock.now += STALE
    assert watch.readings(42) == ()
    nvml.go.release()
    assert watch.wait(60)


def test_looking_often_asks_seldom_and_not_looking_asks_nothing():
    nvml, clock = FakeNvml(), FakeClock()
    watch = CardWatch(connect(nvml, clock), clock=clock)
    for _ in range(3):
        watch.look()
        assert watch.wait(60)
    assert nvml.calls.count("memory") == 1
    clock.now += LEAST_SECONDS
    watch.look()
    assert watch.wait(60) and nvml.calls.count("memory") == 2


def test_a_thread_that_needs_to_know_waits_for_the_answer_of_now():
    nvml, clock = FakeNvml(), FakeClock()
    watch = CardWatch(connect(nvml, clock), clock=clock)
    (reading,) = watch.readings(None)
    assert reading.memory_free == 5 * GIB and reading.run_memory is None


def test_the_bytes_of_a_process_are_told_where_the_driver_knows_it():
    clock = FakeClock()
    watch = CardWatch(connect(FakeNvml(), clock), clock=clock)
    watch.readings(None)
    assert [watch.readings(pid)[0].run_memory for pid in (42, 7, 1)] == [3 * GIB, None, None]


def test_without_a_driver_the_sentence_is_told():
    clock = FakeClock()
    watch = CardWatch(connect(FakeNvml(init_error=nvml_error("LibRmVersionMismatch")()), clock), clock=clock)
    assert watch.readings(None) == ()
    assert "reboot" in watch.look().why_not
