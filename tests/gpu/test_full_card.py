"""A card that is full in the middle of a recording: what it had begun is undone, and what comes next is right."""

from collections.abc import Callable

import pytest
import torch

from engine.memory.graphs import CudaRecorder, Work
from engine.memory.plain import PlainPlan
from engine.memory.plan import Plan
from engine.memory.ring_plan import RingPlan
from engine.memory.stage_major import StageMajorPlan
from scripts.benchmarks import Judged, adafactor, random_unet, random_window

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card"),
]
CARD = torch.device("cuda")
SHAPE = 2, 64, 64


@pytest.fixture(autouse=True)
def _beside_the_default_stream():
    before = torch.cuda.current_stream()
    torch.cuda.set_stream(torch.cuda.Stream(CARD))
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.set_stream(before)


def test_a_recorder_goes_on_after_a_recording_that_found_no_memory():
    recorder, result = CudaRecorder(CARD), torch.zeros(8, device=CARD)
    with pytest.raises(torch.OutOfMemoryError):
        recorder.record(lambda: (result.add_(1), torch.empty(1 << 44, dtype=torch.uint8, device=CARD)))
    replay = recorder.record(lambda: result.add_(torch.ones(8, device=CARD)))
    for _ in range(2):
        replay()
    assert result.tolist() == [2.0] * 8


class Watched(CudaRecorder):
    """With `is_full` no memory is left while something is recorded, and all of it in between: what needs more than was
    recorded before fails in the recording, nowhere else."""

    failed = 0
    is_full = False

    def record(self, work: Callable[[], object]) -> Work:
        if self.is_full:
            _leave(0)
        try:
            return super().record(work)
        except torch.OutOfMemoryError:
            self.failed += 1
            raise
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)


def _plain(unet, names, recorder: CudaRecorder) -> Plan:
    return PlainPlan(unet, names, adafactor, recorder=recorder)


def _fast(unet, names, recorder: CudaRecorder) -> Plan:
    return RingPlan(unet, names, adafactor, keep=2, recorder=recorder)


def _staged(unet, names, recorder: CudaRecorder) -> Plan:
    return StageMajorPlan(unet.to("cpu"), names, adafactor, device=CARD, group=2, window=4, recorder=recorder)


@pytest.mark.parametrize(("make", "first"), [(_plain, 1), (_fast, 1), (_staged, 2)])
def test_a_window_whose_recording_found_the_card_full_is_right_when_it_comes_again(
    make: Callable[..., Plan], first: int
):
    recorder = Watched(CARD)
    undisturbed, disturbed = _made(make, CudaRecorder(CARD)), _made(make, recorder)
    for plan in undisturbed, disturbed:
        plan.gradient(_window()[:first], _ignore)  # step by step
    expected = undisturbed.gradient(_window(), _ignore)
    recorder.is_full = True
    with pytest.raises(torch.OutOfMemoryError):
        disturbed.gradient(_window(), _ignore)
    assert recorder.failed == 1
    recorder.is_full = False
    for _ in range(2):
        found = disturbed.gradient(_window(), _ignore)
        # bf16 on a card is not the same twice; a gradient lost or doubled would be another norm altogether.
        assert found.losses == pytest.approx(expected.losses, rel=1e-3)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-3)


def _made(make: Callable[..., Plan], recorder: CudaRecorder) -> Plan:
    torch.manual_seed(0)
    unet = random_unet(small=True)
    return make(unet, frozenset(name for name, _ in unet.named_parameters()), recorder)


def _window() -> list[Judged]:
    torch.manual_seed(1)
    return random_window(4, SHAPE, context=2048, pooled=1280)


def _leave(room: int) -> None:
    """No more than what is in use now and `room` bytes."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CARD).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + room) / total)


def _ignore(*_: object) -> None:
    pass
