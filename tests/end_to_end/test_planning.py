"""The start decides on a plan, says so, and refuses what the machine has no memory for before anything is made."""

import operator
from functools import partial
from pathlib import Path

import pytest
import torch

from engine.contract import events, host_memory, rundir
from engine.contract.check import check_machine
from engine.contract.plans import Choice
from engine.contract.rundir import RunDir
from engine.run.base import open_base
from engine.run.errors import RunError
from engine.run.planning import Taken, rehearsed, take_plan
from tests.end_to_end.harness import FEW, all_events, changed, of_type, run_here, session_in, write_profile

GIB = 1 << 30


def test_a_start_tells_its_plan_right_after_itself(encoded: Path, demo_folder: Path):
    profile = changed(write_profile(encoded, demo_folder, steps=1, layers=FEW), preview={"prompts": ()})
    run = run_here(changed(profile, memory={"plan": "auto"}), encoded / "runs")
    started, planned = all_events(run)[:2]
    assert isinstance(started, events.Started) and isinstance(planned, events.Planned)
    assert planned.plan == started.plan == "plain" and "processor" in planned.why
    assert (planned.needs, planned.room, planned.step_seconds, planned.rates) == (0, 0, 0.0, "")


def test_the_ring_plans_train_like_the_plain_one(encoded: Path, demo_folder: Path):
    profile = changed(write_profile(encoded, demo_folder, steps=2, layers=FEW), preview={"prompts": ()})
    runs = {
        plan: run_here(changed(profile, memory={"plan": plan}), encoded / "runs")
        for plan in ("plain", "fast", "resident")
    }
    losses = {plan: [event.loss for event in of_type(run, events.Step)] for plan, run in runs.items()}
    assert losses["plain"] == losses["fast"] == losses["resident"]
    planned = {plan: of_type(run, events.Planned)[0] for plan, run in runs.items()}
    assert all(each.plan == plan for plan, each in planned.items())
    assert planned["fast"].keep > 1 and planned["resident"].keep == 0


def test_too_little_host_memory_is_refused_with_both_figures_before_anything_is_encoded(
    place: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(host_memory, "available", lambda: GIB // 2)
    run = rundir.create(place / "runs", "small")
    with pytest.raises(RunError, match=r"needs about 1\.\d GiB of host memory, 0\.5 are free") as caught:
        run_here(write_profile(place, demo_folder), place / "runs", run=run)
    assert caught.value.code == "host-memory" and "optimizer.master" in caught.value.remedy
    assert not (place / "cache").exists() and not of_type(run, events.Started)


def test_where_nothing_tells_of_host_memory_nothing_is_refused(
    encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(host_memory, "available", lambda: None)
    profile = changed(write_profile(encoded, demo_folder, steps=1, layers=FEW), preview={"prompts": ()})
    assert all_events(run_here(profile, encoded / "runs"))[-1].reason == "finished"


# A card that is played: what the driver and torch would answer


CARD = torch.device("cuda", 0)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Its free GiB; the share that torch was held to appears in it."""
    state = {"free": 40.0}
    monkeypatch.setattr(host_memory, "available", lambda: 64 * GIB)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (round(state["free"] * GIB), 48 * GIB))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 0)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "NVIDIA GeForce RTX 3060")
    properties = type("Properties", (), {"total_memory": 48 * GIB})
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: properties)
    held = partial(operator.setitem, state, "share")
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda share, device: held(share))
    return state


def taken(place: Path, demo_folder: Path, **memory: object) -> tuple[Taken, RunDir]:
    session = session_in(place / "runs")
    profile = changed(write_profile(place, demo_folder), memory={"device": "cuda", **memory})
    base = open_base(profile, resumed=False)
    return take_plan(session, profile, base, CARD), session.run


@pytest.mark.parametrize("device", [CARD, torch.device("cpu")], ids=str)
def test_more_kept_blocks_than_there_are_are_refused(
    place: Path, demo_folder: Path, card: dict[str, float], device: torch.device
):
    base = open_base(changed(write_profile(place, demo_folder)), resumed=False)
    profile = changed(write_profile(place, demo_folder), memory={"plan": "fast", "keep": 71})
    with pytest.raises(RunError, match=r"memory\.keep is 71, but the base has \d+ transformer blocks"):
        take_plan(session_in(place / "runs"), profile, base, device)
    (problem,) = (each for each in check_machine(profile, place).problems if each.path == "memory.keep")
    assert problem.severity == "error" and "71" in problem.text


def test_on_a_card_the_plan_is_told_with_its_budget(place: Path, demo_folder: Path, card: dict[str, float]):
    found, _ = taken(place, demo_folder, plan="auto")
    planned = found.planned
    assert found.choice.plan == planned.plan == "plain" and not found.choice.checkpointing
    assert planned.room == pytest.approx((40 + 0.45 - 0.5) * GIB)  # the context is the run's own
    assert 0 < planned.needs < planned.room and planned.step_seconds > 0 and planned.rates == "published"
    assert "share" not in card


def test_a_limit_is_held_to(place: Path, demo_folder: Path, card: dict[str, float]):
    found, _ = taken(place, demo_folder, plan="auto", limit=8.0)
    assert found.planned.room == 8 * GIB and card["share"] == pytest.approx((8 - 0.45) / 48)


def test_a_full_card_is_refused_with_what_each_plan_needs(place: Path, demo_folder: Path, card: dict[str, float]):
    card["free"] = 0.5
    with pytest.raises(RunError, match=r"no plan fits the 0\.\d GiB") as caught:
        taken(place, demo_folder, plan="auto")
    assert caught.value.code == "no-plan-fits" and "stage-major" in caught.value.text
    found, run = taken(place, demo_folder, plan="resident")
    assert found.choice.plan == "resident"
    (warned,) = of_type(run, events.Warned)
    assert warned.code == "tight-memory" and "the run may use" in warned.text


@pytest.mark.parametrize(
    ("group", "staying", "expected"), [(1, 0, 1), (4, 0, 4), (4, 500, 8), (1, 500, 5), (4, 1600, 16), (4, 9999, 16)]
)
def test_what_stays_on_the_card_is_rehearsed(place: Path, demo_folder: Path, group: int, staying: int, expected: int):
    profile = changed(write_profile(place, demo_folder), train={"accumulate": 16})
    assert rehearsed(profile, Choice("stage-major", group=group, staying=staying), waiting=1600) == expected
