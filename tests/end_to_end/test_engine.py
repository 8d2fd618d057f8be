"""The real engine on the demo's checkpoint: a whole run, and every way of not finishing one."""

import json
import os
import shutil
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
    StopAt,
    all_events,
    assert_same_weights,
    exported,
    of_type,
    run_here,
    write_profile,
)


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


def test_the_export_is_the_base_with_only_the_unet_changed(whole: tuple[Path, RunDir], demo_checkpoint: Path):
    _, run = whole
    from safetensors.torch import load_file

    base, out = load_file(demo_checkpoint), exported(run)
    assert base.keys() == out.keys() and {"v_pred", "ztsnr"} <= out.keys()
    for name, tensor in base.items():
        assert tensor.dtype == out[name].dtype and tensor.shape == out[name].shape
        trained = name.startswith("model.diffusion_model.")
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


@pytest.mark.parametrize("stop_at", [1, 9, 24, 32])
def test_stopping_anywhere_and_going_on_gives_bitwise_the_same_weights(
    whole: tuple[Path, RunDir], tmp_path: Path, stop_at: int
):
    profile, uninterrupted = whole
    run = run_here(profile, tmp_path, stop_at=stop_at)
    last = all_events(run)[-1]
    assert isinstance(last, events.Finished) and last.reason == "stopped"
    assert not list(run.exports.iterdir())
    run_here(profile, tmp_path, run=run)
    assert_same_weights(run, uninterrupted)
    started = of_type(run, events.Started)
    assert started[-1].step == last.step and (len(started) == 2 or stop_at < 3)


def test_stopping_at_every_look_always_ends_stopped_or_finished(whole: tuple[Path, RunDir], tmp_path: Path):
    """A run that is stopped again and again, a look later each time, still arrives at the same weights."""
    profile, uninterrupted = whole
    run = rundir.create(tmp_path, "small")
    for stop_at in range(6, 60, 7):
        run_here(profile, tmp_path, run=run, stop_at=stop_at)
        last = all_events(run)[-1]
        assert isinstance(last, events.Finished)
        if last.reason == "finished":
            break
    else:
        run_here(profile, tmp_path, run=run)
    assert_same_weights(run, uninterrupted)


def test_training_leaves_the_global_generators_alone(place: Path, demo_folder: Path):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    run_here(write_profile(place, demo_folder, steps=1), place / "runs")
    assert torch.equal(before, torch.get_rng_state())


def test_bf16_trains_and_resumes_bitwise_too(place: Path, demo_folder: Path):
    profile = write_profile(place, demo_folder, steps=3, precision="bf16")
    straight = run_here(profile, place / "runs")
    broken = run_here(profile, place / "runs", stop_after_step=2)
    assert all_events(broken)[-1].reason == "stopped"
    run_here(profile, place / "runs", run=broken)
    assert_same_weights(straight, broken)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(whole: tuple[Path, RunDir], tmp_path: Path):
    profile, uninterrupted = whole
    run = run_here(profile, tmp_path)
    weights = run.checkpoints / "step-000005" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)
    for path in run.exports.iterdir():
        path.unlink()
    run_here(profile, tmp_path, run=run)
    assert "step-000005 is damaged" in of_type(run, events.Warned)[-1].text
    assert of_type(run, events.Started)[-1].step == 4
    assert_same_weights(run, uninterrupted)


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
    whole: tuple[Path, RunDir], tmp_path: Path, section: str, values: dict[str, object], named: str
):
    profile, _ = whole
    run = run_here(profile, tmp_path)
    with pytest.raises(RunError, match=named) as caught:
        run_here(changed(profile, section, **values), tmp_path, run=run)
    assert caught.value.code == "resume-differs"


def test_a_finished_run_can_be_made_longer(whole: tuple[Path, RunDir], tmp_path: Path):
    profile, _ = whole
    run = run_here(profile, tmp_path)
    run_here(changed(profile, "train", steps=6), tmp_path, run=run)
    assert [event.step for event in of_type(run, events.Step)] == [1, 2, 3, 4, 5, 6]
    said = [event.text for event in of_type(run, events.Warned) if event.code == "resume-changed"]
    assert said == ["the run goes on with other settings: train.steps was 5, is 6"]


def test_a_resume_never_encodes_other_numbers_under_the_old_keys(place: Path, demo_folder: Path):
    """Stopped before its first checkpoint, another background in the profile, the cache deleted: refused, nothing
    written."""
    profile = write_profile(place, demo_folder)
    run = run_here(profile, place / "runs", stop_after_step=1)
    shutil.rmtree(run.checkpoints)
    run.checkpoints.mkdir()
    shutil.rmtree(place / "cache")
    with pytest.raises(RunError, match=r"data\.background was #ffffff, is #000000"):
        run_here(changed(profile, "data", background="#000000"), place / "runs", run=run)
    assert not list((place / "cache").rglob("*.safetensors"))


def damage(checkpoint: Path) -> None:
    weights = checkpoint / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(data)


def test_if_every_checkpoint_is_damaged_nothing_begins_anew(whole: tuple[Path, RunDir], tmp_path: Path):
    profile, _ = whole
    run = run_here(profile, tmp_path)
    for checkpoint in run.checkpoints.iterdir():
        damage(checkpoint)
    with pytest.raises(RunError, match="not one checkpoint") as caught:
        run_here(profile, tmp_path, run=run)
    assert caught.value.code == "checkpoint-damaged" and len(list(run.checkpoints.iterdir())) == 2


def test_pruning_keeps_what_verifies_and_never_loses_what_was_just_written(whole: tuple[Path, RunDir], tmp_path: Path):
    """Step 5 damaged, going on from step 4: the steps that follow must not be pruned for the damaged one's sake."""
    profile, uninterrupted = whole
    run = run_here(changed(profile, "save", every=1, keep=1), tmp_path, stop_after_step=4)
    shutil.copytree(run.checkpoints / "step-000004", run.checkpoints / "step-000009")
    damage(run.checkpoints / "step-000009")
    run_here(changed(profile, "save", every=1, keep=1), tmp_path, run=run)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000005"]
    assert_same_weights(run, uninterrupted)


def test_weights_that_are_not_finite_never_replace_a_checkpoint(
    place: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """A weight becomes NaN after step 3, with keep = 1: what step 2 left must survive whatever follows."""
    profile = write_profile(place, demo_folder, steps=12)
    profile.write_text(profile.read_text().replace("keep = 2", "keep = 1"))
    run = rundir.create(place / "runs", "poisoned")
    plans: list[PlainPlan] = []
    original = PlainPlan.__init__

    def remember(self: PlainPlan, *arguments: object, **options: object) -> None:
        original(self, *arguments, **options)
        plans.append(self)

    def poison(event: events.Event) -> None:
        if isinstance(event, events.Step) and event.step == 3:
            next(iter(plans[0]._parameters.values())).data.fill_(float("nan"))

    monkeypatch.setattr(PlainPlan, "__init__", remember)
    with pytest.raises(RunError, match=r"not finite|no finite") as caught:
        run_here(profile, place / "runs", run=run, watch=poison)
    assert caught.value.code == "not-finite" and "step 2" in caught.value.remedy
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000002"]


def test_a_checkpoint_with_a_damaged_manifest_is_passed_over(whole: tuple[Path, RunDir], tmp_path: Path):
    profile, uninterrupted = whole
    run = run_here(profile, tmp_path)
    (run.checkpoints / "step-000005" / "manifest.json").write_bytes(b'{"weights\xff":{}}')
    for path in run.exports.iterdir():
        path.unlink()
    run_here(profile, tmp_path, run=run)
    assert of_type(run, events.Started)[-1].step == 4
    assert_same_weights(run, uninterrupted)


def test_a_checkpoint_moved_to_another_disk_does_not_end_the_run(whole: tuple[Path, RunDir], tmp_path: Path):
    profile, uninterrupted = whole
    run = run_here(profile, tmp_path, stop_after_step=2)
    elsewhere = shutil.move(run.checkpoints / "step-000002", tmp_path / "moved")
    (run.checkpoints / "step-000002").symlink_to(elsewhere)
    run_here(changed(profile, "save", keep=1), tmp_path, run=run)
    assert_same_weights(run, uninterrupted)
    assert (tmp_path / "moved" / "manifest.json").exists()


def test_a_cache_entry_lost_in_the_middle_costs_no_step(place: Path, demo_folder: Path):
    profile = write_profile(place, demo_folder, steps=40)
    run = rundir.create(place / "runs", "lost")

    def lose_the_cache(event: events.Event) -> None:
        if isinstance(event, events.Step) and event.step == 3:
            for entry in (place / "cache" / "latents").rglob("*.safetensors"):
                entry.unlink()

    with pytest.raises(CacheError, match="disappeared"):
        run_here(profile, place / "runs", run=run, watch=lose_the_cache)
    steps, saved = of_type(run, events.Step), of_type(run, events.Saved)
    assert saved[-1].step == steps[-1].step >= 3


def test_a_preview_that_cannot_be_written_is_a_warning(place: Path, demo_folder: Path):
    run = rundir.create(place / "runs", "unpreviewed")
    run.samples.rmdir()
    run.samples.write_text("in the way")
    run_here(write_profile(place, demo_folder, steps=1), place / "runs", run=run)
    assert "preview-failed" in [event.code for event in of_type(run, events.Warned)]
    assert isinstance(all_events(run)[-1], events.Finished) and list(run.exports.iterdir())


def test_a_preview_that_is_not_finite_is_a_warning_and_costs_no_step(
    place: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """What a diverging network draws; the loop has its own judgement of whether to go on."""

    def broken_decoder(vae: object, latents: torch.Tensor) -> torch.Tensor:
        raise ValueError("the VAE decoded to values that are not finite")

    monkeypatch.setattr("engine.run.preview.latents.decode_latents", broken_decoder)
    run = run_here(write_profile(place, demo_folder, steps=2), place / "runs")
    assert "preview-failed" in [event.code for event in of_type(run, events.Warned)]
    assert all_events(run)[-1].reason == "finished" and list(run.exports.iterdir())


def test_names_in_no_encoding_train_and_resume(place: Path, demo_folder: Path):
    picture = next((place / "pictures").glob("*.png"))
    picture.with_suffix(".txt").unlink()
    os.rename(picture, os.fsencode(picture.parent) + b"/caf\xe9.png")  # noqa: PTH104 - bytes are the point
    profile = write_profile(place, demo_folder, steps=2)
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


def test_save_and_sample_are_obeyed_in_a_pause_and_pointless_ones_refused_aloud(place: Path, demo_folder: Path):
    profile = write_profile(place, demo_folder, steps=4)
    run = rundir.create(place / "runs", "paused")
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

    run_here(profile, place / "runs", run=run, watch=steer, session_of=session_of)
    written = [
        type(event).__name__
        for event in all_events(run)
        if isinstance(event, events.Paused | events.Unpaused | events.Saved | events.Sampled | events.Refused)
    ]
    assert written[:5] == ["Paused", "Saved", "Sampled", "Paused", "Unpaused"]
    assert [event.command for event in of_type(run, events.Refused)] == ["resume"]


def test_an_edited_caption_and_a_replaced_picture_are_encoded_again_and_nothing_else(place: Path, demo_folder: Path):
    profile = write_profile(place, demo_folder, steps=1)
    run_here(profile, place / "runs")
    entries = set((place / "cache").rglob("*.safetensors"))
    run_here(profile, place / "runs")
    assert set((place / "cache").rglob("*.safetensors")) == entries
    pictures = sorted((place / "pictures").glob("*.png"))
    pictures[0].with_suffix(".txt").write_text("something else entirely")
    Image.open(pictures[1]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(pictures[2])
    run_here(profile, place / "runs")
    added = set((place / "cache").rglob("*.safetensors")) - entries
    assert sorted(path.relative_to(place / "cache").parts[0] for path in added) == ["latents", "text"]


def test_a_resumed_run_keeps_to_the_pictures_it_started_with(
    whole: tuple[Path, RunDir], place: Path, demo_folder: Path
):
    profile = write_profile(place, demo_folder)
    _, uninterrupted = whole
    run = run_here(profile, place / "runs", stop_after_step=3)
    for file in (place / "pictures").iterdir():
        file.unlink()
    run_here(profile, place / "runs", run=run)
    assert_same_weights(run, uninterrupted)


def test_damaged_pictures_are_named_and_left_out(place: Path, demo_folder: Path):
    (place / "pictures" / "zero.png").touch()
    (place / "pictures" / "text.jpg").write_text("not a picture")
    whole_picture = next((place / "pictures").glob("0*.png")).read_bytes()
    (place / "pictures" / "half.png").write_bytes(whole_picture[: len(whole_picture) // 2])
    run = run_here(write_profile(place, demo_folder, steps=1), place / "runs")
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
        return WindowGradient(found.losses, float("nan"), finite=False) if bad else found


@pytest.mark.parametrize(("faulty", "ends"), [({3}, True), ({3, 4, 5}, False)])
def test_a_window_that_is_not_finite_is_skipped_and_three_in_a_row_end_the_run(
    place: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch, faulty: set[int], ends: bool
):
    monkeypatch.setattr("engine.run.job.PlainPlan", FaultyPlan)
    monkeypatch.setattr(FaultyPlan, "faulty_windows", frozenset(faulty))  # the first window is the rehearsal
    monkeypatch.setattr(FaultyPlan, "windows", 0)
    run = rundir.create(place / "runs", "faulty")
    profile = write_profile(place, demo_folder, steps=6)
    if ends:
        run_here(profile, place / "runs", run=run)
        assert [event.step for event in of_type(run, events.Step)] == [1, 3, 4, 5, 6]
    else:
        with pytest.raises(RunError, match="3 steps in a row") as caught:
            run_here(profile, place / "runs", run=run)
        assert "learning_rate" in caught.value.remedy and not list(run.checkpoints.iterdir())
        assert [event.step for event in of_type(run, events.Step)] == [1]
    assert [event.step for event in of_type(run, events.Skipped)] == sorted(n - 1 for n in faulty)
