"""A card that is full in the middle of a run: it goes on with less, or ends with what it has learnt."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.contract import events, rundir
from engine.contract.rundir import RunDir
from engine.memory.plain import PlainPlan
from engine.memory.plan import Judged, WindowGradient
from engine.memory.ring_plan import RingPlan
from engine.memory.stage_major import StageMajorPlan
from engine.run.errors import RunError
from tests.end_to_end.harness import FEW, changed, of_type, run_here, write_profile


class Full:
    """In some windows, counted from 1, the first of which is the rehearsal, memory is full at a micro-batch."""

    full: frozenset[int] = frozenset()
    at = 1
    windows = 0

    def gradient(self, window, computed) -> WindowGradient:
        type(self).windows += 1
        if type(self).windows in type(self).full:
            window = self._breaking(window)
        return super().gradient(window, computed)

    def _breaking(self, window) -> Iterator[Judged]:
        for number, asked in enumerate(window):
            if number == self.at:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            yield asked


class FullPlain(Full, PlainPlan):
    pass


class FullRing(Full, RingPlan):
    pass


class FullStages(Full, StageMajorPlan):
    pass


def fill(monkeypatch: pytest.MonkeyPatch, kind: type[Full], windows: set[int], at: int = 1) -> None:
    name = next(base.__name__ for base in kind.__mro__ if base in (PlainPlan, RingPlan, StageMajorPlan))
    monkeypatch.setattr(f"engine.run.assemble.{name}", kind)
    for attribute, value in (("full", frozenset(windows)), ("at", at), ("windows", 0)):
        monkeypatch.setattr(kind, attribute, value)


def losses(run: RunDir) -> list[tuple[int, float, tuple[float, ...]]]:
    return [(event.step, event.loss, event.losses) for event in of_type(run, events.Step)]


def exported(run: RunDir) -> dict[str, torch.Tensor]:
    return load_file(next(run.exports.glob("*.safetensors")))


@pytest.mark.parametrize("windows", [{3}, {1, 3}])
def test_the_window_is_drawn_again_and_the_run_ends_in_the_same_weights(
    encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch, windows: set[int]
):
    profile = changed(write_profile(encoded, demo_folder, steps=3, layers=FEW), memory={"plan": "fast"})
    profile = changed(profile, preview={"prompts": ()})
    undisturbed = run_here(profile, encoded / "runs")
    fill(monkeypatch, FullRing, windows, at=0 if 1 in windows else 1)
    run = run_here(profile, encoded / "runs")
    assert losses(run) == losses(undisturbed)
    ours, theirs = exported(run), exported(undisturbed)
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    warned = [event for event in of_type(run, events.Warned) if event.code == "out-of-memory"]
    assert len(warned) == len(windows) and all('plan = "' in event.text and event.remedy for event in warned)
    assert FullRing.windows == 4 + len(windows)


def test_stage_major_goes_on_in_smaller_groups(encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch):
    profile = changed(write_profile(encoded, demo_folder, steps=3, layers=FEW), preview={"prompts": ()})
    profile = changed(profile, memory={"plan": "stage-major", "group": 2})
    undisturbed = run_here(profile, encoded / "runs")
    fill(monkeypatch, FullStages, {3})
    run = run_here(profile, encoded / "runs")
    for ours, theirs in zip(losses(run), losses(undisturbed), strict=True):
        assert ours[0] == theirs[0] and ours[1] == pytest.approx(theirs[1], rel=2e-4)
    (warned,) = (event for event in of_type(run, events.Warned) if event.code == "out-of-memory")
    assert 'plan = "stage-major", group = 1' in warned.text
    assert "write" not in warned.remedy  # from the start it would have larger units


def test_a_reservation_that_finds_too_little_memory_is_made_again_with_less(
    encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    profile = changed(write_profile(encoded, demo_folder, steps=1, layers=FEW), preview={"prompts": ()})
    for plan, kind, times in (("stage-major", StageMajorPlan, 1), ("plain", PlainPlan, 1)):
        left = [times]

        def full(self, left=left, reserve=kind.reserve) -> None:
            if left[0]:
                left[0] -= 1
                raise torch.OutOfMemoryError("CUDA out of memory")
            reserve(self)

        monkeypatch.setattr(kind, "reserve", full)
        asked = changed(profile, memory={"plan": plan, "group": 4 if plan == "stage-major" else 0})
        asked = changed(asked, train={"accumulate": 4})
        if plan == "plain":
            with pytest.raises(RunError, match="too little memory") as caught:
                run_here(asked, encoded / "runs")
            assert caught.value.code == "out-of-memory"
            continue
        (warned,) = (
            event
            for event in of_type(run_here(asked, encoded / "runs"), events.Warned)
            if event.code == "out-of-memory"
        )
        assert 'plan = "stage-major", group = 2' in warned.text and "write that" in warned.remedy


def test_where_nothing_is_left_the_run_ends_and_keeps_what_it_has_learnt(
    encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    profile = write_profile(encoded, demo_folder, steps=3, layers=FEW)
    fill(monkeypatch, FullPlain, {3})
    run = rundir.create(encoded / "runs", "full")
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        run_here(profile, encoded / "runs", run=run)
    assert [step for step, *_ in losses(run)] == [1]
    assert [folder.name for folder in run.checkpoints.iterdir()] == ["step-000001"]


def test_a_rehearsal_that_finds_too_little_memory_says_what_to_do(
    encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    profile = write_profile(encoded, demo_folder, steps=3, layers=FEW)
    fill(monkeypatch, FullPlain, {1}, at=0)
    with pytest.raises(RunError, match="too little memory for 2 picture") as caught:
        run_here(profile, encoded / "runs")
    assert caught.value.code == "out-of-memory" and "memory.plan" in caught.value.remedy
