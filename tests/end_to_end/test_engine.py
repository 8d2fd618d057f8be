"""The real engine on the demo's checkpoint: a whole run, and every way of not finishing one."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from engine.contract import events, rundir
from engine.contract.problems import ProfileError
from engine.contract.profile import load, resolved
from engine.contract.rundir import RunDir
from engine.contract.sections import Profile
from engine.data.cache import CacheError
from engine.memory.plain import PlainPlan
from engine.memory.plan import WindowGradient
from engine.run.errors import RunError
from tests.end_to_end.harness import (
    FEW,
    StopAt,
    all_events,
    assert_same_weights,
    exported,
    of_type,
    run_here,
    write_profile,
)


@pytest.fixture(autouse=True)
def generator_left_alone() -> Iterator[None]:
    """No run, however it ends, moves torch's global generator."""
    torch.manual_seed(123)
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state())


def test_a_run_goes_through_its_phases_and_leaves_what_it_promised(whole: tuple[Path, RunDir]):
    _, run = whole
    phases = [event.name for event in of_type(run, events.Phase)]
    assert phases[:5] == ["scan", "cache", "load", "preflight", "train"] and phases[-2:] == ["preview", "export"]
    steps = of_type(run, events.Step)
    assert [event.step for event in steps] == [1, 2, 3, 4, 5]
    assert all(len(event.losses) == len(event.timesteps) <= 6 for event in steps)
    assert all(500 <= t <= 999 for event in steps for t in event.timesteps)
    finished = all_events(run)[-1]
    assert isinstance(finished, events.Finished) and finished.reason == "finished" and finished.step == 5
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-000004", "step-000005"]
    assert not list(run.path.rglob("*.tmp"))


# FEW, as published files call them.
PUBLISHED = ("input_blocks.0", "middle_block", "out.2")


def test_the_export_is_the_base_with_only_the_trained_layers_changed(whole: tuple[Path, RunDir], demo_checkpoint: Path):
    _, run = whole
    from safetensors.torch import load_file

    base, out = load_file(demo_checkpoint), exported(run)
    assert base.keys() == out.keys() and {"v_pred", "ztsnr"} <= out.keys()
    for name, tensor in base.items():
        assert tensor.dtype == out[name].dtype and tensor.shape == out[name].shape
        trained = name.startswith(tuple(f"model.diffusion_model.{part}." for part in PUBLISHED))
        assert torch.equal(tensor, out[name]) is not trained or tensor.numel() == 0, name
    (path,) = run.exports.glob("*.safetensors")
    with safe_open(path, "pt") as file:
        assert file.metadata()["aozora.steps"] == "5" and file.metadata()["modelspec.prediction_type"] == "v"


def test_previews_carry_their_settings(whole: tuple[Path, RunDir]):
    _, run = whole
    (sampled,) = of_type(run, events.Sampled)
    with Image.open(run.path / sampled.path) as picture:
        facts = json.loads(picture.text["aozora"])
        assert picture.size == (64, 64)
    assert facts["prompt"] == sampled.prompt == "a red circle" and facts["step"] == 5


# Where a run is stopped: at which look in which phase; the first is before any. Training looks between the steps and
# after each micro-batch: two of its stops discard half a window.
STOPS = (
    ("", 1),
    ("scan", 3),
    ("cache", 9),
    ("load", 2),
    ("preflight", 1),
    ("train", 3),
    ("train", 8),
    ("save", 1),
    ("train", 2),
    ("preview", 2),
    ("export", 400),
)


def test_stopping_in_every_phase_and_going_on_gives_bitwise_the_same_weights(
    whole: tuple[Path, RunDir], place: Path, demo_folder: Path
):
    """One run, stopped again and again, arrives at the weights of the one that was left alone. It keeps to the pictures
    it started with: once they are encoded they are taken away."""
    _, uninterrupted = whole
    profile, run = write_profile(place, demo_folder, layers=FEW), rundir.create(place / "runs", "stopped")
    step = 0
    for phase, look in STOPS:
        before = len(all_events(run))
        run_here(profile, place / "runs", run=run, stop_in=phase, stop_at=look)
        said = all_events(run)[before:]
        assert all(event.step == step for event in said if isinstance(event, events.Started)), phase
        assert not phase or phase in [event.name for event in said if isinstance(event, events.Phase)]
        assert isinstance(said[-1], events.Finished) and said[-1].reason == "stopped" and said[-1].step >= step, phase
        assert not list(run.exports.iterdir())
        step = said[-1].step
        if phase == "load":
            shutil.rmtree(place / "pictures")
    run_here(profile, place / "runs", run=run)
    assert all_events(run)[-1].reason == "finished"
    assert_same_weights(run, uninterrupted)


def test_bf16_trains_and_resumes_bitwise_too(place: Path, demo_folder: Path):
    path = write_profile(place, demo_folder, steps=2, accumulate=2, precision="bf16", layers=FEW)
    profile = changed(path, "data", resolution=64)
    straight = run_here(profile, place / "runs")
    broken = run_here(profile, place / "runs", stop_after_step=1)
    assert all_events(broken)[-1].reason == "stopped"
    run_here(profile, place / "runs", run=broken)
    assert_same_weights(straight, broken)


def damage(checkpoint: Path) -> None:
    weights = checkpoint / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)


def damage_manifest(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").write_bytes(b'{"weights\xff":{}}')


@pytest.mark.parametrize("damaged_by", [damage, damage_manifest])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    whole: tuple[Path, RunDir], finished: tuple[Path, RunDir], damaged_by: Callable[[Path], None]
):
    profile, run = finished
    damaged_by(run.checkpoints / "step-000005")
    for path in run.exports.iterdir():
        path.unlink()
    run_here(profile, run.path.parent, run=run)
    assert "step-000005 is damaged" in of_type(run, events.Warned)[-1].text
    assert of_type(run, events.Started)[-1].step == 4
    assert_same_weights(run, whole[1])


def changed(profile: Path, section: str, **values: object) -> Profile:
    """The profile of a run with some settings of one section changed."""
    settings = resolved(load(profile), profile.parent)
    return msgspec.structs.replace(settings, **{section: msgspec.structs.replace(getattr(settings, section), **values)})


@pytest.mark.parametrize(
    ("section", "values", "named"),
    [
        ("train", {"seed": 1}, "train.seed was 42, is 1"),
        ("optimizer", {"weight_decay": 0.5}, "optimizer.weight_decay was 0.0, is 0.5"),
        ("objective", {"prediction_type": "flow", "zero_terminal_snr": False}, "objective.prediction_type was v_pred"),
        ("data", {"background": "#000000"}, "data.background was #ffffff, is #000000"),
    ],
)
def test_settings_that_matter_cannot_change_on_resume(
    finished: tuple[Path, RunDir], section: str, values: dict[str, object], named: str
):
    profile, run = finished
    with pytest.raises(RunError, match=named) as caught:
        run_here(changed(profile, section, **values), run.path.parent, run=run)
    assert caught.value.code == "resume-differs"


def test_a_finished_run_can_be_made_longer(finished: tuple[Path, RunDir]):
    profile, run = finished
    run_here(changed(profile, "train", steps=6), run.path.parent, run=run)
    assert [event.step for event in of_type(run, events.Step)] == [1, 2, 3, 4, 5, 6]
    said = [event.text for event in of_type(run, events.Warned) if event.code == "resume-changed"]
    assert said == ["the run goes on with other settings: train.steps was 5, is 6"]


def test_a_resume_never_encodes_other_numbers_under_the_old_keys(finished: tuple[Path, RunDir], tmp_path: Path):
    """Without a checkpoint, as if stopped before the first, another background in the profile, the cache gone: refused,
    nothing written."""
    profile, run = finished
    shutil.rmtree(run.checkpoints)
    run.checkpoints.mkdir()
    profile = changed(profile, "data", background="#000000", cache=str(tmp_path / "cache"))
    with pytest.raises(RunError, match=r"data\.background was #ffffff, is #000000"):
        run_here(profile, tmp_path, run=run)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.fixture
def at_step_4(finished: tuple[Path, RunDir]) -> tuple[Path, RunDir]:
    """The run as it was before its last step."""
    profile, run = finished
    shutil.rmtree(run.checkpoints / "step-000005")
    for path in run.exports.iterdir():
        path.unlink()
    return profile, run


def test_if_every_checkpoint_is_damaged_nothing_begins_anew(finished: tuple[Path, RunDir]):
    profile, run = finished
    for checkpoint in run.checkpoints.iterdir():
        damage(checkpoint)
    with pytest.raises(RunError, match="not one checkpoint") as caught:
        run_here(profile, run.path.parent, run=run)
    assert caught.value.code == "checkpoint-damaged" and len(list(run.checkpoints.iterdir())) == 2


def test_pruning_keeps_what_verifies_and_never_loses_what_was_just_written(
    whole: tuple[Path, RunDir], at_step_4: tuple[Path, RunDir]
):
    """Step 9 damaged, going on from step 4: the steps that follow must not be pruned for the damaged one's sake."""
    profile, run = at_step_4
    shutil.copytree(run.checkpoints / "step-000004", run.checkpoints / "step-000009")
    damage(run.checkpoints / "step-000009")
    run_here(changed(profile, "save", every=1, keep=1), run.path.parent, run=run)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000005"]
    assert_same_weights(run, whole[1])


def test_weights_that_are_not_finite_never_replace_a_checkpoint(
    encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """A weight becomes NaN after step 3, with keep = 1: what step 2 left must survive whatever follows."""
    profile = changed(write_profile(encoded, demo_folder, steps=12, accumulate=1, layers=FEW), "save", keep=1)
    run = rundir.create(encoded / "runs", "poisoned")
    plans: list[PlainPlan] = []
    original = PlainPlan.__init__

    def remember(self: PlainPlan, *arguments: object, **options: object) -> None:
        original(self, *arguments, **options)
        plans.append(self)

    def poison(event: events.Event) -> None:
        if isinstance(event, events.Step) and event.step == 3:
            next(iter(plans[0]._learner.parameters.values())).data.fill_(float("nan"))

    monkeypatch.setattr(PlainPlan, "__init__", remember)
    with pytest.raises(RunError, match=r"not finite|no finite") as caught:
        run_here(profile, encoded / "runs", run=run, watch=poison)
    assert caught.value.code == "not-finite" and "step 2" in caught.value.remedy
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000002"]


def test_a_checkpoint_moved_to_another_disk_does_not_end_the_run(
    whole: tuple[Path, RunDir], at_step_4: tuple[Path, RunDir], tmp_path: Path
):
    profile, run = at_step_4
    elsewhere = shutil.move(run.checkpoints / "step-000004", tmp_path / "moved")
    (run.checkpoints / "step-000004").symlink_to(elsewhere)
    run_here(changed(profile, "save", keep=1), tmp_path, run=run)
    assert_same_weights(run, whole[1])
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000005"]
    assert (tmp_path / "moved" / "manifest.json").exists()


def test_a_cache_entry_lost_in_the_middle_costs_no_step(encoded: Path, demo_folder: Path):
    profile = write_profile(encoded, demo_folder, steps=40, accumulate=1, layers=FEW)
    run = rundir.create(encoded / "runs", "lost")

    def lose_the_cache(event: events.Event) -> None:
        if isinstance(event, events.Step) and event.step == 3:
            for entry in (encoded / "cache" / "latents").rglob("*.safetensors"):
                entry.unlink()

    with pytest.raises(CacheError, match="disappeared"):
        run_here(profile, encoded / "runs", run=run, watch=lose_the_cache)
    steps, saved = of_type(run, events.Step), of_type(run, events.Saved)
    assert saved[-1].step == steps[-1].step >= 3


def test_a_preview_that_cannot_be_written_is_a_warning(encoded: Path, demo_folder: Path):
    run = rundir.create(encoded / "runs", "unpreviewed")
    run.samples.rmdir()
    run.samples.write_text("in the way")
    run_here(write_profile(encoded, demo_folder, steps=1, accumulate=1, layers=FEW), encoded / "runs", run=run)
    assert "preview-failed" in [event.code for event in of_type(run, events.Warned)]
    assert isinstance(all_events(run)[-1], events.Finished) and list(run.exports.iterdir())


def test_a_preview_that_is_not_finite_is_a_warning_and_costs_no_step(
    encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """What a diverging network draws; the loop has its own judgement of whether to go on."""

    def broken_decoder(vae: object, latents: torch.Tensor) -> torch.Tensor:
        raise ValueError("the VAE decoded to values that are not finite")

    monkeypatch.setattr("engine.run.preview.latents.decode_latents", broken_decoder)
    run = run_here(write_profile(encoded, demo_folder, steps=2, accumulate=1, layers=FEW), encoded / "runs")
    assert "preview-failed" in [event.code for event in of_type(run, events.Warned)]
    assert all_events(run)[-1].reason == "finished" and list(run.exports.iterdir())


def test_names_in_no_encoding_train_and_resume(place: Path, demo_folder: Path):
    picture = next((place / "pictures").glob("*.png"))
    picture.with_suffix(".txt").unlink()
    os.rename(picture, os.fsencode(picture.parent) + b"/caf\xe9.png")  # noqa: PTH104 - bytes are the point
    profile = write_profile(place, demo_folder, steps=2, accumulate=1, layers=FEW)
    run = run_here(profile, place / "runs", stop_after_step=1)
    run_here(profile, place / "runs", run=run)
    assert all_events(run)[-1].reason == "finished"


def test_micro_batches_are_counted_within_the_coming_step(whole: tuple[Path, RunDir]):
    _, run = whole
    done = 0
    for event in all_events(run):
        if isinstance(event, events.Step):
            done = event.step
        if isinstance(event, events.Micro):
            assert event.step == done + 1 and 1 <= event.micro <= 3


def test_save_and_sample_are_obeyed_in_a_pause_and_pointless_ones_refused_aloud(encoded: Path, demo_folder: Path):
    profile = write_profile(encoded, demo_folder, steps=4, accumulate=1, layers=FEW)
    run = rundir.create(encoded / "runs", "paused")
    session_of: list[StopAt] = []

    def steer(event: events.Event) -> None:
        session = session_of[0]
        if isinstance(event, events.Step) and event.step == 1:
            session.paused = session.save_requested = session.sample_requested = True
        if isinstance(event, events.Paused) and of_type(run, events.Sampled):
            session.paused = False
        if isinstance(event, events.Step) and event.step == 2:
            session.save_requested = True  # obeyed at this boundary; every second step saves anyway
        if isinstance(event, events.Step) and event.step == 3:
            session._obey("resume")

    run_here(profile, encoded / "runs", run=run, watch=steer, session_of=session_of)
    written = [
        type(event).__name__
        for event in all_events(run)
        if isinstance(event, events.Paused | events.Unpaused | events.Saved | events.Sampled | events.Refused)
    ]
    assert written[:5] == ["Paused", "Saved", "Sampled", "Paused", "Unpaused"]
    assert [event.command for event in of_type(run, events.Refused)] == ["resume"]


def test_damaged_pictures_are_named_and_left_out(encoded: Path, demo_folder: Path):
    (encoded / "pictures" / "zero.png").touch()
    (encoded / "pictures" / "text.jpg").write_text("not a picture")
    whole_picture = next((encoded / "pictures").glob("0*.png")).read_bytes()
    (encoded / "pictures" / "half.png").write_bytes(whole_picture[: len(whole_picture) // 2])
    run = run_here(write_profile(encoded, demo_folder, steps=1, accumulate=1, layers=FEW), encoded / "runs")
    named = " ".join(event.text for event in of_type(run, events.Warned))
    assert all(name in named for name in ("zero.png", "text.jpg", "half.png"))
    assert isinstance(all_events(run)[-1], events.Finished)


def test_a_profile_wrong_for_this_machine_is_refused_with_every_reason(place: Path, demo_folder: Path):
    settings = resolved(load(write_profile(place, demo_folder)), place)
    layers = msgspec.structs.replace(settings.layers, train=("atn1",))
    model = msgspec.structs.replace(settings.model, base=str(place / "none.safetensors"))
    with pytest.raises(ProfileError) as caught:
        run_here(msgspec.structs.replace(settings, layers=layers), place / "runs")
    assert [(p.path, p.remedy) for p in caught.value.problems] == [
        ("layers.train", "Did you mean `attn1`?"),
        ("layers.train", "Select at least one layer."),
    ]
    with pytest.raises(ProfileError, match="does not exist"):
        run_here(msgspec.structs.replace(settings, model=model), place / "runs")


class FaultyPlan(PlainPlan):
    """Reports windows that are not finite, as a broken card or a broken picture would make them."""

    faulty_windows: frozenset[int] = frozenset()
    windows = 0

    def gradient(self, window, computed) -> WindowGradient:
        found = super().gradient(window, computed)
        type(self).windows += 1
        bad = type(self).windows in self.faulty_windows
        return WindowGradient(found.losses, float("nan"), sound=False) if bad else found


@pytest.mark.parametrize(("faulty", "ends"), [({3}, True), ({3, 4, 5}, False)])
def test_a_window_that_is_not_finite_is_skipped_and_three_in_a_row_end_the_run(
    encoded: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch, faulty: set[int], ends: bool
):
    monkeypatch.setattr("engine.run.assemble.PlainPlan", FaultyPlan)
    monkeypatch.setattr(FaultyPlan, "faulty_windows", frozenset(faulty))  # the first window is the rehearsal
    monkeypatch.setattr(FaultyPlan, "windows", 0)
    run = rundir.create(encoded / "runs", "faulty")
    profile = write_profile(encoded, demo_folder, steps=6, accumulate=1, layers=FEW)
    if ends:
        run_here(profile, encoded / "runs", run=run)
        assert [event.step for event in of_type(run, events.Step)] == [1, 3, 4, 5, 6]
    else:
        with pytest.raises(RunError, match="3 steps in a row") as caught:
            run_here(profile, encoded / "runs", run=run)
        assert "learning_rate" in caught.value.remedy and not list(run.checkpoints.iterdir())
        assert [event.step for event in of_type(run, events.Step)] == [1]
    assert [event.step for event in of_type(run, events.Skipped)] == sorted(n - 1 for n in faulty)
