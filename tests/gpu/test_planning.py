"""On a card: the start's choice, its limit, and every plan from a profile to its end."""

import gc
import os
from pathlib import Path

import pytest
import torch

from engine.contract import card_rates, events
from engine.contract.budget import GIB
from engine.run.base import use
from engine.run.errors import RunError
from engine.run.planning import free_bytes
from tests.end_to_end.harness import changed, copy_pictures, of_type, run_here, write_profile

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA card"),
]
CARD = torch.device("cuda")
PLANS = [
    {"plan": "plain"},
    {"plan": "plain", "checkpointing": True},
    {"plan": "plain", "graphs": False},
    {"plan": "fast"},
    {"plan": "resident"},
    {"plan": "stage-major", "group": 2},
    {"plan": "auto"},
]


@pytest.fixture(autouse=True)
def _no_limit_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AOZORA_DATA", str(tmp_path / "data"))
    yield
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_every_plan_trains_the_demo_to_the_same_losses(tmp_path: Path, demo_folder: Path):
    copy_pictures(demo_folder, tmp_path / "pictures")
    profile = write_profile(tmp_path, demo_folder, steps=4, precision="bf16")
    found = []
    for memory in PLANS:
        run = run_here(changed(profile, memory={"device": "cuda", **memory}), tmp_path / "runs")
        (planned,) = of_type(run, events.Planned)
        assert memory["plan"] in ("auto", planned.plan) and 0 < planned.needs <= planned.room
        assert planned.step_seconds > 0 and planned.rates in ("published", "guessed")
        assert "out-of-memory" not in [event.code for event in of_type(run, events.Warned)]
        found.append([event.loss for event in of_type(run, events.Step)])
    for losses in found[1:]:
        assert losses == pytest.approx(found[0], rel=0.02)


def test_every_plan_measures_the_same_loss_on_held_out_pictures(tmp_path: Path, demo_folder: Path):
    copy_pictures(demo_folder, tmp_path / "pictures")
    profile = write_profile(tmp_path, demo_folder, steps=2, precision="bf16")
    found = []
    for memory in PLANS:
        held = {"validation": {"pictures": 2, "every": 1}, "memory": {"device": "cuda", **memory}}
        run = run_here(changed(profile, **held), tmp_path / "runs")
        told = of_type(run, events.Validated)
        assert [event.step for event in told] == [0, 1, 2]
        found.append([event.loss for event in told])
    for losses in found[1:]:
        assert losses == pytest.approx(found[0], rel=0.01)


def test_the_engine_computes_beside_the_default_stream():
    use(CARD)
    stream = torch.cuda.current_stream()
    assert stream != torch.cuda.default_stream()
    use(CARD)
    assert torch.cuda.current_stream() == stream


def test_a_limit_is_what_the_run_may_use_and_torch_keeps_to_it(tmp_path: Path, demo_folder: Path):
    copy_pictures(demo_folder, tmp_path / "pictures")
    profile = write_profile(tmp_path, demo_folder, steps=1, precision="bf16")
    run = run_here(changed(profile, memory={"device": "cuda", "limit": 3.0}), tmp_path / "runs")
    (planned,) = of_type(run, events.Planned)
    assert planned.room == 3 * GIB
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(3 * GIB, dtype=torch.uint8, device=CARD)
    with pytest.raises(RunError, match=r"no plan fits the 0\.5 GiB") as caught:
        run_here(changed(profile, memory={"device": "cuda", "limit": 0.5}), tmp_path / "runs")
    assert caught.value.code == "no-plan-fits"


def test_what_others_hold_is_not_free():
    before = free_bytes(CARD)
    taken = torch.empty(1 * GIB, dtype=torch.uint8, device=CARD)
    assert abs(before - free_bytes(CARD)) < 64 << 20  # our own, which the run gets back
    del taken
    total = torch.cuda.get_device_properties(CARD).total_memory
    assert free_bytes(CARD) <= total + GIB // 2


def test_batches_travel_out_of_page_locked_memory(tmp_path: Path, demo_folder: Path):
    from engine.data.batches import Batch, Contexts

    batch = Batch(
        (0,), ("a",), torch.zeros(1, 4, 8, 8), Contexts(torch.zeros(1, 77, 8), torch.zeros(1, 8)), torch.zeros(1, 6)
    )
    locked = batch.page_locked()
    assert isinstance(locked.condition, Contexts)
    tensors = (locked.latents, locked.time_ids, locked.condition.prompt_embeds, locked.condition.pooled_prompt_embeds)
    assert all(tensor.is_pinned() for tensor in tensors)


def test_the_driver_is_known():
    assert card_rates.driver() != "unknown" or not os.path.exists("/proc/driver/nvidia")  # noqa: PTH110
