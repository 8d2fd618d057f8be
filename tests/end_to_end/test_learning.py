"""Optimizers, averages, text encoders and commanded rates in whole runs: stopped and resumed, they end bit for bit
where an unbroken run does."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.contract import events, rundir
from engine.contract.problems import ProfileError
from engine.contract.rundir import RunDir
from engine.contract.sections import Profile
from engine.memory.gathering import Gathering
from engine.memory.plain import PlainPlan
from engine.run.errors import RunError
from engine.run.train import Training
from tests.end_to_end.harness import FEW, StopAt, all_events, changed, of_type, run_here, write_profile

ADAMW = {
    "model": {"precision": "bf16"},
    "optimizer": {
        "kind": "adamw",
        "moments": "bf16",
        "weight_decay": 0.1,
        "master": "stochastic",
        "rates": {"attn2": 0.5, "depth:0": 0.0},
    },
    "schedule": {"shape": "wsd", "warmup_steps": 1, "decay": 0.5},
    "ema": {"decay": 0.9, "export": "both"},
}
TEXT = {
    "model": {"precision": "bf16"},
    "optimizer": {"momentum": 0.9},
    "text_encoders": {"train": "both", "token_embedding": "row_wise", "rate": 1.0, "stop_after": 3},
    "objective": {"null_condition": "zeros"},
    "save": {"export_precision": "fp32"},
}
IMPORTED = {
    "optimizer": {"kind": "imported", "import_path": "torch.optim.RAdam", "arguments": {"betas": [0.8, 0.9]}},
    "train": {"damping": 50.0},
}


def profile_of(place: Path, demo: Path, settings: dict[str, dict[str, object]], *, steps: int = 4) -> Profile:
    return changed(write_profile(place, demo, steps=steps, accumulate=1, layers=FEW), **settings)


def tensors(run: RunDir) -> dict[str, dict[str, torch.Tensor]]:
    """Of every export, by what its name ends with."""
    found = {path.stem.rpartition("-")[2]: load_file(path) for path in run.exports.glob("*.safetensors")}
    assert found
    return found


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def command_rate(session_of: list[StopAt], after: int, factor: float) -> Callable[[events.Event], None]:
    def watch(event: events.Event) -> None:
        if isinstance(event, events.Step) and event.step == after:
            session_of[-1].rate_requested = factor

    return watch


@pytest.mark.parametrize("settings", [ADAMW, TEXT, IMPORTED], ids=["adamw", "text", "imported"])
def test_stopped_and_resumed_it_ends_where_the_unbroken_run_does(encoded: Path, demo_folder: Path, settings):
    profile = profile_of(encoded, demo_folder, settings)
    session_of: list[StopAt] = []
    watch = command_rate(session_of, after=1, factor=0.5)
    whole = run_here(profile, encoded / "runs", watch=watch, session_of=session_of)
    broken = run_here(profile, encoded / "runs", watch=watch, session_of=session_of, stop_after_step=2)
    run_here(profile, encoded / "runs", run=broken)
    ours, theirs = tensors(broken), tensors(whole)
    assert ours.keys() == theirs.keys()
    assert all(equal(ours[name], theirs[name]) for name in ours)
    assert [event.loss for event in of_type(broken, events.Step)] == [
        event.loss for event in of_type(whole, events.Step)
    ]
    rates = [event.lr for event in of_type(broken, events.Step)]
    assert rates == [event.lr for event in of_type(whole, events.Step)]
    assert [(event.step, event.factor) for event in of_type(broken, events.Steered)] == [(1, 0.5), (2, 0.5)]


def test_a_commanded_rate_is_the_schedules_times_the_factor(encoded: Path, demo_folder: Path):
    profile = profile_of(encoded, demo_folder, {"schedule": {"shape": "constant", "warmup": 0.0}})
    session_of: list[StopAt] = []
    watch = command_rate(session_of, after=2, factor=0.25)
    run = run_here(profile, encoded / "runs", watch=watch, session_of=session_of)
    assert [event.lr for event in of_type(run, events.Step)] == pytest.approx([1e-3, 1e-3, 2.5e-4, 2.5e-4])


@pytest.mark.parametrize("pausing", [False, True])
def test_a_rate_commanded_before_a_stop_holds_after_the_resume(encoded: Path, demo_folder: Path, pausing: bool):
    profile = profile_of(encoded, demo_folder, {"schedule": {"shape": "constant", "warmup": 0.0}}, steps=2)
    session_of: list[StopAt] = []

    def command(event: events.Event) -> None:
        session = session_of[0]
        if isinstance(event, events.Step) and len(session_of) == 1:
            session.paused, session.rate_requested = pausing, 0.5
        if isinstance(event, events.Step if not pausing else events.Steered) and len(session_of) == 1:
            session.stopping = "command"

    run = run_here(profile, encoded / "runs", watch=command, session_of=session_of)
    run_here(profile, encoded / "runs", run=run, watch=command, session_of=session_of)
    assert [(event.step, event.factor) for event in of_type(run, events.Steered)] == [(1, 0.5), (1, 0.5)]
    assert [event.lr for event in of_type(run, events.Step)] == pytest.approx([1e-3, 5e-4])


def test_when_nobody_is_left_to_learn_what_was_learnt_is_kept(encoded: Path, demo_folder: Path):
    """The check refuses it where it can be foreseen; a resume with other rates can still come to it."""
    run = rundir.create(encoded / "runs", "idle")
    profile = profile_of(encoded, demo_folder, {"text_encoders": {"train": "first", "stop_after": 3}}, steps=3)
    run_here(profile, encoded / "runs", run=run, stop_after_step=2)
    idle = changed(profile, train={"steps": 5}, optimizer={"rates": {"*": 0.0, "text_encoder.*": 1.0}})
    with pytest.raises((RunError, ProfileError)):
        run_here(idle, encoded / "runs", run=run)
    assert list(run.checkpoints.iterdir())


def test_weights_past_saving_are_named_with_the_checkpoint_before_them(encoded: Path, demo_folder: Path):
    """Step 2 ruins a run, is saved, and only then a gradient says so: the older checkpoint must still be there, and a
    resume must not go round in circles."""
    settings = {"layers": {"train": ("*",)}, "optimizer": {"learning_rate": 1e-3}, "save": {"every": 1, "keep": 1}}
    profile = profile_of(encoded, demo_folder, settings, steps=9)
    run, session_of = rundir.create(encoded / "runs", "ruined"), []
    watch = command_rate(session_of, after=1, factor=1000.0)
    huge = changed(profile, optimizer={"learning_rate": 1.0})
    run_here(profile, encoded / "runs", run=run, stop_after_step=1)
    with pytest.raises(RunError, match="steps in a row"):
        run_here(huge, encoded / "runs", run=run, watch=watch, session_of=session_of)
    kept = sorted(path.name for path in run.checkpoints.iterdir())
    assert len(kept) >= 2, "what has not been proven does not replace what has"
    with pytest.raises(RunError, match=f"weights of step {int(kept[-1][5:])}") as caught:
        run_here(profile, encoded / "runs", run=run)
    assert f"Remove checkpoints/{kept[-1]}" in caught.value.remedy


def test_rates_by_layer_rest_and_differ_and_an_average_is_exported_beside_the_latest(
    encoded: Path, demo_folder: Path, demo_checkpoint: Path
):
    settings = ADAMW | {"model": {"precision": "fp32"}}
    run = run_here(profile_of(encoded, demo_folder, settings, steps=3), encoded / "runs")
    base, found = load_file(demo_checkpoint), tensors(run)
    latest, average = found["step000003"], found["average"]
    resting, learning = "model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.middle_block.0."
    assert torch.equal(latest[resting], base[resting])
    moved = [name for name in base if name.startswith(learning) and not torch.equal(latest[name], base[name])]
    assert moved
    for name in moved:
        assert (average[name] - base[name]).norm() < (latest[name] - base[name]).norm()
    assert {event.path for event in of_type(run, events.Saved) if event.kind == "export"} == {
        f"exports/{path.name}" for path in run.exports.iterdir()
    }


def test_text_encoders_learn_live_and_rest_after_their_last_step(
    encoded: Path, demo_folder: Path, demo_checkpoint: Path
):
    settings = TEXT | {"model": {"precision": "fp32"}, "optimizer": {}, "objective": {"conditional_dropout": 0.0}}
    run = run_here(profile_of(encoded, demo_folder, settings, steps=4), encoded / "runs")
    base, learnt = load_file(demo_checkpoint), tensors(run)["step000004"]
    for part in ("conditioner.embedders.0.", "conditioner.embedders.1."):
        assert any(not torch.equal(learnt[name], base[name]) for name in base if name.startswith(part))
    steps = of_type(run, events.Step)
    groups = {"unet", "text_encoder", "text_encoder_2", "token_embedding"}
    assert [set(step.updates) for step in steps] == [groups] * 3 + [{"unet"}]
    assert all(0 < ratio < 1 for step in steps for ratio in step.updates.values())
    assert len(of_type(run, events.Sampled)) > 0


FAULTS = {1: ("gradient", math.nan), 2: ("loss", math.inf), 3: ("latent", math.nan), 4: ("gradient", math.inf)}


def test_a_fault_in_micro_batch_11_of_16_changes_no_bit_and_names_the_pictures(
    encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """One element in one micro-batch of each step but the first. The state before and after each step is compared."""
    settings = {"train": {"batch_size": 1, "max_skipped": 9}, "layers": {"train": ("conv_out",)}}
    settings |= {"preview": {"prompts": ()}, "save": {"export": False}, "ema": {"decay": 0.9}}
    profile = changed(write_profile(encoded, demo_folder, steps=5, accumulate=16), **settings)
    inject(monkeypatch, micro=11, of=16)
    states: list[dict[str, torch.Tensor]] = []
    take_step = Training._take_step

    def compared(self: Training, windows: object) -> None:
        states.append(state_of(self.plan))
        take_step(self, windows)
        states.append(state_of(self.plan))

    monkeypatch.setattr(Training, "_take_step", compared)
    run = run_here(profile, encoded / "runs")
    assert not equal(states[0], states[1])
    assert all(equal(states[1], state) for state in states[2:])
    skipped = {event.step: event.names for event in of_type(run, events.Skipped)}
    assert list(skipped) == [2, 3, 4, 5]
    assert {Path(name).name for names in skipped.values() for name in names} <= {
        path.name for path in (encoded / "pictures").glob("*.png")
    }
    # A loss tells its own picture; a gradient that is not finite could be any one's of the window.
    assert [len(names) for names in skipped.values()] == [16, 1, 1, 16]


def state_of(plan: PlainPlan) -> dict[str, torch.Tensor]:
    parts = {"weights": plan.weights(), "moments": plan.optimizer_state(), "average": plan.averages()}
    return {f"{part} {name}": tensor.clone() for part, held in parts.items() for name, tensor in held.items()}


def inject(monkeypatch: pytest.MonkeyPatch, *, micro: int, of: int) -> None:
    """Makes one element not finite in micro-batch `micro`, from 1, of the `of` of each window in FAULTS."""
    from engine.run import windows
    from engine.run.windows import Judged, judge

    seen = 0
    fault, value = "", 0.0

    def judged_with_fault(objective, batch, device):
        nonlocal seen, fault, value
        seen += 1
        step, at = divmod(seen - 1, of)
        fault, value = FAULTS.get(step, ("", 0.0)) if at == micro - 1 else ("", 0.0)
        if fault == "latent":
            batch.latents[0, 0, 0, 0] = value
        question, judged = judge(objective, batch, device)
        if fault != "loss":
            return question, judged
        return question, Judged(judged.micro, lambda prediction: judged.losses(prediction) * value)

    monkeypatch.setattr(windows, "judge", judged_with_fault)
    collect = Gathering._collect

    def collect_with_fault(self: Gathering, name: str, parameter: torch.Tensor) -> None:
        if fault == "gradient" and name == "conv_out.weight":
            parameter.grad.view(-1)[3] = value
        collect(self, name, parameter)

    monkeypatch.setattr(Gathering, "_collect", collect_with_fault)


def test_so_many_skipped_steps_in_a_row_as_the_profile_says_end_the_run(
    encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    profile = profile_of(encoded, demo_folder, {"train": {"max_skipped": 2}, "save": {"every": 1}}, steps=9)
    run = rundir.create(encoded / "runs", "skipped")
    gradient = PlainPlan.gradient

    def broken_from_the_third(self: PlainPlan, window, computed):
        found = gradient(self, window, computed)
        bad = int(self.optimizer_state()["taken"]) >= 2
        return type(found)(found.losses, math.nan, False) if bad else found

    monkeypatch.setattr(PlainPlan, "gradient", broken_from_the_third)
    with pytest.raises(RunError, match="2 steps in a row") as caught:
        run_here(profile, encoded / "runs", run=run)
    assert "step 2" in caught.value.remedy, "the last good checkpoint is named"
    assert [event.step for event in of_type(run, events.Skipped)] == [3, 4]
    assert [path.name for path in sorted(run.checkpoints.iterdir())][-1] == "step-000002"


def test_a_spike_is_damped_and_said(encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.run.pace.ENOUGH", 3)
    profile = profile_of(encoded, demo_folder, {"train": {"damping": 1.0}, "preview": {"prompts": ()}}, steps=8)
    run = run_here(profile, encoded / "runs")
    damped = of_type(run, events.Damped)
    losses = {event.step: event.loss for event in of_type(run, events.Step)}
    assert damped, "every loss but the least is above the first percentile"
    for event in damped:
        earlier = [loss for step, loss in losses.items() if step < event.step]
        assert min(earlier) <= event.limit < event.loss == losses[event.step]
        assert event.factor == pytest.approx(event.limit / event.loss)


def test_an_optimizer_that_cannot_be_had_is_refused_before_anything_is_cached(place: Path, demo_folder: Path):
    for path, arguments, field in (
        ("nowhere.Optimizer", {}, "import_path"),
        ("torch.optim.SGD", {"momentumm": 0.9}, "arguments.momentumm"),
    ):
        optimizer = {"kind": "imported", "import_path": path, "arguments": arguments}
        with pytest.raises(ProfileError) as caught:
            run_here(profile_of(place, demo_folder, {"optimizer": optimizer}), place / "runs")
        assert [problem.path for problem in caught.value.problems] == [f"optimizer.{field}"]
    assert not (place / "cache").exists()


def test_nearest_says_how_much_it_loses(encoded: Path, demo_folder: Path):
    settings = {"model": {"precision": "bf16"}, "optimizer": {"master": "nearest", "learning_rate": 8e-7}}
    run = run_here(profile_of(encoded, demo_folder, settings, steps=1), encoded / "runs")
    (warned,) = (event for event in all_events(run) if getattr(event, "code", "") == "nearest-master")
    share = float(warned.text.partition("%")[0])
    assert share > 90 and "8e-07" in warned.text
