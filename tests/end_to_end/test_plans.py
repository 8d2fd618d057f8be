"""One run under each memory plan: the same losses, the same pictures, and a resume that moves from one to another."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from engine.contract import events
from engine.contract.rundir import RunDir
from tests.end_to_end.harness import changed, of_type, run_here, write_profile

STAGES = {"plan": "stage-major", "group": 2}


def losses(run: RunDir) -> list[float]:
    return [event.loss for event in of_type(run, events.Step)]


@pytest.mark.parametrize("text", ["none", "both"])
def test_a_run_under_each_plan_has_the_same_losses_and_pictures(encoded: Path, demo_folder: Path, text: str):
    profile = changed(write_profile(encoded, demo_folder, steps=2), text_encoders={"train": text})
    plain = run_here(changed(profile, memory={"plan": "plain"}), encoded / "runs")
    staged = run_here(changed(profile, memory=STAGES), encoded / "runs")
    assert [event.plan for run in (plain, staged) for event in of_type(run, events.Started)] == ["plain", "stage-major"]
    assert losses(staged) == pytest.approx(losses(plain), rel=2e-4)
    norms = [[event.grad_norm for event in of_type(run, events.Step)] for run in (plain, staged)]
    assert norms[0] == pytest.approx(norms[1], rel=2e-3)
    assert len(list(staged.samples.glob("*.png"))) == len(list(plain.samples.glob("*.png"))) > 0


def test_a_resume_moves_from_one_plan_to_another(encoded: Path, demo_folder: Path):
    profile = changed(write_profile(encoded, demo_folder, steps=2), preview={"prompts": ()})
    whole = run_here(profile, encoded / "runs")
    moved = run_here(changed(profile, memory=STAGES), encoded / "runs", stop_after_step=1)
    run_here(profile, encoded / "runs", run=moved)
    assert losses(moved) == pytest.approx(losses(whole), rel=2e-4)
    ours, theirs = (load_file(next(run.exports.glob("*.safetensors"))) for run in (moved, whole))
    far = sum(float((ours[name] - theirs[name]).square().sum()) for name in ours)
    size = sum(float(theirs[name].square().sum()) for name in theirs)
    assert far < 1e-5 * size


def test_a_stop_inside_a_window_is_obeyed_between_two_parts(encoded: Path, demo_folder: Path):
    """A window of many micro-batches lasts minutes: its first half has no loss to report."""
    profile = changed(write_profile(encoded, demo_folder, steps=4, accumulate=64), memory=STAGES)
    run = run_here(profile, encoded / "runs", stop_in="train", stop_at=80)
    assert losses(run) == [] and of_type(run, events.Finished)[-1].reason == "stopped"
